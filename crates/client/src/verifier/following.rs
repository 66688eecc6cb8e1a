//! What a follower keeps from one session to the next.

use std::sync::Arc;

use super::view::Shared;
use crate::{
    addresses::Round,
    connection::{Credential, Node},
    problem_log::ProblemLog,
    retry::Backoff,
};

/// The state that outlives a session.
pub(super) struct Following {
    pub(super) shared: Arc<Shared>,
    /// In the order of the addresses.
    pub(super) nodes: Vec<Node>,
    pub(super) round: Round,
    pub(super) credential: Credential,
    /// The cursor up to which everything is applied; `None`: a snapshot is needed.
    pub(super) place: Option<String>,
    /// The key set for which the keys were read; `None`: they may have changed.
    pub(super) key_set: Option<String>,
    pub(super) backoff: Backoff,
    pub(super) problems: ProblemLog,
    /// Which address was left, and why, until another one has lasted.
    pub(super) left: Option<(usize, String)>,
}
