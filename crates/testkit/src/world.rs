//! For the tests of Tessera itself: an authority with access to its store and its limits, called by the bare contract.
//!
//! Services that are tested with Tessera need [`TestAuthority`](crate::TestAuthority). This module changes with
//! Tessera, without a note in the changelog.

mod client;
mod fragile;
mod policy;
mod served;

pub use client::{Bearer, Client, access_token, fields, reason, refresh_token, seconds, strings, viewer};
pub use fragile::Fragile;
pub use policy::PolicyDirectory;
pub use served::{Setup, World, per_second, realm};
