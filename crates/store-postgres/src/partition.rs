//! Tables in partitions by number: partitions are made before they are needed, and dropped once all their rows are too
//! old. No row is deleted individually.

use deadpool_postgres::ClientWrapper;

use crate::{error::Failure, state::number};

/// A table in partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    name: &'static str,
    /// How many numbers one partition has.
    size: u64,
}

impl Table {
    /// The begin of the partition that contains a number.
    pub(crate) fn begin_of(self, number: u64) -> u64 {
        number - number % self.size
    }
}

/// The audit trail.
pub(crate) const AUDIT: Table = Table {
    name: "audit",
    size: 100_000,
};

/// The groups.
pub(crate) const COMMIT_GROUP: Table = Table {
    name: "commit_group",
    size: 1_000_000,
};

pub(crate) const TABLES: [Table; 2] = [AUDIT, COMMIT_GROUP];

/// The lock that orders the work on partitions, of all schemas of a database.
const LOCK: i64 = 0x7465_7373_6572_6101;

/// Makes the partition that begins with `from`. Attaching a table waits for no reader, unlike creating it as a
/// partition.
pub(crate) async fn create(client: &ClientWrapper, table: Table, from: u64) -> Result<(), Failure> {
    let Table { name, size } = table;
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

/// Makes the next partition if `last` is in the last half of the existing ones. Returns the number up to which
/// partitions exist.
pub(crate) async fn make_room(client: &ClientWrapper, table: Table, last: u64) -> Result<u64, Failure> {
    let end = |bounds: &[(u64, u64)]| bounds.last().map_or(0, |(_, to)| *to);
    let through = end(&bounds(client, table).await?);
    if last.saturating_add(table.size / 2) < through {
        return Ok(through);
    }
    client.batch_execute("BEGIN").await?;
    let made = async {
        client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let mut through = end(&bounds(client, table).await?);
        // Another node may have made it meanwhile.
        while last.saturating_add(table.size / 2) >= through {
            create(client, table, through).await?;
            through = through.saturating_add(table.size);
        }
        Ok(through)
    }
    .await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    made
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
