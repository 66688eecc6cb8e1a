//! From wire messages to the domain and back: one file for each service, and others for what several share.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod key;
pub(crate) mod policy;
pub(crate) mod revocation;
pub(crate) mod revoke;
pub(crate) mod scope;
pub(crate) mod session;
pub(crate) mod signing_key;
pub(crate) mod time;
pub(crate) mod token;
