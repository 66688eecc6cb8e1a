//! What the store keeps of an API key.

use serde::{Deserialize, Serialize};

use crate::{
    id::ApiKeyId,
    name::{ClientName, RealmName},
    secret_hash::SecretHash,
    time::Timestamp,
};

/// An API key: its description and the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: ApiKeyId,
    /// The realm it works in.
    pub realm: RealmName,
    /// The client it speaks for.
    pub client: ClientName,
    /// The hash of its secret part; the secret itself is shown once and kept nowhere.
    pub secret_hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The day on which a call was last let in with it, as its first moment; none where none was. It is written a little
    /// later than the call.
    pub last_used_on: Option<Timestamp>,
    /// The key that replaced it, if it was rolled.
    pub successor: Option<ApiKeyId>,
    /// The key that it replaced, if another was rolled to it.
    pub replaces: Option<ApiKeyId>,
    /// The client whose key it was made with; none where the operator made it.
    pub made_by: Option<ClientName>,
    /// The key by which it was made: whose holder made it, or rolled the one that it replaces; none where the
    /// operator did.
    pub made_with: Option<ApiKeyId>,
    /// When this key and those that it replaces were rolled, the last few times.
    pub rolls: Vec<Timestamp>,
}

/// Whether an API key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyStatus {
    /// It works.
    Active,
    /// It has a successor and works until it expires.
    Rolled,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ApiKey {
    /// Whether the key works at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> ApiKeyStatus {
        if self.revoked_at.is_some() {
            ApiKeyStatus::Revoked
        } else if self.expires_at.is_some_and(|end| now >= end) {
            ApiKeyStatus::Expired
        } else if self.successor.is_some() {
            ApiKeyStatus::Rolled
        } else {
            ApiKeyStatus::Active
        }
    }

    /// Since when it has not worked at `now`; none where it does.
    #[must_use]
    pub fn dead_since(&self, now: Timestamp) -> Option<Timestamp> {
        let expired_at = self.expires_at.filter(|end| now >= *end);
        match (self.revoked_at, expired_at) {
            (Some(revoked_at), Some(expired_at)) => Some(revoked_at.min(expired_at)),
            (revoked_at, expired_at) => revoked_at.or(expired_at),
        }
    }

    /// Whether a call with this key is let in at `now`.
    #[must_use]
    pub fn works(&self, now: Timestamp) -> bool {
        matches!(self.status(now), ApiKeyStatus::Active | ApiKeyStatus::Rolled)
    }
}
