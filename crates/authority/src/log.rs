//! The revocation log: its events, and its required subscribers.

pub(crate) mod administer;
pub(crate) mod cause;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod fence;
pub(crate) mod propagated;
pub(crate) mod subscribers;
