//! The audit trail: reading it, checking it, and the records that are not part of a change.

pub(crate) mod checkpoint;
pub(crate) mod delivery;
pub(crate) mod error;
pub(crate) mod filter;
pub(crate) mod line;
pub(crate) mod list;
pub(crate) mod reading;
pub(crate) mod sink;
pub(crate) mod tail;
pub(crate) mod trail;
pub(crate) mod verify;
