//! What issues tokens.

use std::sync::Arc;

use tessera_core::limits::TOKEN_BYTES_MAX;

use crate::{
    credential::credentials::Credentials, issuance::refresh::outcome::RefreshCounts, refusal::Refusals,
    shared::Shared, signing_key::signing_keys::SigningKeys, verified::VerifiedTokens,
};

/// Issuing tokens: beginning sessions, and refreshing them.
pub struct Issuance {
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) signing_keys: Arc<SigningKeys>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) verified: Arc<VerifiedTokens>,
    pub(super) refreshes: RefreshCounts,
    /// The longest access token that is issued.
    pub(super) token_bytes_max: usize,
}

impl Issuance {
    /// `token_bytes_max` is the longest access token that is issued, in bytes.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        credentials: &Arc<Credentials>,
        signing_keys: &Arc<SigningKeys>,
        refusals: &Arc<Refusals>,
        verified: &Arc<VerifiedTokens>,
        token_bytes_max: usize,
    ) -> Self {
        Self {
            refreshes: RefreshCounts::of(shared.realms.keys()),
            shared: Arc::clone(shared),
            credentials: Arc::clone(credentials),
            signing_keys: Arc::clone(signing_keys),
            refusals: Arc::clone(refusals),
            verified: Arc::clone(verified),
            // No verifier or proxy would read longer ones.
            token_bytes_max: token_bytes_max.min(TOKEN_BYTES_MAX),
        }
    }
}
