//! gRPC: the only part of the server that makes a status of a failure.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod code;
pub(crate) mod status;
