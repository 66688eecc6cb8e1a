//! What the writer knows of the store, and what a group of units leaves.

use std::sync::Arc;

use tessera_core::{Event, PolicyRevision};
use tessera_store::Times;

use super::{changes::RowChanges, rows::Meta};

/// What the writer knows without a read, after the last group.
#[derive(Clone)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) times: Times,
    pub(super) policy: Option<PolicyRevision>,
}

/// The writes of a group.
pub(super) struct Finished {
    pub(super) rows: RowChanges,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) state: State,
}
