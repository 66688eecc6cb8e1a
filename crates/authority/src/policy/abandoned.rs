//! Reconciling that another node began and did not finish: the node died, and may not start again soon.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tessera_core::{PolicyRevision, audit::Actor};
use tessera_store::OtherNode;

use crate::Authority;

/// How long no node must have been reconciling. Each node tells the others within a second or two that it is.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);

/// The known state of reconciling, by any node.
#[derive(Default)]
pub(crate) struct Reconciling {
    /// The policy that live sessions are reconciled with, as the store had it last.
    with: Mutex<Option<PolicyRevision>>,
    /// Since when they are not reconciled with the one in force, and no node is doing it.
    abandoned_since: Mutex<Option<Instant>>,
}

impl Authority {
    /// Notes the policy that live sessions are reconciled with.
    pub(crate) fn note_reconciled(&self, with: Option<PolicyRevision>) {
        *self.reconciling.with.lock() = with;
    }

    /// Reconciles live sessions with the policy in force if that was left undone and this is the oldest of the nodes.
    pub(crate) fn take_over_reconciling(self: &Arc<Self>) {
        let Ok(alone) = Arc::clone(&self.policy_changes).try_lock_owned() else {
            *self.reconciling.abandoned_since.lock() = None;
            return;
        };
        let is_reconciled = self.reconciling.with.lock().as_ref() == Some(self.shared.policy().revision());
        self.policy_history.set_reconciled(is_reconciled);
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
        let authority = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = alone;
            match authority.reconcile(&Actor::Operator).await {
                Ok(reconciled) => tracing::warn!(
                    policy = %authority.shared.policy().revision(),
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
