//! The audit records that a group writes, and reads again.

use tessera_core::AuditRecord;
use tessera_store::{AuditEntry, StoreError};

use super::Group;
use crate::{error::failed, rows};

impl Group<'_> {
    /// The audit record whose row has this key.
    pub(crate) fn audit_entry(&self, key: &[u8]) -> Result<Option<AuditEntry>, StoreError> {
        let position = rows::number_in(key)?;
        let entry = |value: &[u8]| rows::audit_entry(position, value);
        match self.rows.get(key) {
            Some(value) => value.map(entry).transpose(),
            None => self
                .db
                .get(key)
                .map_err(failed)?
                .as_deref()
                .map(entry)
                .transpose(),
        }
    }

    /// Appends a record.
    pub(super) fn put_audit(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.state.times.note(record.at);
        let (head, encoded) = self.state.meta.audit.append(record)?;
        let value = rows::audit_value(self.state.meta.audit.link, &encoded);
        self.rows.put_new(rows::audit_key(head.position), value);
        self.state.meta.audit = head;
        Ok(())
    }

    /// Writes an audit record as it was.
    pub(crate) fn put_audit_entry(&mut self, entry: &AuditEntry) {
        let value = rows::audit_value(entry.previous, &entry.encoded);
        self.rows.put(rows::audit_key(entry.position), value);
    }
}
