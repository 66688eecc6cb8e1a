//! Reconciling that another node began and did not finish: the node died, and may not start again soon.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_core::{PolicyRevision, audit::Actor};
use tessera_store::OtherNode;

use crate::policy::policies::Policies;

/// How long no node must have been reconciling. Each node tells the others within a second or two that it is.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

impl Policies {
    /// Notes the policy that live sessions are reconciled with.
    pub(crate) fn note_reconciled(&self, with: Option<PolicyRevision>) {
        *self.reconciling.with.lock() = with;
    }

    /// Reconciles live sessions with the policy in force if that was left undone and this is the oldest of the nodes.
    pub(crate) fn take_over_reconciling(self: &Arc<Self>) {
        let Ok(alone) = Arc::clone(&self.changes).try_lock_owned() else {
            *self.reconciling.abandoned_since.lock() = None;
            return;
        };
        let is_reconciled = self.reconciling.with.lock().as_ref() == Some(self.shared.policy().revision());
        self.history.set_reconciled(is_reconciled);
        if is_reconciled || self.is_somebody_at_it() {
            *self.reconciling.abandoned_since.lock() = None;
            return;
        }
        let since = *self
            .reconciling
            .abandoned_since
            .lock()
            .get_or_insert_with(Instant::now);
        if since.elapsed() < ABANDONED_AFTER {
            return;
        }
        // If it fails, it is tried again after the same time.
        *self.reconciling.abandoned_since.lock() = None;
        let policies = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = alone;
            match policies.reconcile(&Actor::Operator).await {
                Ok(reconciled) => tracing::warn!(
                    policy = %policies.shared.policy().revision(),
                    narrowed = reconciled.total().narrowed,
                    ended = reconciled.total().ended,
                    "another node left live sessions unreconciled with the policy; they are now"
                ),
                Err(error) => tracing::warn!(%error, "live sessions can't be reconciled with the policy"),
            }
        });
    }

    /// Whether another node does it, or comes before this one.
    fn is_somebody_at_it(&self) -> bool {
        let does =
            |other: &OtherNode| other.is_at_work() && (other.is_older || other.report.is_changing_policy);
        // If the other nodes are not known, this one can't know that it is the one.
        self.others.lately().is_none_or(|others| others.iter().any(does))
    }
}
