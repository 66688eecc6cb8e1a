//! The format of audit records in the rows: the records of one group are together.
//!
//! A row's key is the position of its first record. Its value has a version, the link before that record, and for each
//! record the length in 4 bytes and the bytes. The later links follow from the records.

use sled::Db;
use tessera_store::{AuditEntry, AuditLink, StoreError};

use super::{
    changes::RowChanges,
    error::failed,
    rows::{self, Table},
};

/// The version of a row, its first byte.
const VERSION: u8 = 2;
/// A row that has this many bytes gets no further record: the pages of the tree are copied as they are written.
const ROW_BYTES: usize = 4 * 1024;

/// The records that a group appends to the trail, and those that it removes.
#[derive(Debug, Default)]
pub(super) struct AuditChanges {
    rows: Vec<AuditRow>,
    /// Records up to this position are removed.
    gone: u64,
}

/// Consecutive records.
#[derive(Debug)]
struct AuditRow {
    first: u64,
    /// The position after the last record.
    next: u64,
    value: Vec<u8>,
}

impl AuditChanges {
    /// Adds a record at the end.
    pub(super) fn push(
        &mut self,
        position: u64,
        previous: AuditLink,
        encoded: &[u8],
    ) -> Result<(), StoreError> {
        match self.rows.last_mut() {
            Some(row) if row.next == position && row.value.len() < ROW_BYTES => row.push(encoded),
            _ => {
                let mut row = AuditRow::begin(position, previous);
                row.push(encoded)?;
                self.rows.push(row);
                Ok(())
            }
        }
    }

    /// Removes all records up to a position. Records that the group itself adds come after it.
    pub(super) fn remove_through(&mut self, position: u64) {
        self.gone = self.gone.max(position);
    }

    /// The last position that the group removes.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.gone == 0
    }

    /// Converts the changes to rows, over those in `db`.
    pub(super) fn write(self, db: &Db, rows: &mut RowChanges) -> Result<(), StoreError> {
        for row in db.range(table_key()..=rows::audit_key(self.gone)) {
            let (key, value) = row.map_err(failed)?;
            rows.remove(key.to_vec());
            let mut left: Option<AuditRow> = None;
            for entry in entries_in(&key, &value)? {
                let entry = entry?;
                if entry.position > self.gone {
                    let row = left.get_or_insert_with(|| AuditRow::begin(entry.position, entry.previous));
                    row.push(&entry.encoded)?;
                }
            }
            if let Some(left) = left {
                rows.put(rows::audit_key(left.first), left.value);
            }
        }
        for row in self.rows {
            rows.put_new(rows::audit_key(row.first), row.value);
        }
        Ok(())
    }
}

impl AuditRow {
    fn begin(first: u64, previous: AuditLink) -> Self {
        Self {
            first,
            next: first,
            value: [&[VERSION], previous.0.as_slice()].concat(),
        }
    }

    fn push(&mut self, encoded: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(encoded.len()).map_err(failed)?;
        self.value.extend_from_slice(&length.to_be_bytes());
        self.value.extend_from_slice(encoded);
        self.next = self.next.saturating_add(1);
        Ok(())
    }
}

/// The records in the rows from one position up to another, in order.
pub(super) fn entries(
    db: &Db,
    from: u64,
    through: u64,
) -> impl Iterator<Item = Result<AuditEntry, StoreError>> + use<> {
    // The record may be in a row that begins before it.
    let before = db.range(table_key()..=rows::audit_key(from)).next_back();
    let begin = match before {
        Some(Ok((key, _))) => key.to_vec(),
        // If the read failed, the next read below fails too.
        Some(Err(_)) | None => rows::audit_key(from),
    };
    let rows = db.range(begin..=rows::audit_key(through));
    let entries = rows.flat_map(|row| {
        let entries = row
            .map_err(failed)
            .and_then(|(key, value)| entries_in(&key, &value).map(Iterator::collect::<Vec<_>>));
        entries.unwrap_or_else(|error| vec![Err(error)])
    });
    entries
        .skip_while(move |entry| entry.as_ref().is_ok_and(|entry| entry.position < from))
        .take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.position <= through))
}

/// The records of one row.
fn entries_in<'a>(
    key: &[u8],
    value: &'a [u8],
) -> Result<impl Iterator<Item = Result<AuditEntry, StoreError>> + use<'a>, StoreError> {
    let first = rows::number_in(key)?;
    let parts = value
        .strip_prefix(&[VERSION])
        .and_then(|value| value.split_first_chunk::<32>());
    let (previous, mut rest) = parts.ok_or_else(|| damaged(first))?;
    let mut next = (first, AuditLink(*previous));
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (position, previous) = next;
        let entry = split_record(&mut rest)
            .ok_or_else(|| damaged(position))
            .and_then(|encoded| AuditEntry::decode(position, previous, encoded));
        match &entry {
            Ok(entry) => next = (position.saturating_add(1), entry.link()),
            Err(_) => rest = &[],
        }
        Some(entry)
    }))
}

fn split_record(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (encoded, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(encoded.to_vec())
}

fn damaged(position: u64) -> StoreError {
    StoreError::Damaged {
        detail: format!("the row of the audit record {position} is too short, or of an unknown version"),
    }
}

fn table_key() -> Vec<u8> {
    vec![Table::Audit as u8]
}

#[cfg(test)]
mod tests;
