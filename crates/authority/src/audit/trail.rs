//! The audit trail, as callers and the authority itself use it.

use std::sync::Arc;

use crate::{
    audit::{reading::AuditReads, sink::AuditSinks},
    credential::credentials::Credentials,
    heavy::Heavy,
    others::OtherNodes,
    shared::Shared,
};

/// The audit trail: reading, following, checking and signing it, and which node delivers it to its sinks.
pub struct AuditTrail {
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) others: Arc<OtherNodes>,
    pub(super) sinks: Arc<AuditSinks>,
    /// The slots for checking it.
    pub(super) heavy: Arc<Heavy>,
    pub(super) reads: AuditReads,
}

impl AuditTrail {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        credentials: &Arc<Credentials>,
        others: &Arc<OtherNodes>,
        sinks: &Arc<AuditSinks>,
        heavy: &Arc<Heavy>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            credentials: Arc::clone(credentials),
            others: Arc::clone(others),
            sinks: Arc::clone(sinks),
            heavy: Arc::clone(heavy),
            reads: AuditReads::new(),
        }
    }
}
