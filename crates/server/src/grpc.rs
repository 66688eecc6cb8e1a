//! gRPC: each method of a service parses its request, calls one use case, and converts the answer. Only this module
//! converts a failure to a status.

mod api_key;
mod audit;
mod backup;
pub(crate) mod body;
mod call;
pub(crate) mod code;
mod convert;
mod ext_authz;
mod frames;
mod health;
mod key;
mod policy;
mod revocation;
pub(crate) mod services;
mod session;
mod signing_key;
pub(crate) mod status;
mod token;
