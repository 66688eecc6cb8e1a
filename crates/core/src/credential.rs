//! What a client authenticates with.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ApiKeyId;

/// Names the credential by which a client acted: sessions and audit records keep it, and everything of one can be
/// listed and ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CredentialId {
    /// An API key.
    ApiKey(ApiKeyId),
}

impl CredentialId {
    /// The API key, where it is one.
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

/// As indexes and digests have it: `api_key:jmr2xa67d3qm5rr8`.
impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => write!(f, "api_key:{id}"),
        }
    }
}
