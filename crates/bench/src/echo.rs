//! The baseline: a bare tonic server with one echo and one fan-out, in the form that tonic's own generator writes.

pub(crate) mod client;
mod method;
pub(crate) mod server;
