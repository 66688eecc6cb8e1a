//! The policy in force.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::{AttemptOutcome, PolicyStatus};

use super::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

/// The metrics of the policy.
pub(super) struct PolicyMetrics {
    info: Family<RevisionLabel, Gauge>,
    applied: Counter<u64, AtomicU64>,
    refused: Counter<u64, AtomicU64>,
    is_refused: Gauge,
    compiled: Gauge,
    reconciled: Gauge,
    rules: Gauge,
}

impl PolicyMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            info: register::new(ours, "policy", "1 for the policy in force"),
            applied: register::new(ours, "policy_applied", "Policies put in force since the start"),
            refused: register::new(ours, "policy_refused", "Policies refused since the start"),
            is_refused: register::new(
                ours,
                "policy_last_change_refused",
                "1 where the last attempt to change the policy was refused",
            ),
            compiled: register::new(
                ours,
                "policy_compiled",
                "0 where Casbin itself answers, which is slow",
            ),
            reconciled: register::new(
                ours,
                "policy_reconciled",
                "1 where every live session is updated to the policy in force",
            ),
            rules: register::new(ours, "policy_rules", "Rules of the policy in force"),
        }
    }

    pub(super) fn set(&self, status: &PolicyStatus) {
        let label = RevisionLabel {
            revision: status.policy.to_string(),
        };
        if self.info.get(&label).is_none() {
            self.info.clear();
            self.info.get_or_create(&label).set(1);
        }
        self.applied.inner().store(status.applied, Ordering::Relaxed);
        self.refused.inner().store(status.refused, Ordering::Relaxed);
        let is_refused = matches!(status.last_attempt.outcome, AttemptOutcome::Refused { .. });
        self.is_refused.set(is_refused.into());
        self.compiled.set(status.is_compiled.into());
        self.reconciled.set(status.is_reconciled.into());
        self.rules.set(i64::try_from(status.rules).unwrap_or(i64::MAX));
    }
}
