//! Why a session was revoked.

use serde::{Deserialize, Serialize};

/// Why a session was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RevokeReason {
    /// An authorized caller requested it.
    Requested,
    /// A spent refresh token was used.
    Reuse,
    /// Everything of its subject ended.
    Subject,
    /// Everything of its client ended.
    Client,
    /// Everything with one of its labels ended.
    Label,
    /// Everything of its realm ended.
    Realm,
    /// The API key that began it was revoked.
    ApiKey,
    /// A change of policy left it no scope, or the realm ends sessions that lose a scope.
    Policy,
}

impl RevokeReason {
    /// The reason on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "revoked",
            Self::Reuse => "reuse",
            Self::Subject => "subject_revoked",
            Self::Client => "client_revoked",
            Self::Label => "label_revoked",
            Self::Realm => "realm_revoked",
            Self::ApiKey => "api_key_revoked",
            Self::Policy => "policy",
        }
    }
}
