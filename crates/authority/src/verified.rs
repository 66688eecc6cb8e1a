//! Tokens whose signature was verified before, or which were signed here.
//!
//! The cache saves verifying the signature, whose result never changes. Time, audience and revocation are checked on
//! every hit. An entry that turns out to be revoked or expired is dropped at once.

use std::sync::Arc;

use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use sha2::{Digest, Sha256};
use tessera_core::limits::TOKEN_BYTES_MAX;
use tessera_token::{Keyring, VerifyError, access, access::Verified};

/// The size of one cache slot: a token of ordinary length takes one slot. A longer one takes as many as it fills.
const PLACE_BYTES: usize = 1024;

/// One in this many slots is for tokens that were minted and not presented yet.
const MINTED_PART: u64 = 2;

/// Bounded caches, keyed by the hash of the whole token.
pub(crate) struct VerifiedTokens {
    /// Tokens that were presented. Tokens that are checked often stay, however many others are presented once.
    presented: Tokens,
    /// Tokens that were minted and not presented yet. The newest push out the oldest, but never a presented token.
    minted: Tokens,
}

type Tokens = Cache<[u8; 32], Kept, Places>;

#[derive(Clone)]
struct Kept {
    verified: Arc<Verified>,
    places: u32,
}

/// How many slots a token takes.
#[derive(Clone)]
struct Places;

impl Weighter<[u8; 32], Kept> for Places {
    fn weight(&self, _: &[u8; 32], kept: &Kept) -> u64 {
        u64::from(kept.places)
    }
}

/// A cache of `places` slots.
fn cache(places: u64, options: &mut OptionsBuilder) -> Tokens {
    let items = usize::try_from(places).unwrap_or(usize::MAX);
    let options = options.estimated_items_capacity(items).weight_capacity(places);
    let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
    match options.build() {
        Ok(options) => Cache::with_options(options, Places, hasher, lifecycle),
        // It fails only if no capacity is given.
        Err(_) => Cache::with(items, places, Places, hasher, lifecycle),
    }
}

impl VerifiedTokens {
    /// Keeps at most `capacity` tokens of an ordinary length, about 1.5 KiB each.
    pub(crate) fn new(capacity: u64) -> Self {
        let minted = capacity / MINTED_PART;
        Self {
            presented: cache(capacity - minted, &mut OptionsBuilder::new()),
            // Each is looked up once and then leaves: only its age counts.
            minted: cache(
                minted,
                OptionsBuilder::new().hot_allocation(0.0).ghost_allocation(0.0),
            ),
        }
    }

    /// Notes a token that was signed here: it needs no verification.
    pub(crate) fn note_minted(&self, token: &str, verified: Verified) {
        self.minted.insert(Self::hash(token), Kept::new(token, verified));
    }

    /// The content of `token`, whose signature is verified now or was verified before.
    pub(crate) fn verify(&self, token: &str, keyring: &Keyring) -> Result<Arc<Verified>, VerifyError> {
        let hash = Self::hash(token);
        if let Some(kept) = self.presented.get(&hash) {
            return Ok(kept.verified);
        }
        let kept = match self.minted.remove(&hash) {
            Some((_, kept)) => kept,
            None => Kept::new(token, access::verify_signature(token, keyring)?),
        };
        let verified = Arc::clone(&kept.verified);
        self.presented.insert(hash, kept);
        Ok(verified)
    }

    /// Whether the signature of `token` need not be verified again.
    pub(crate) fn has(&self, token: &str) -> bool {
        if token.len() > TOKEN_BYTES_MAX {
            return false;
        }
        let hash = Self::hash(token);
        self.presented.contains_key(&hash) || self.minted.contains_key(&hash)
    }

    /// Drops a token that is no longer valid.
    pub(crate) fn forget(&self, token: &str) {
        let hash = Self::hash(token);
        self.presented.remove(&hash);
        self.minted.remove(&hash);
    }

    fn hash(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }
}

impl Kept {
    fn new(token: &str, verified: Verified) -> Self {
        Self {
            verified: Arc::new(verified),
            places: u32::try_from(token.len().div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{AccessClaims, Seconds, Sequence};
    use tessera_token::{ServerKey, ServerKeys, SigningKeyPair};

    use super::*;
    use crate::testing::{at, client, realm, revision, scopes, token_id};

    /// The key that signed it is not in the keyring: no token verifies.
    const NO_KEYS: fn() -> Keyring = Keyring::default;

    fn minted() -> Verified {
        let (realm, signer) = (realm(), SigningKeyPair::generate().unwrap());
        let server_keys = ServerKeys::new(ServerKey::generate().unwrap(), Vec::new());
        let record = signer.to_record(&realm.name, Seconds::DAY, &server_keys, at(0));
        let keys = Keyring::from_records([&record.unwrap()], |_| Some(realm.issuer.clone())).unwrap();
        let claims = AccessClaims {
            issuer: realm.issuer,
            subject: tessera_core::Subject::parse("user:1").unwrap(),
            audience: tessera_core::Audience::parse("api").unwrap(),
            token_id: token_id(),
            issued_at: at(0),
            not_before: at(0),
            expires_at: at(300),
            scopes: scopes("videos:read"),
            roles: Vec::new(),
            realm: realm.name,
            client: client("client:app"),
            session: tessera_core::SessionId::from_bytes([1; 16]),
            generation: 1,
            rev: Sequence(0),
            policy: revision(1),
            labels: Vec::new(),
        };
        access::signed(claims, &keys, &signer).unwrap()
    }

    #[test]
    fn a_minted_token_needs_no_key_to_be_known_and_stays_known_once_presented() {
        let tokens = VerifiedTokens::new(16);
        assert!(tokens.verify("one", &NO_KEYS()).is_err());
        tokens.note_minted("one", minted());
        assert!(tokens.has("one") && !tokens.has("another"));
        for _ in 0..2 {
            assert!(tokens.verify("one", &NO_KEYS()).is_ok());
            assert!(tokens.has("one"));
        }
    }

    #[test]
    fn what_is_forgotten_is_forgotten_wherever_it_was() {
        let tokens = VerifiedTokens::new(16);
        for token in ["minted", "presented"] {
            tokens.note_minted(token, minted());
        }
        assert!(tokens.verify("presented", &NO_KEYS()).is_ok());
        for token in ["minted", "presented"] {
            tokens.forget(token);
            assert!(!tokens.has(token), "{token}");
            assert!(tokens.verify(token, &NO_KEYS()).is_err(), "{token}");
        }
    }

    #[test]
    fn minting_pushes_out_the_oldest_that_were_minted_and_nothing_that_was_presented() {
        let tokens = VerifiedTokens::new(16);
        tokens.note_minted("presented", minted());
        assert!(tokens.verify("presented", &NO_KEYS()).is_ok());
        let verified = minted();
        for number in 0..64 {
            tokens.note_minted(&format!("minted {number}"), verified.clone());
        }
        assert!(tokens.has("presented") && tokens.has("minted 63"));
        // One of the first tokens is kept, as if it were looked up often.
        let old = (0..56).filter(|number| tokens.has(&format!("minted {number}")));
        assert!(old.count() <= 1);
        assert!(tokens.minted.weight() <= 8);
    }
}
