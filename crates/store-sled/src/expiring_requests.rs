//! When answers to idempotent requests can be removed: the entries that one group adds for one second are one row.
//!
//! An entry only says where to look. The time in the request's own row counts: a repeated request leaves the entry of
//! the earlier one, which then names nothing that has expired.

use std::collections::BTreeMap;

use tessera_core::Timestamp;
use tessera_store::StoreError;

use super::{changes::RowChanges, rows};

/// How many requests a row names at most.
const ROW_MAX: usize = 128;

/// The entries that a group adds: for each time, the keys of the requests' rows.
#[derive(Debug, Default)]
pub(super) struct RequestChanges(BTreeMap<Timestamp, Vec<Vec<u8>>>);

impl RequestChanges {
    /// Adds a request at a time, which is not after the one at which it can be removed.
    pub(super) fn add(&mut self, at: Timestamp, row: Vec<u8>) {
        self.0.entry(at).or_default().push(row);
    }

    /// Converts the entries to rows. `group` is the number of the group.
    pub(super) fn write(self, group: u64, rows: &mut RowChanges) -> Result<(), StoreError> {
        for (at, requests) in self.0 {
            for (part, requests) in (0_u32..).zip(requests.chunks(ROW_MAX)) {
                let key = rows::request_expiry_key(at, group, part);
                rows.put_new(key, rows::encode(&requests)?);
            }
        }
        Ok(())
    }
}
