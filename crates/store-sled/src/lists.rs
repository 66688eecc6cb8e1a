//! Lists of sessions: the indexes, and the expiry times.
//!
//! The entries that one group adds to one list are one row, not one row for each session. The row's key has the list's
//! key and the id of the first session; its value has the other ids, in order. So the value of a row with one session
//! is empty.
//!
//! The ids in a row are made within [`SPAN_MILLIS`] of each other, by the time that they begin with. So the row of an
//! id is among those that begin at most that much earlier. A list is read in the order of its ids although groups
//! overlap: an id is next once no remaining row begins before it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    iter::Peekable,
    ops::Bound,
};

use sled::Db;
use tessera_core::{SessionId, Timestamp};
use tessera_store::StoreError;

use super::{changes::RowChanges, error::failed, rows};

/// The longest time between the ids of a row. Calls of one group wait for about as long as a sync takes.
const SPAN_MILLIS: i64 = 64;
/// How many ids a row has at most.
const ROW_MAX: usize = 256;
const ID_LEN: usize = 16;

/// The entries that a group adds to lists, and removes from them.
#[derive(Debug, Default)]
pub(super) struct ListChanges(HashMap<Vec<u8>, ListChange>);

#[derive(Debug, Default)]
struct ListChange {
    added: BTreeSet<SessionId>,
    removed: BTreeSet<SessionId>,
}

impl ListChanges {
    /// Adds a session that is not in the list. `list` is the prefix of its rows' keys.
    pub(super) fn add(&mut self, list: Vec<u8>, id: SessionId) {
        let change = self.0.entry(list).or_default();
        if !change.removed.remove(&id) {
            change.added.insert(id);
        }
    }

    /// Removes a session that is in the list.
    pub(super) fn remove(&mut self, list: Vec<u8>, id: SessionId) {
        let change = self.0.entry(list).or_default();
        if !change.added.remove(&id) {
            change.removed.insert(id);
        }
    }

    /// Converts the changes to rows, over those in `db`.
    pub(super) fn write(self, db: &Db, rows: &mut RowChanges) -> Result<(), StoreError> {
        for (list, change) in self.0 {
            take_out(db, &list, &change.removed, rows)?;
            for (key, value) in rows_of(&list, change.added) {
                rows.put_new(key, value);
            }
        }
        Ok(())
    }
}

/// Reads the rows that have the ids, and writes them without the ids.
fn take_out(
    db: &Db,
    list: &[u8],
    ids: &BTreeSet<SessionId>,
    rows: &mut RowChanges,
) -> Result<(), StoreError> {
    let mut changed: BTreeMap<SessionId, BTreeSet<SessionId>> = BTreeMap::new();
    for id in ids {
        let mut before = changed.range_mut(..=*id).rev();
        if before.any(|(_, left)| left.remove(id)) {
            continue;
        }
        let found = row_with(db, list, *id)?;
        debug_assert!(found.is_some(), "the session {id} is in no row of its list");
        if let Some((first, mut left)) = found {
            left.remove(id);
            changed.insert(first, left);
        }
    }
    for (first, left) in changed {
        if left.first() != Some(&first) {
            rows.remove(row_key(list, first));
        }
        for (key, value) in rows_of(list, left) {
            rows.put(key, value);
        }
    }
    Ok(())
}

/// The row that has an id, and all ids of the row.
fn row_with(
    db: &Db,
    list: &[u8],
    id: SessionId,
) -> Result<Option<(SessionId, BTreeSet<SessionId>)>, StoreError> {
    let near = db.range(earliest_row(list, id)..=row_key(list, id)).rev();
    for row in near {
        let (key, value) = row.map_err(failed)?;
        let ids: BTreeSet<_> = ids_in(&key, &value)?.collect();
        if let (true, Some(first)) = (ids.contains(&id), ids.first()) {
            return Ok(Some((*first, ids)));
        }
    }
    Ok(None)
}

