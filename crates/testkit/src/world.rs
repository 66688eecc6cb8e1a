//! For the tests of Tessera itself: an authority down to its store and its limits, called by the contract as it is.
//!
//! Services that are tested with Tessera want [`TestAuthority`](crate::TestAuthority). What is here changes as
//! Tessera does, without a word in the changelog.

mod client;
mod fragile;
mod policy;
mod served;

pub use client::{Bearer, Client, access_token, fields, reason, refresh_token, seconds, strings, viewer};
pub use fragile::Fragile;
pub use policy::PolicyDirectory;
pub use served::{Setup, World, per_second, realm};
