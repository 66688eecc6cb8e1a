//! The gRPC services: each method parses, calls one use case, and converts its answer.

mod api_key;
mod authorization;
mod health;
mod key;
mod policy;
mod revocation;
mod session;
mod signing_key;
mod token;

pub(crate) use api_key::ApiKeys;
pub(crate) use authorization::ExternalAuthorization;
pub(crate) use health::Healths;
pub(crate) use key::Keys;
pub(crate) use policy::Policies;
pub(crate) use revocation::Revocations;
pub(crate) use session::Sessions;
pub(crate) use signing_key::SigningKeys;
pub(crate) use token::Tokens;
