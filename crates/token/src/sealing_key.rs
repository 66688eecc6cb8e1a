//! The key that seals a server key at rest, if no HSM does.

use std::fmt;

use hkdf::Hkdf;
use pasetors::{
    Local,
    keys::SymmetricKey,
    token::UntrustedToken,
    version4::{LocalToken, V4},
};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    KeyError, NoEntropy,
    local_secret::{LocalSecret, WEAK},
};

/// A sealing key: 32 secret bytes, written as PASERK `k4.local.…`. A sealed text is PASETO `v4.local`, under a key that
/// is derived for this purpose alone.
pub struct SealingKey {
    secret: LocalSecret,
    encryption: SymmetricKey<V4>,
    id: String,
}

const EXPECTED: &str = "a PASERK `k4.local.…` of 32 bytes, as `tessera serverkey new-sealing-key` makes it";

impl SealingKey {
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
        self.secret.to_paserk()
    }

    /// Its PASERK id, `k4.lid.…`: not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a text, bound to `bound`, without which it does not open; `None` if it can't be sealed, which never
    /// happens.
    #[must_use]
    pub fn seal(&self, secret: &str, bound: &[u8]) -> Option<String> {
        LocalToken::encrypt(&self.encryption, secret.as_bytes(), None, Some(bound)).ok()
    }

    /// Opens what this key sealed; `None` if another key did, or if it was bound to something else.
    #[must_use]
    pub fn open(&self, sealed: &str, bound: &[u8]) -> Option<Zeroizing<String>> {
        let untrusted = UntrustedToken::<Local, V4>::try_from(sealed).ok()?;
        let trusted = LocalToken::decrypt(&self.encryption, &untrusted, None, Some(bound)).ok()?;
        Some(Zeroizing::new(trusted.payload().to_owned()))
    }

    fn of(secret: LocalSecret) -> Result<Self, KeyError> {
        let weak = KeyError { expected: WEAK };
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, secret.as_slice())
            .expand(b"tessera server key sealing v1", derived.as_mut_slice())
            .map_err(|_| weak)?;
        let id = LocalSecret::id_of(secret.as_slice())?;
        Ok(Self {
            encryption: SymmetricKey::from(derived.as_slice()).map_err(|_| weak)?,
            secret,
            id,
        })
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_as_what_it_is_bound_to() {
        let key = SealingKey::generate().unwrap();
        let sealed = key.seal("secret", b"head").unwrap();
        assert_eq!(key.open(&sealed, b"head").unwrap().as_str(), "secret");
        assert_ne!(key.seal("secret", b"head").unwrap(), sealed, "no nonce twice");
        assert!(key.open(&sealed, b"Head").is_none());
        assert!(SealingKey::generate().unwrap().open(&sealed, b"head").is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let opened = key.open(&changed, b"head");
            // The last character of base64 has unused bits.
            assert!(opened.is_none() || at + 1 == sealed.len(), "byte {at}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_never_shown() {
        let key = SealingKey::generate().unwrap();
        let text = key.to_paserk();
        assert_eq!(
            SealingKey::parse(&format!(" {}\n", *text)).unwrap().id(),
            key.id()
        );
        assert_eq!(format!("{key:?}"), format!("SealingKey({})", key.id()));
        for bad in [
            "",
            "k4.local.",
            "k4.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            key.id(),
        ] {
            assert!(SealingKey::parse(bad).is_err(), "{bad}");
        }
    }
}
