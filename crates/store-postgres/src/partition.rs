//! Tables in partitions by number: partitions are made before they are needed, and dropped once all their rows are too
//! old. No row is deleted individually.

use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_postgres::ClientWrapper;

use crate::{
    error::Failure,
    state::{State, number},
};

/// A table in partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    name: &'static str,
    /// How many numbers one partition has.
    size: u64,
    /// How many partitions there are beyond the one that is written to, after each check.
    ahead: u64,
}

impl Table {
    /// The begin of the partition that contains a number.
    pub(crate) fn begin_of(self, number: u64) -> u64 {
        number - number % self.size
    }

    /// Up to which number there are to be partitions.
    fn wanted(self, last: u64) -> u64 {
        self.begin_of(last)
            .saturating_add(self.size.saturating_mul(self.ahead.saturating_add(1)))
    }
}

/// The audit trail.
pub(crate) const AUDIT: Table = Table {
    name: "audit",
    size: 100_000,
    ahead: 3,
};

/// The groups.
pub(crate) const COMMIT_GROUP: Table = Table {
    name: "commit_group",
    size: 1_000_000,
    ahead: 1,
};

pub(crate) const TABLES: [Table; 2] = [AUDIT, COMMIT_GROUP];

/// Up to which number a node knows that there are partitions, for each of [`TABLES`]. Other nodes may have made more.
#[derive(Debug, Default)]
pub(crate) struct Room([AtomicU64; TABLES.len()]);

impl Room {
    /// The tables whose partitions may not have the last numbers of `state`, with these numbers.
    pub(crate) fn missing(&self, state: &State) -> Vec<(Table, u64)> {
        let last = [state.audit.position, state.number];
        let tables = TABLES.into_iter().zip(last).zip(&self.0);
        tables
            .filter(|((_, last), through)| *last >= through.load(Ordering::SeqCst))
            .map(|(missing, _)| missing)
            .collect()
    }

    /// Notes that the partitions of a table go up to `through`, which is committed.
    pub(crate) fn note(&self, table: Table, through: u64) {
        for (other, known) in TABLES.into_iter().zip(&self.0) {
            if other == table {
                known.fetch_max(through, Ordering::SeqCst);
            }
        }
    }
}

/// The lock that orders the work on partitions, of all schemas of a database.
const LOCK: i64 = 0x7465_7373_6572_6101;

/// Makes the partition that begins with `from`. Attaching a table waits for no reader, unlike creating it as a
/// partition.
pub(crate) async fn create(client: &ClientWrapper, table: Table, from: u64) -> Result<(), Failure> {
    let Table { name, size, .. } = table;
    let to = number(from.saturating_add(size));
    let column = if name == "audit" { "position" } else { "number" };
    client
        .batch_execute(&format!(
            "CREATE TABLE {name}_{from} (LIKE {name} INCLUDING ALL, \
             CHECK ({column} IS NOT NULL AND {column} >= {from} AND {column} < {to})); \
             ALTER TABLE {name} ATTACH PARTITION {name}_{from} FOR VALUES FROM ({from}) TO ({to})"
        ))
        .await?;
    Ok(())
}

/// The existing partitions: the begin and end of each.
async fn bounds(client: &ClientWrapper, table: Table) -> Result<Vec<(u64, u64)>, Failure> {
    let sql = "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
        WHERE i.inhparent = to_regclass($1)";
    let rows = client.query(sql, &[&table.name]).await?;
    let mut found: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let text: String = row.try_get(0).ok()?;
            let mut numbers = text
                .split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|digits| digits.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The end of the last partition.
async fn end(client: &ClientWrapper, table: Table) -> Result<u64, Failure> {
    let bounds = bounds(client, table).await?;
    Ok(bounds.last().map_or(0, |(_, to)| *to))
}

/// Makes the partitions after the one with the number `last`, if they do not exist. Returns the number up to which
/// partitions exist.
pub(crate) async fn make_room(client: &ClientWrapper, table: Table, last: u64) -> Result<u64, Failure> {
    let through = end(client, table).await?;
    if through >= table.wanted(last) {
        return Ok(through);
    }
    client.batch_execute("BEGIN").await?;
    let made = extend(client, table, last).await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    made
}

/// The same, as a part of a transaction: what it makes exists once that is committed.
pub(crate) async fn extend(client: &ClientWrapper, table: Table, last: u64) -> Result<u64, Failure> {
    client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // Another node may have made them meanwhile.
    let mut through = end(client, table).await?;
    while through < table.wanted(last) {
        create(client, table, through).await?;
        through = through.saturating_add(table.size);
    }
    Ok(through)
}

/// Drops the partitions that have no number from `first` on, if no reader uses them; otherwise the next purge drops
/// them.
pub(crate) async fn drop_before(client: &ClientWrapper, table: Table, first: u64) -> Result<(), Failure> {
    let old: Vec<_> = bounds(client, table).await?;
    let name = table.name;
    for (from, to) in old {
        if to > first {
            continue;
        }
        // A reader of the table delays this, and this delays writers: so it does not wait for long.
        let drop = format!(
            "BEGIN; SET LOCAL lock_timeout = '100ms'; SELECT pg_advisory_xact_lock({LOCK}); \
             DROP TABLE IF EXISTS {name}_{from}; COMMIT"
        );
        if let Err(error) = client.batch_execute(&drop).await {
            client.batch_execute("ROLLBACK").await?;
            return Err(error.into());
        }
        tracing::info!(
            partition = format!("{name}_{from}"),
            "a partition was dropped: all that it had was too old"
        );
    }
    Ok(())
}
