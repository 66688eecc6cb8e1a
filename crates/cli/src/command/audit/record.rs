//! A record of the audit trail, from the wire.

use tessera_proto::v1;
use tessera_store::{AuditEntry, AuditLink};

use crate::failure::Failure;

/// The record in a wire record, decoded from its bytes.
pub(super) fn entry(record: v1::AuditRecord) -> Result<AuditEntry, Failure> {
    let newer = |position| {
        Failure::cannot_run(format!(
            "record {position} is from a newer version than this command: update `tessera`"
        ))
    };
    let position = record.position;
    let previous = link(&record.previous_link).ok_or_else(|| newer(position))?;
    AuditEntry::decode(position, previous, record.encoded).map_err(|_| newer(position))
}

pub(super) fn link(bytes: &[u8]) -> Option<AuditLink> {
    bytes.try_into().ok().map(AuditLink)
}
