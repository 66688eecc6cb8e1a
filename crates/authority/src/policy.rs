//! The policy in force, changes of it, and their effect on live sessions.

pub(crate) mod abandoned;
pub(crate) mod applied;
pub(crate) mod apply;
pub(crate) mod change;
pub(crate) mod error;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod impact;
pub(crate) mod kinds;
pub(crate) mod plan;
pub(crate) mod plan_id;
pub(crate) mod policies;
pub(crate) mod reconcile;
pub(crate) mod reconciling;
pub(crate) mod reload;
pub(crate) mod status;
