//! The authority's own secret, and the keys derived from it.

use std::fmt;

use hkdf::Hkdf;
use pasetors::{
    Local,
    keys::SymmetricKey,
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tessera_core::{Cursor, CursorTag};
use zeroize::Zeroizing;

use crate::{
    CheckpointKey, CheckpointPublicKey, KeyError, NoEntropy, local,
    local_secret::{LocalSecret, WEAK},
};

/// A server key: 32 secret bytes, written as PASERK `k4.local.…`. Derived from it are the key that encrypts refresh
/// tokens, the key of the ratchet, and the key that seals signing keys.
pub struct ServerKey {
    master: LocalSecret,
    id: String,
    encryption: SymmetricKey<V4>,
    nonce: Zeroizing<[u8; 32]>,
    ratchet: Zeroizing<[u8; 32]>,
    cursors: Zeroizing<[u8; 32]>,
    sealing: SymmetricKey<V4>,
    checkpoints: CheckpointKey,
}

/// The current server key, and earlier ones that may still open what they sealed.
#[derive(Debug)]
pub struct ServerKeys {
    current: ServerKey,
    previous: Vec<ServerKey>,
}

const EXPECTED: &str = "a PASERK `k4.local.…` of 32 bytes, as `tessera serverkey new` makes it";

impl ServerKey {
    /// A new random key.
    ///
    /// # Errors
    /// Fails if the operating system provides no random numbers.
    pub fn generate() -> Result<Self, NoEntropy> {
        Self::of(LocalSecret::generate()?).map_err(|_| NoEntropy)
    }

    /// Parses a PASERK `k4.local.…`; white space around it is ignored.
    ///
    /// # Errors
    /// Fails if `text` is not such a key, or if its bytes are all equal, which is never true of a real key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::of(LocalSecret::parse(text, EXPECTED)?)
    }

    /// The key as PASERK: a secret, for the key file only.
    #[must_use]
    pub fn to_paserk(&self) -> Zeroizing<String> {
        self.master.to_paserk()
    }

    /// The PASERK id of the key that encrypts refresh tokens, `k4.lid.…`: not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn of(master: LocalSecret) -> Result<Self, KeyError> {
        let weak = KeyError { expected: WEAK };
        let derive = |purpose: &str| -> Result<Zeroizing<[u8; 32]>, KeyError> {
            let mut derived = Zeroizing::new([0; 32]);
            Hkdf::<Sha256>::new(None, master.as_slice())
                .expand(purpose.as_bytes(), derived.as_mut_slice())
                .map_err(|_| weak)?;
            Ok(derived)
        };
        let symmetric = |purpose: &str| -> Result<SymmetricKey<V4>, KeyError> {
            SymmetricKey::from(derive(purpose)?.as_slice()).map_err(|_| weak)
        };
        let encryption = symmetric("tessera refresh encryption v1")?;
        let id = LocalSecret::id_of(encryption.as_bytes())?;
        Ok(Self {
            id,
            encryption,
            nonce: derive("tessera refresh nonce v1")?,
            ratchet: derive("tessera refresh ratchet v1")?,
            cursors: derive("tessera cursor authentication v1")?,
            sealing: symmetric("tessera signing key sealing v1")?,
            checkpoints: CheckpointKey::from_seed(&derive("tessera audit checkpoint signing v1")?)?,
            master,
        })
    }

    fn cursor_tag(&self, cursor: &Cursor) -> CursorTag {
        let tag = local::mac(self.cursors.as_slice(), 16, &[&cursor.authenticated()]);
        // Keys of this length are always accepted; a tag of zeros never occurs in a cursor.
        CursorTag(tag.and_then(|tag| tag.try_into().ok()).unwrap_or_default())
    }

    /// The key that signs checkpoints of the audit trail.
    #[must_use]
    pub fn checkpoints(&self) -> &CheckpointKey {
        &self.checkpoints
    }

    pub(crate) fn ratchet(&self) -> &[u8; 32] {
        &self.ratchet
    }

    /// Encrypts deterministically: see the `local` module.
    pub(crate) fn encrypt(&self, message: &[u8], footer: &[u8], implicit: &[u8]) -> Option<String> {
        let nonce = local::mac(self.nonce.as_slice(), 32, &[message])?
            .try_into()
            .ok()?;
        let key = self.encryption.as_bytes().try_into().ok()?;
        local::encrypt(key, &nonce, message, footer, implicit)
    }

    pub(crate) fn decrypt(&self, token: &local::Untrusted, implicit: &[u8]) -> Option<Zeroizing<String>> {
        token.decrypt(self.encryption.as_bytes().try_into().ok()?, implicit)
    }

    /// Seals `secret` for the store, bound to its purpose.
    pub(crate) fn seal(&self, secret: &[u8], purpose: &str) -> Option<String> {
        LocalToken::encrypt(&self.sealing, secret, None, Some(purpose.as_bytes())).ok()
    }

    fn unseal(&self, sealed: &str, purpose: &str) -> Option<Zeroizing<String>> {
        let untrusted = UntrustedToken::<Local, V4>::try_from(sealed).ok()?;
        let trusted = LocalToken::decrypt(&self.sealing, &untrusted, None, Some(purpose.as_bytes())).ok()?;
        Some(Zeroizing::new(trusted.payload().to_owned()))
    }
}

impl ServerKeys {
    /// `current` makes new tokens and seals; `previous` still open what they made.
    #[must_use]
    pub fn new(current: ServerKey, previous: Vec<ServerKey>) -> Self {
        Self { current, previous }
    }

    /// The key that makes new tokens and seals.
    #[must_use]
    pub fn current(&self) -> &ServerKey {
        &self.current
    }

    /// The cursor with its tag.
    #[must_use]
    pub fn authenticate_cursor(&self, cursor: Cursor) -> Cursor {
        Cursor {
            tag: self.current.cursor_tag(&cursor),
            ..cursor
        }
    }

    /// Whether an authority with one of these keys gave the cursor.
    #[must_use]
    pub fn gave_cursor(&self, cursor: &Cursor) -> bool {
        self.all()
            .any(|key| bool::from(key.cursor_tag(cursor).0.ct_eq(&cursor.tag.0)))
    }

    /// The keys that check the checkpoints that these keys signed.
    pub fn checkpoint_keys(&self) -> impl Iterator<Item = &CheckpointPublicKey> {
        self.all().map(|key| key.checkpoints.public())
    }

    /// The ids of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.all().map(ServerKey::id)
    }

    /// The key with this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&ServerKey> {
        self.all().find(|key| key.id == id)
    }

    pub(crate) fn unseal(&self, sealed: &str, purpose: &str) -> Option<Zeroizing<String>> {
        self.all().find_map(|key| key.unseal(sealed, purpose))
    }

    /// The earlier keys.
    #[must_use]
    pub fn previous(&self) -> &[ServerKey] {
        &self.previous
    }

    /// The current key, then the earlier ones.
    pub fn all(&self) -> impl Iterator<Item = &ServerKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.id)
    }
}
