//! Tokens whose signature was verified before.
//!
//! The cache spares the signature, which never changes its mind; time, audience and revocation are asked
//! on every hit. An entry that turns out to be revoked or expired is dropped there and then.

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tessera_token::{Keyring, TOKEN_LENGTH_MAX, VerifyError, access, access::Verified};

/// A bounded cache, by the hash of the whole token.
pub(crate) struct VerifiedTokens(Cache<[u8; 32], Arc<Verified>>);

impl VerifiedTokens {
    /// Keeps at most `capacity` tokens, about 1.5 KiB each.
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    /// The content of `token`, its signature verified now or before.
    pub(crate) fn verify(&self, token: &str, keyring: &Keyring) -> Result<Arc<Verified>, VerifyError> {
        let hash = Self::hash(token);
        if let Some(verified) = self.0.get(&hash) {
            return Ok(verified);
        }
        let verified = Arc::new(access::verify_signature(token, keyring)?);
        self.0.insert(hash, Arc::clone(&verified));
        Ok(verified)
    }

    /// Whether the signature of `token` was verified before.
    pub(crate) fn has(&self, token: &str) -> bool {
        token.len() <= TOKEN_LENGTH_MAX && self.0.contains_key(&Self::hash(token))
    }

    /// Drops a token that is not valid any more.
    pub(crate) fn forget(&self, token: &str) {
        self.0.invalidate(&Self::hash(token));
    }

    fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }
}
