//! The audit records that a group writes.

use tessera_core::AuditRecord;
use tessera_store::{AuditEntry, StoreError};

use super::overlay::Group;

impl Group<'_> {
    /// Appends a record.
    pub(super) fn put_audit(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.state.times.note(record.at);
        let before = self.state.meta.audit;
        let (head, encoded) = before.append(record)?;
        self.audit.push(head.position, before.link, &encoded)?;
        self.state.meta.audit = head;
        Ok(())
    }

    /// Writes an audit record unchanged. Each record follows the one before.
    pub(crate) fn put_audit_entry(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.audit.push(entry.position, entry.previous, &entry.encoded)
    }

    /// Removes all records up to a position that exists since the previous group.
    pub(crate) fn remove_audit_through(&mut self, position: u64) {
        self.audit.remove_through(position);
    }

    /// The last position that the group removes.
    pub(crate) fn audit_gone(&self) -> u64 {
        self.audit.gone()
    }
}
