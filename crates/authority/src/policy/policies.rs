//! The policy in force, and everything that may be asked about it or changes it.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tessera_core::PolicyRevision;

use crate::{
    audit::trail::AuditTrail,
    heavy::Heavy,
    others::OtherNodes,
    policy::{history::PolicyHistory, reconciling::Reconciling},
    shared::Shared,
};

/// The policy: showing, checking, explaining, planning and changing it.
pub struct Policies {
    pub(super) shared: Arc<Shared>,
    pub(super) others: Arc<OtherNodes>,
    /// Has the decisions that are explained.
    pub(super) audit: Arc<AuditTrail>,
    /// The slots for long work with policies.
    pub(super) heavy: Arc<Heavy>,
    pub(super) directory: Option<PathBuf>,
    pub(super) history: PolicyHistory,
    pub(super) reconciling: Reconciling,
    /// Held from reading a policy until live sessions are reconciled with it: changes are made one after the other.
    pub(super) changes: Arc<tokio::sync::Mutex<()>>,
    /// The policy in force that can't be used here, if that was logged.
    pub(super) unusable: Mutex<Option<PolicyRevision>>,
}

impl Policies {
    /// `directory` is where the policy is read from; `changes` is held while one is put in force.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        others: &Arc<OtherNodes>,
        audit: &Arc<AuditTrail>,
        heavy: &Arc<Heavy>,
        directory: Option<PathBuf>,
        changes: &Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self {
            history: PolicyHistory::new(shared.now()),
            shared: Arc::clone(shared),
            others: Arc::clone(others),
            audit: Arc::clone(audit),
            heavy: Arc::clone(heavy),
            directory,
            reconciling: Reconciling::default(),
            changes: Arc::clone(changes),
            unusable: Mutex::default(),
        }
    }
}
