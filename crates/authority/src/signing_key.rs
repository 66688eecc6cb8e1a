//! The signing keys.

pub(crate) mod key_set;
pub(crate) mod lifecycle;
pub(crate) mod revoke;
