//! The revocation log: its events, its watchers, and its required subscribers.

pub(crate) mod administer;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod fence;
pub(crate) mod filter;
pub(crate) mod message;
pub(crate) mod propagated;
pub(crate) mod subscribers;
pub(crate) mod watch;
