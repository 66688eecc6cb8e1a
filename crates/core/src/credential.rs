//! The credential with which a client authenticates.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ApiKeyId;

/// Identifies the credential with which a client acted: sessions and audit records keep it, and everything of one
/// credential can be listed and ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CredentialId {
    /// An API key.
    ApiKey(ApiKeyId),
}

impl CredentialId {
    /// The API key, if it is one.
    #[must_use]
    pub fn api_key(&self) -> Option<&ApiKeyId> {
        match self {
            Self::ApiKey(id) => Some(id),
        }
    }
}

impl From<ApiKeyId> for CredentialId {
    fn from(id: ApiKeyId) -> Self {
        Self::ApiKey(id)
    }
}

/// The form in indexes and digests: `api_key:jmr2xa67d3qm5rr8`.
impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => write!(f, "api_key:{id}"),
        }
    }
}
