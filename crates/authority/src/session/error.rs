//! What can go wrong with sessions.

use crate::error::{CallNotAllowed, Unavailable, from_entropy, from_store};

/// Revoke failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RevokeError {
    /// The target is not the caller's own, and policy does not permit.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A session can't be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none in the realm, or the caller may not see it.
    #[error("no such session")]
    NotFound,
    /// The caller may not list these.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The page token is none of this listing's.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(RevokeError, SessionError);
from_entropy!(RevokeError);
