//! What this node knows of reconciling live sessions, by any node.

use std::time::Instant;

use parking_lot::Mutex;
use tessera_core::PolicyRevision;

/// The known state of reconciling, by any node.
#[derive(Default)]
pub(crate) struct Reconciling {
    /// The policy that live sessions are reconciled with, as the store had it last.
    pub(super) with: Mutex<Option<PolicyRevision>>,
    /// Since when they are not reconciled with the one in force, and no node is doing it.
    pub(super) abandoned_since: Mutex<Option<Instant>>,
}
