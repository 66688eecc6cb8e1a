//! The stored data of a signing key.

use serde::{Deserialize, Serialize};

use crate::{
    id::KeyId,
    name::RealmName,
    time::{Seconds, Timestamp},
};

/// The status of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyStatus {
    /// Known to verifiers, not signing yet.
    Published,
    /// Signing.
    Active,
    /// No longer signs; what it signed stays valid until `not_after`.
    Retired,
    /// Nothing that it signed is valid.
    Revoked,
}

/// A signing key of a realm, with its secret half sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// The PASERK id of the public half.
    pub id: KeyId,
    /// The realm.
    pub realm: RealmName,
    /// The public half as PASERK `k4.public.…`.
    pub public: String,
    /// The secret half, encrypted with the authority's key: useless without it.
    pub sealed_secret: String,
    /// The id of the server key that sealed it.
    pub sealed_with: String,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Its status.
    pub status: KeyStatus,
    /// When verifiers could first see it.
    pub published_at: Timestamp,
    /// It signs nothing before this; for a published one, the earliest time at which it may sign.
    pub not_before: Timestamp,
    /// Nothing that it signed is valid after this; for a revoked one, when it was revoked. `None` if it is published or
    /// active.
    pub not_after: Option<Timestamp>,
    /// The longest lifetime of an access token that it may have signed.
    pub token_ttl_max: Seconds,
}
