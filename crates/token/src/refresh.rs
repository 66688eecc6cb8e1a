//! Refresh tokens, and the ratchet that derives the next one.
//!
//! A refresh token is `tsr_` and a PASETO `v4.local` text over `{sid, gen, secret}`. Clients can't read it; a text that
//! does not decrypt never reaches a session, so guessing revokes no session.
//!
//! The secret of generation `n + 1` is HKDF(secret of `n`, ratchet key, session ‖ `n + 1`). A replay of `n` therefore
//! gives the *same* successor with nothing stored. Neither the store (which has hashes only) nor the server key alone
//! is enough to make a token.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tessera_core::{RequestId, SecretHash, SessionId, limits::TOKEN_BYTES_MAX};
use zeroize::Zeroizing;

use crate::{ApiKeySecret, NoEntropy, ServerKey, ServerKeys, local, random, wire};

/// The prefix of refresh tokens, so that people and secret scanners recognize one.
pub const PREFIX: &str = "tsr_";
/// The text to which the encryption is bound, so that nothing else encrypted with the same key passes as a refresh
/// token.
const IMPLICIT: &[u8] = b"tessera refresh token v1";

/// The secret of one generation: 32 bytes.
#[derive(Clone)]
pub struct RefreshSecret(Zeroizing<[u8; 32]>);

/// An opened refresh token, which this authority made.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// Its session.
    pub session: SessionId,
    /// Its generation.
    pub generation: u64,
    /// Its secret.
    pub secret: RefreshSecret,
    /// The server key that encrypts it, and so derives its successor.
    key_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    sid: SessionId,
    r#gen: u64,
    secret: &'a str,
}

impl RefreshSecret {
    /// A new random secret.
    ///
    /// # Errors
    /// Fails if the operating system provides no random numbers.
    pub fn generate() -> Result<Self, NoEntropy> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// The first secret of a session that an idempotent request began. A retry with the same API key derives the same
    /// secret; it can't be derived without the API key, which is stored nowhere.
    #[must_use]
    pub fn for_request(
        api_key: &ApiKeySecret,
        key: &ServerKey,
        session: SessionId,
        request: RequestId,
    ) -> Option<Self> {
        let info = [
            b"tessera first secret".as_slice(),
            session.as_bytes(),
            request.as_bytes(),
        ]
        .concat();
        derive(api_key.expose().as_bytes(), key, &info)
    }

    /// The hash that the store keeps.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let mut digest = Sha256::new();
        digest.update(b"tessera refresh secret v1");
        digest.update(self.0.as_slice());
        SecretHash::from_bytes(digest.finalize().into())
    }
}

impl RefreshToken {
    /// The first token of a session, made with the server key that derived its secret, so that a repeated request gets
    /// the same token; otherwise with the current one.
    #[must_use]
    pub fn first(session: SessionId, secret: RefreshSecret, key: &ServerKey) -> Self {
        Self {
            session,
            generation: 1,
            secret,
            key_id: key.id().to_owned(),
        }
    }

    /// Opens a refresh token. `None` if it is malformed, too long, or not made by one of `keys`.
    #[must_use]
    pub fn open(text: &str, keys: &ServerKeys) -> Option<Self> {
        let paseto = text.strip_prefix(PREFIX)?;
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let untrusted = local::Untrusted::parse(paseto)?;
        let key = keys.by_id(wire::key_id_of(untrusted.footer())?)?;
        let payload = key.decrypt(&untrusted, IMPLICIT)?;
        let payload: Payload<'_> = serde_json::from_str(&payload).ok()?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.secret).ok()?);
        Some(Self {
            session: payload.sid,
            generation: payload.r#gen,
            secret: RefreshSecret(Zeroizing::new(secret.as_slice().try_into().ok()?)),
            key_id: key.id().to_owned(),
        })
    }

    /// The token of the next generation, by the ratchet. `None` if the server key that made this token is gone, or if
    /// the generations are used up.
    #[must_use]
    pub fn successor(&self, keys: &ServerKeys) -> Option<Self> {
        let generation = self.generation.checked_add(1)?;
        let info = [
            b"tessera ratchet".as_slice(),
            self.session.as_bytes(),
            &generation.to_be_bytes(),
        ]
        .concat();
        let secret = derive(self.secret.0.as_slice(), keys.by_id(&self.key_id)?, &info)?;
        Some(Self {
            session: self.session,
            generation,
            secret,
            key_id: keys.current().id().to_owned(),
        })
    }

    /// The token in the form that the client gets, encrypted with the server key that made it: the same text each time.
    #[must_use]
    pub fn seal(&self, keys: &ServerKeys) -> Option<Zeroizing<String>> {
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.0.as_slice()));
        let payload = Payload {
            sid: self.session,
            r#gen: self.generation,
            secret: &secret,
        };
        let message = Zeroizing::new(serde_json::to_vec(&payload).ok()?);
        let key = keys.by_id(&self.key_id)?;
        let paseto = key.encrypt(&message, wire::footer(key.id()).as_bytes(), IMPLICIT)?;
        Some(Zeroizing::new(format!("{PREFIX}{paseto}")))
    }
}

fn derive(secret: &[u8], key: &ServerKey, info: &[u8]) -> Option<RefreshSecret> {
    let mut derived = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(key.ratchet()), secret)
        .expand(info, derived.as_mut_slice())
        .ok()?;
    Some(RefreshSecret(derived))
}

impl fmt::Debug for RefreshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshSecret(..)")
    }
}
