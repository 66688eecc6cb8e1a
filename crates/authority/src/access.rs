//! Whether a token is good now: introspection, and the check for proxies.

pub(crate) mod accepted;
pub(crate) mod check;
pub(crate) mod error;
pub(crate) mod introspect;
