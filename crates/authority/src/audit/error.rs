//! What can go wrong with the audit trail.

use crate::error::{CallNotAllowed, Unavailable, from_store};

/// The audit trail can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The caller may not read it.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The page token is none of this listing's.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(AuditError);
