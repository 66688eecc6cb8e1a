//! The answers of a verifier.

use std::{fmt, sync::Arc, time::Duration};

use tessera_core::{AccessClaims, Scope};

/// The answer to a token.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The token is valid. The claims do not include scopes that policy took since it was issued.
    Allow(Arc<AccessClaims>),
    /// The token is not valid, however fresh the verifier is.
    Deny(DenyReason),
    /// The token would be valid, but a revocation may not be known here yet; or the key that signed it is not known
    /// here, and may be a new one. Refuse it for now.
    Stale {
        /// How stale the verifier may be and still allow tokens.
        bound: Duration,
        /// How stale it may actually be; `None` before it has ever been fresh.
        behind: Option<Duration>,
    },
}

/// Why a token is not valid. Tell the bearer only that it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyReason {
    /// Not the form of an access token.
    Malformed,
    /// Signed with a key that the realm does not have (or no longer has).
    UnknownKey,
    /// Not signed by that key, or with claims that the key may not sign.
    BadSignature,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// Issued for another service.
    WrongAudience,
    /// Issued in another realm.
    WrongRealm,
    /// It was revoked.
    Revoked,
    /// It lacks the required scope.
    ScopeMissing {
        /// The scope.
        required: Scope,
    },
    /// It had the required scope, and a change of policy took it.
    ScopeTaken {
        /// The scope.
        required: Scope,
    },
    /// The authority says that it is not active, or that this client may not know.
    Inactive,
}

/// What to do with a token that would be valid while the verifier is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refuse: answer [`Decision::Stale`].
    #[default]
    FailClosed,
    /// Ask the authority about this token; if it does not answer, refuse. How long that may take is set with
    /// [`VerifierOptions::calls`](super::VerifierOptions::calls).
    Introspect,
    /// Allow up to this staleness, and no further; never before the first snapshot. Calls of `AwaitPropagation` do not
    /// wait for tokens that such a route still allows.
    FailOpen {
        /// The greatest staleness.
        max: Duration,
    },
}

impl Decision {
    /// The claims of a token that is allowed.
    #[must_use]
    pub fn claims(&self) -> Option<&Arc<AccessClaims>> {
        match self {
            Self::Allow(claims) => Some(claims),
            Self::Deny(_) | Self::Stale { .. } => None,
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not an access token"),
            Self::UnknownKey => f.write_str("signed with an unknown key"),
            Self::BadSignature => f.write_str("the signature is wrong"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYetValid => f.write_str("the token is not valid yet"),
            Self::WrongAudience => f.write_str("the token is for another audience"),
            Self::WrongRealm => f.write_str("the token is of another realm"),
            Self::Revoked => f.write_str("the token was revoked"),
            Self::ScopeMissing { required } => write!(f, "the token lacks the scope `{required}`"),
            Self::ScopeTaken { required } => {
                write!(f, "policy no longer grants the scope `{required}`")
            }
            Self::Inactive => f.write_str("the token is not active"),
        }
    }
}