/// The rows of a list that have these ids.
fn rows_of(list: &[u8], ids: BTreeSet<SessionId>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut until = Timestamp::EPOCH;
    for id in ids {
        match rows.last_mut() {
            Some((_, others)) if id.made_at() <= until && others.len() < (ROW_MAX - 1) * ID_LEN => {
                others.extend_from_slice(id.as_bytes());
            }
            _ => {
                until = id.made_at().plus_millis(SPAN_MILLIS);
                rows.push((row_key(list, id), Vec::new()));
            }
        }
    }
    rows
}

/// The sessions of a list after one, in the order of their ids.
///
/// Rows may be written meanwhile. A row only ever moves to a later key, when ids are removed from it, so no row is
/// missed.
pub(super) fn ids_after(
    db: &Db,
    list: &[u8],
    after: Option<SessionId>,
) -> impl Iterator<Item = Result<SessionId, StoreError>> + use<> {
    let from = after.map_or_else(|| list.to_vec(), |id| earliest_row(list, id));
    let rows = db.range((Bound::Included(from), Bound::Excluded(rows::end_of(list))));
    let read = |row: sled::Result<_>| {
        let (key, value): (sled::IVec, sled::IVec) = row.map_err(failed)?;
        let ids: Vec<_> = ids_in(&key, &value)?.collect();
        Ok(ids)
    };
    Ids {
        rows: rows.map(read).peekable(),
        waiting: BTreeSet::new(),
        after,
    }
}

/// The ids of all rows that were read. The least one is next, if no other row begins before it.
struct Ids<R: Iterator<Item = Result<Vec<SessionId>, StoreError>>> {
    rows: Peekable<R>,
    waiting: BTreeSet<SessionId>,
    after: Option<SessionId>,
}

impl<R: Iterator<Item = Result<Vec<SessionId>, StoreError>>> Ids<R> {
    /// Whether the next row may have an id that comes before all waiting ids.
    fn needs_next_row(&mut self) -> bool {
        let least = self.waiting.first();
        match self.rows.peek() {
            Some(Ok(ids)) => least.is_none_or(|least| ids.first() < Some(least)),
            Some(Err(_)) => true,
            None => false,
        }
    }
}

impl<R: Iterator<Item = Result<Vec<SessionId>, StoreError>>> Iterator for Ids<R> {
    type Item = Result<SessionId, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.needs_next_row() {
            match self.rows.next()? {
                Ok(ids) => {
                    let after = self.after;
                    let new = ids.into_iter().filter(|id| after.is_none_or(|after| *id > after));
                    self.waiting.extend(new);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        let next = self.waiting.pop_first()?;
        self.after = Some(next);
        Some(Ok(next))
    }
}

/// The ids of a row, in order.
pub(super) fn ids_in<'a>(
    key: &[u8],
    value: &'a [u8],
) -> Result<impl Iterator<Item = SessionId> + use<'a>, StoreError> {
    let first = rows::session_id_in(key)?;
    let (others, rest) = value.as_chunks::<ID_LEN>();
    if !rest.is_empty() {
        return Err(StoreError::Damaged {
            detail: "a list of sessions has half an id".to_owned(),
        });
    }
    let others = others.iter().copied().map(SessionId::from_bytes);
    Ok([first].into_iter().chain(others))
}

fn row_key(list: &[u8], first: SessionId) -> Vec<u8> {
    [list, first.as_bytes()].concat()
}

/// The least key of a row that can have this id.
fn earliest_row(list: &[u8], id: SessionId) -> Vec<u8> {
    let earliest = id.made_at().as_millis().saturating_sub(SPAN_MILLIS).max(0);
    // A time-ordered id begins with the lower six bytes of its time.
    let [_, _, time @ ..] = earliest.to_be_bytes();
    [list, &time].concat()
}

#[cfg(test)]
mod tests;
