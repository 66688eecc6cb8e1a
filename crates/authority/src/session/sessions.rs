//! The sessions that were issued.

use std::sync::Arc;

use crate::{
    credential::credentials::Credentials, shared::Shared, signing_key::signing_keys::SigningKeys,
    verified::VerifiedTokens,
};

/// Sessions: showing them, and ending them and what they depend on.
pub struct Sessions {
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) signing_keys: Arc<SigningKeys>,
    pub(super) verified: Arc<VerifiedTokens>,
}

impl Sessions {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        credentials: &Arc<Credentials>,
        signing_keys: &Arc<SigningKeys>,
        verified: &Arc<VerifiedTokens>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            credentials: Arc::clone(credentials),
            signing_keys: Arc::clone(signing_keys),
            verified: Arc::clone(verified),
        }
    }
}
