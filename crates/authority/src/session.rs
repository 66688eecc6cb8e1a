//! Sessions: showing them and ending them.

pub(crate) mod cutoff;
pub(crate) mod end;
pub(crate) mod error;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod sessions;
