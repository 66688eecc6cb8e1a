//! What the store keeps of a signing key.

use serde::{Deserialize, Serialize};

use crate::{
    id::KeyId,
    name::RealmName,
    time::{Seconds, Timestamp},
};

/// What a signing key is used for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyStatus {
    /// Seen by verifiers, not yet signing.
    Published,
    /// Signing.
    Active,
    /// Signs no more; what it signed stays valid until `not_after`.
    Retired,
    /// Nothing that it signed is valid.
    Revoked,
}

/// A signing key of a realm, its secret half sealed.
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
    /// When that was.
    pub sealed_at: Timestamp,
    /// What it is used for.
    pub status: KeyStatus,
    /// When verifiers could see it first.
    pub published_at: Timestamp,
    /// It signs nothing before this; of one that is published, when it may sign at the earliest.
    pub not_before: Timestamp,
    /// Nothing that it signed is alive after this; none while it signs. Of a revoked one, when it was revoked.
    pub not_after: Option<Timestamp>,
    /// The longest life of an access token that it may have signed.
    pub token_ttl_max: Seconds,
}
