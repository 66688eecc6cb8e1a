//! Errors of signing keys.

use crate::error::{CallNotAllowed, SetupError, Unavailable, from_store};

/// A signing key can't be shown or replaced.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(SigningKeyError);

impl From<SetupError> for SigningKeyError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Store(error) => error.into(),
            SetupError::Entropy(error) => Self::Unavailable(error.into()),
            SetupError::WrongServerKey(_)
            | SetupError::ServerKeyMissing { .. }
            | SetupError::NoRealm
            | SetupError::RealmUnknown { .. } => {
                Self::Unavailable(Unavailable::Defect("a new signing key can't be sealed"))
            }
        }
    }
}
