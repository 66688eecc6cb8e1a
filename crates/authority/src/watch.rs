//! Watching the revocation log.

mod begin;
pub(crate) mod filter;
pub(crate) mod message;
pub(crate) mod watcher;
pub(crate) mod watches;
