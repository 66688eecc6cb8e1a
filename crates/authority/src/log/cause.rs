//! Why something was revoked: what each event and audit record of one call says.

use tessera_core::{AuditAction, AuditRecord, EventTarget, RealmName, RequestId, Timestamp};

use crate::principal::Identity;

/// Who revokes, when and why.
#[derive(Clone)]
pub(crate) struct Cause {
    pub(crate) identity: Identity,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) reason: String,
    pub(crate) now: Timestamp,
}

impl Cause {
    pub(crate) fn realm(&self) -> &RealmName {
        &self.identity.realm().name
    }

    /// The audit record of something that ended.
    pub(crate) fn record(&self, target: EventTarget, matched: u64) -> AuditRecord {
        self.audit(AuditAction::Revoked {
            target,
            matched,
            reason: self.reason.clone(),
        })
    }

    /// The audit record of another action of the same call.
    pub(crate) fn audit(&self, action: AuditAction) -> AuditRecord {
        self.identity.record(self.now, self.request_id, action)
    }
}
