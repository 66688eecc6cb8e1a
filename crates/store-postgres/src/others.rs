//! The other nodes: their reports, and the lock for work that only one node does at a time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use tessera_core::{RealmName, Sequence};
use tessera_store::{Alone, NodeFence, NodeReport, OtherNode, StoreError};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connect::{Query, all},
    node::{Node, beat_in},
    read::rows,
    state::{damaged, get, number, unsigned},
};

/// One row for each node and realm; the first row of a node has its report.
const NODES: &str = "SELECT n.id, n.name, (extract(epoch FROM clock_timestamp() - n.seen) * 1000)::bigint, n.seq, \
    b.realm, b.millis, b.through, coalesce((n.started, n.id) < (SELECT m.started, m.id FROM node m WHERE m.id = $1), true), \
    CASE WHEN b.realm IS NULL OR b.realm = min(b.realm) OVER (PARTITION BY n.id) THEN n.report END, \
    (extract(epoch FROM clock_timestamp() - n.reported) * 1000)::bigint \
    FROM node n LEFT JOIN staleness_bound b ON b.node = n.id WHERE n.id <> $1 ORDER BY n.id, b.realm";
const TELL: &str = "WITH told AS (UPDATE node SET report = $4::bytea, reported = clock_timestamp() \
    WHERE id = $1 AND $4::bytea IS NOT NULL) \
    UPDATE staleness_bound b SET through = n.through \
    FROM unnest($2::text[], $3::bigint[]) AS n (realm, through) WHERE b.node = $1 AND b.realm = n.realm";

const LEAVE: &str =
    "DELETE FROM node n WHERE n.id = $1 AND NOT EXISTS (SELECT FROM staleness_bound b WHERE b.node = n.id)";

pub(crate) async fn nodes(node: &Node) -> Result<Vec<OtherNode>, StoreError> {
    let mut found: BTreeMap<Uuid, OtherNode> = BTreeMap::new();
    for row in &rows(node, Query::new(NODES).value(node.id)).await? {
        let other = match found.entry(get(row, 0)?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(OtherNode {
                name: get(row, 1)?,
                seen_before: since(get(row, 2)?)?,
                applied: Sequence(unsigned(get(row, 3)?)?),
                is_older: get(row, 7)?,
                realms: BTreeMap::new(),
                report: report(row)?,
            }),
        };
        if let Some(realm) = get::<Option<&str>>(row, 4)? {
            let realm = RealmName::parse(realm).map_err(|_| damaged("a bound has no realm"))?;
            let fence = NodeFence {
                bound: Duration::from_millis(unsigned(get(row, 5)?)?),
                through: Sequence(unsigned(get(row, 6)?)?),
            };
            other.realms.insert(realm, fence);
        }
    }
    Ok(found.into_values().collect())
}

/// The clock of a server may be set back.
fn since(millis: i64) -> Result<Duration, StoreError> {
    Ok(Duration::from_millis(unsigned(millis.max(0))?))
}

/// The report of a node. A node of another version may use another format; its verifiers are still waited for.
fn report(row: &Row) -> Result<NodeReport, StoreError> {
    let report = get::<Option<&[u8]>>(row, 8)?.and_then(|text| serde_json::from_slice(text).ok());
    let report: NodeReport = report.unwrap_or_default();
    Ok(report.later(since(get::<Option<i64>>(row, 9)?.unwrap_or(0))?))
}

pub(crate) async fn tell(
    node: &Node,
    fences: BTreeMap<RealmName, Sequence>,
    report: Option<&NodeReport>,
) -> Result<(), StoreError> {
    let report = report
        .map(serde_json::to_vec)
        .transpose()
        .map_err(|error| StoreError::Failed {
            detail: format!("what this node says of itself can't be written: {error}"),
        })?;
    let (realms, through): (Vec<_>, Vec<_>) = fences
        .into_iter()
        .map(|(realm, through)| (realm.as_str().to_owned(), number(through.0)))
        .unzip();
    let told = Query::new(TELL)
        .value(node.id)
        .value(realms)
        .value(through)
        .value(report);
    let client = node.reader().await?;
    all(&client, vec![told]).await?;
    Ok(())
}

/// Removes the report that this node is running. A node that had required subscribers stays known, since they may keep
/// answering.
pub(crate) async fn leave(node: &Node) -> Result<(), StoreError> {
    let leave = Query::new(LEAVE).value(node.id);
    let client = node.reader().await?;
    all(&client, vec![leave]).await?;
    Ok(())
}

/// Holds a lock of the database for as long as its connection is open.
pub(crate) async fn alone(node: &Node) -> Result<Alone, StoreError> {
    node.ensure_current()?;
    let connection = node.connector.open().await?;
    // A different lock from that of the writers.
    let lock = Query::new("SELECT pg_advisory_lock($1)").value(node.lock_key() ^ 1);
    all(&connection.client, vec![lock]).await?;
    let seen = all(&connection.client, vec![node.ask_beat()]).await?;
    node.ensure_primary(beat_in(seen.first().map(Vec::as_slice).unwrap_or_default())?)?;
    Ok(Alone::holding(connection))
}
