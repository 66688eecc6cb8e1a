//! Errors of sessions.

use crate::error::{CallNotAllowed, Unavailable, from_entropy, from_store};

/// Revoke failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RevokeError {
    /// The target does not belong to the caller, and policy does not permit it.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A session can't be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// The realm has no such session, or the caller may not see it.
    #[error("no such session")]
    NotFound,
    /// The caller may not list these.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The page token does not belong to this listing.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(RevokeError, SessionError);
from_entropy!(RevokeError);
