//! The signing keys: those in use, and how one replaces the other.

pub(crate) mod error;
pub(crate) mod key_change;
pub(crate) mod key_set;
pub(crate) mod lifecycle;
pub(crate) mod rotate;
pub(crate) mod schedule;
pub(crate) mod server_key;
pub(crate) mod signing_keys;
