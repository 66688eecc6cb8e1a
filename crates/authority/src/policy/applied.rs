//! The result of applying a policy.

use std::collections::BTreeMap;

use tessera_core::{PolicyRevision, RealmName};

use crate::policy::impact::SessionImpact;

/// The result of applying a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The policy in force.
    pub policy: PolicyRevision,
    /// The one before; the same if nothing changed.
    pub previous: PolicyRevision,
    /// The impact on live sessions, by realm.
    pub impact: BTreeMap<RealmName, SessionImpact>,
}

impl Applied {
    /// Whether another policy is in force than before.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.policy != self.previous
    }

    /// The impact on live sessions of all realms.
    #[must_use]
    pub fn total(&self) -> SessionImpact {
        self.impact.values().copied().sum()
    }
}
