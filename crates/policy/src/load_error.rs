//! Why there is no policy.

use crate::{diagnostic::PolicyError, work::Stopped};

/// Why there is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The files are wrong.
    Refused(PolicyError),
    /// It is not known whether the files are wrong.
    Stopped,
}

impl From<PolicyError> for LoadError {
    fn from(error: PolicyError) -> Self {
        Self::Refused(error)
    }
}

impl From<Stopped> for LoadError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}
