//! What can go wrong where tokens are checked.

use tessera_core::ScopeSet;
use tessera_token::VerifyError;

use crate::error::{Unavailable, from_store};

/// Introspect failed; an inactive token is no failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IntrospectError {
    /// `at_least_as_fresh` is no cursor of this log.
    #[error("not a cursor of this log")]
    CursorInvalid,
    /// The log did not reach the place in time.
    #[error("the log did not reach that place in time")]
    NotFreshEnough,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A token is not good for what is wanted, or nobody can say.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    /// It is no good access token.
    #[error(transparent)]
    TokenRejection(#[from] TokenRejection),
    /// It is good, and has not, or no longer, these scopes.
    #[error("the token has not, or no longer, `{missing}`")]
    ScopesMissing {
        /// The scopes.
        missing: ScopeSet,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a token is not good. For the log: its bearer hears only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRejection {
    /// Signature, time, realm or audience; a refresh token and an API key are no access tokens.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// Revoked: by itself, or with its session, subject, client, label, key or realm.
    #[error("the token is revoked")]
    Revoked,
    /// Issued by a later state of this store, which was restored from a copy: no revocation would reach it.
    #[error("the token is of a later state of the data directory")]
    Ahead,
    /// Policy has left it no scope.
    #[error("the token has no scope left")]
    Emptied,
}

from_store!(IntrospectError);
