//! Tokens whose signature was verified before.
//!
//! The cache spares the signature, which never changes its mind; time, audience and revocation are asked
//! on every hit. An entry that turns out to be revoked or expired is dropped there and then.

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tessera_core::limits::TOKEN_BYTES_MAX;
use tessera_token::{Keyring, VerifyError, access, access::Verified};

/// What a token of an ordinary length takes of the cache: one place. Longer ones take as many as fit into them.
const PLACE_BYTES: usize = 1024;

/// A bounded cache, by the hash of the whole token.
pub(crate) struct VerifiedTokens(Cache<[u8; 32], Kept>);

#[derive(Clone)]
struct Kept {
    verified: Arc<Verified>,
    places: u32,
}

impl VerifiedTokens {
    /// Keeps at most `capacity` tokens of an ordinary length, about 1.5 KiB each.
    pub(crate) fn new(capacity: u64) -> Self {
        let cache = Cache::builder().max_capacity(capacity);
        Self(cache.weigher(|_, kept: &Kept| kept.places).build())
    }

    /// The content of `token`, its signature verified now or before.
    pub(crate) fn verify(&self, token: &str, keyring: &Keyring) -> Result<Arc<Verified>, VerifyError> {
        let hash = Self::hash(token);
        if let Some(kept) = self.0.get(&hash) {
            return Ok(kept.verified);
        }
        let verified = Arc::new(access::verify_signature(token, keyring)?);
        let kept = Kept {
            verified: Arc::clone(&verified),
            places: u32::try_from(token.len().div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX),
        };
        self.0.insert(hash, kept);
        Ok(verified)
    }

    /// Whether the signature of `token` was verified before.
    pub(crate) fn has(&self, token: &str) -> bool {
        token.len() <= TOKEN_BYTES_MAX && self.0.contains_key(&Self::hash(token))
    }

    /// Drops a token that is not valid any more.
    pub(crate) fn forget(&self, token: &str) {
        self.0.invalidate(&Self::hash(token));
    }

    fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }
}
