//! Errors of the audit trail.

use crate::error::{CallNotAllowed, Unavailable, from_store};

/// The audit trail can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The caller may not read it.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The page token does not belong to this listing.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(AuditError);
