//! The writes of a group, row by row.

use std::collections::{HashMap, hash_map::Entry};

use sled::IVec;

/// A value for each key, or `None` if the row is removed.
#[derive(Default)]
pub(super) struct RowChanges(HashMap<Vec<u8>, Change>);

/// The change of one row.
pub(super) struct Change {
    /// Its value; `None` if the row is removed.
    pub(super) value: Option<Vec<u8>>,
    /// What is known of the row before the group.
    pub(super) before: Before,
}

/// What is known of a row before the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// The row was not read.
    Unread,
    /// There was no row.
    Absent,
    /// There was this row.
    Row(IVec),
}

impl RowChanges {
    /// What the group does to a row: `None` if it has not touched it, an inner `None` if it removes it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.get(key).map(|change| change.value.as_deref())
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(key, Some(value), Before::Unread);
    }

    /// Writes a row over the one on the disk, if the caller has read that.
    pub(super) fn put_over(&mut self, key: Vec<u8>, value: Vec<u8>, on_disk: Option<IVec>) {
        self.set(key, Some(value), on_disk.map_or(Before::Unread, Before::Row));
    }

    /// Writes a row that did not exist before the group. The caller knows that from the key: it names a session or a
    /// position that is new.
    pub(super) fn put_new(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(key, Some(value), Before::Absent);
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.set(key, None, Before::Unread);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.0.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, before: Before) {
        match self.0.entry(key) {
            // The row before the group was noted when the group touched it first.
            Entry::Occupied(mut touched) => touched.get_mut().value = value,
            Entry::Vacant(untouched) => {
                untouched.insert(Change { value, before });
            }
        }
    }
}

impl IntoIterator for RowChanges {
    type Item = (Vec<u8>, Change);
    type IntoIter = std::collections::hash_map::IntoIter<Vec<u8>, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Vec<u8>, Option<Vec<u8>>)> for RowChanges {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>>(rows: I) -> Self {
        let before = Before::Unread;
        let change = |(key, value)| {
            let before = before.clone();
            (key, Change { value, before })
        };
        Self(rows.into_iter().map(change).collect())
    }
}

#[cfg(test)]
impl RowChanges {
    /// Applies the changes, for a test of the code that made them.
    pub(super) fn apply_to(self, db: &sled::Db) {
        let mut batch = sled::Batch::default();
        for (key, change) in self {
            match change.value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        db.apply_batch(batch).expect("a database that works");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(changes: RowChanges) -> (Option<Vec<u8>>, Before) {
        let (_, change) = changes.into_iter().next().unwrap();
        (change.value, change.before)
    }

    #[test]
    fn a_row_is_new_only_where_the_group_had_not_touched_it() {
        let key = || b"key".to_vec();
        let mut changes = RowChanges::default();
        changes.put_new(key(), b"1".to_vec());
        changes.put(key(), b"2".to_vec());
        assert_eq!(change(changes), (Some(b"2".to_vec()), Before::Absent));

        let mut changes = RowChanges::default();
        changes.remove(key());
        changes.put_new(key(), b"1".to_vec());
        assert_eq!(change(changes), (Some(b"1".to_vec()), Before::Unread));

        let mut changes = RowChanges::default();
        changes.put_new(key(), b"1".to_vec());
        changes.remove(key());
        assert_eq!(change(changes), (None, Before::Absent));

        let mut changes = RowChanges::default();
        changes.put_over(key(), b"1".to_vec(), Some(IVec::from(b"0")));
        changes.put(key(), b"2".to_vec());
        let before = Before::Row(IVec::from(b"0"));
        assert_eq!(change(changes), (Some(b"2".to_vec()), before));
    }
}
