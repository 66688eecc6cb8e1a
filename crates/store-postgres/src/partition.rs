//! Tables in partitions by number: made before they are needed, and dropped once all that they have is too old. Nothing is
//! deleted row by row.

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
    /// Where the partition begins that has a number.
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

/// What orders the work on partitions, of all schemas of a database.
const LOCK: i64 = 0x7465_7373_6572_6101;

/// Makes the partition that begins with `from`. Attaching, unlike making it as one, waits for no reader.
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

/// The partitions that there are: where each begins, and where it ends.
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

/// Makes the next partition where `last` is in the last half of those that there are. Answers up to which number there are
/// some.
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

/// Drops the partitions that have nothing from `first` on, where nobody reads them; else the next purge does.
pub(crate) async fn drop_before(client: &ClientWrapper, table: Table, first: u64) -> Result<(), Failure> {
    let old: Vec<_> = bounds(client, table).await?;
    let name = table.name;
    for (from, to) in old {
        if to > first {
            continue;
        }
        // Whoever reads the table meanwhile holds this up, and this holds up writers: so it does not wait.
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
