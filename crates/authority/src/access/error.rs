//! Errors of token checks.

use tessera_core::ScopeSet;
use tessera_token::VerifyError;

use crate::error::{Unavailable, from_store};

/// Introspect failed; an inactive token is not a failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IntrospectError {
    /// `at_least_as_fresh` is no cursor of this log.
    #[error("not a cursor of this log")]
    CursorInvalid,
    /// The log did not reach the position in time.
    #[error("the log did not reach that place in time")]
    NotFreshEnough,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A token does not permit the required access, or the authority can't say whether it does.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    /// It is not a valid access token.
    #[error(transparent)]
    TokenRejection(#[from] TokenRejection),
    /// It is valid, but does not have, or no longer has, these scopes.
    #[error("the token has not, or no longer, `{missing}`")]
    ScopesMissing {
        /// The scopes.
        missing: ScopeSet,
    },
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a token is not valid. For the log only: its bearer learns only that it is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRejection {
    /// Signature, time, realm or audience is wrong; refresh tokens and API keys are not access tokens.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// Revoked: by itself, or with its session, subject, client, label, key or realm.
    #[error("the token is revoked")]
    Revoked,
    /// Issued by a later state of this store, which was restored from a copy: no revocation would apply to it.
    #[error("the token is of a later state of the data directory")]
    Ahead,
    /// Policy has left it no scope.
    #[error("the token has no scope left")]
    Emptied,
}

from_store!(IntrospectError);
