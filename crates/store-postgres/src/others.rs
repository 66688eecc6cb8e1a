//! The other nodes: what they say, and what only one does at a time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use tessera_core::{RealmName, Sequence};
use tessera_store::{Alone, NodeFence, OtherNode, StoreError};
use uuid::Uuid;

use crate::{
    connect::{Query, all},
    error::Failure,
    node::Node,
    read::rows,
    state::{damaged, get, number, unsigned},
};

const NODES: &str = "SELECT n.id, n.name, (extract(epoch FROM clock_timestamp() - n.seen) * 1000)::bigint, n.seq, \
    b.realm, b.millis, b.through FROM node n LEFT JOIN staleness_bound b ON b.node = n.id WHERE n.id <> $1 ORDER BY n.id";
const TELL: &str = "UPDATE staleness_bound b SET through = n.through \
    FROM unnest($2::text[], $3::bigint[]) AS n (realm, through) WHERE b.node = $1 AND b.realm = n.realm";

pub(crate) async fn nodes(node: &Node) -> Result<Vec<OtherNode>, StoreError> {
    let mut found: BTreeMap<Uuid, OtherNode> = BTreeMap::new();
    for row in &rows(node, Query::new(NODES).value(node.id)).await? {
        let other = match found.entry(get(row, 0)?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(OtherNode {
                name: get(row, 1)?,
                // The clock of a server may be set back.
                seen_before: Duration::from_millis(unsigned(get::<i64>(row, 2)?.max(0))?),
                applied: Sequence(unsigned(get(row, 3)?)?),
                realms: BTreeMap::new(),
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

pub(crate) async fn tell(node: &Node, fences: BTreeMap<RealmName, Sequence>) -> Result<(), StoreError> {
    let (realms, through): (Vec<_>, Vec<_>) = fences
        .into_iter()
        .map(|(realm, through)| (realm.as_str().to_owned(), number(through.0)))
        .unzip();
    let told = Query::new(TELL).value(node.id).value(realms).value(through);
    let client = node.reader().await?;
    all(&client, vec![told]).await?;
    Ok(())
}

/// Holds a lock of the database for as long as its connection is open.
pub(crate) async fn alone(node: &Node) -> Result<Alone, StoreError> {
    node.ensure_current()?;
    let connection = node.connector.open().await.map_err(Failure::from)?;
    // The lock of those who write is another.
    let lock = Query::new("SELECT pg_advisory_lock($1)").value(node.lock_key() ^ 1);
    all(&connection.client, vec![lock]).await?;
    Ok(Alone::holding(connection))
}
