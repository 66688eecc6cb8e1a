//! API keys: `tsk_production_…` and `tsk_sandbox_…`.
//!
//! The prefix is followed by 16 characters that name the key, 32 that are its secret (160 random bits), and 6 of a
//! checksum, so that a typo is noticed without a look-up.

use std::fmt;

use sha2::{Digest, Sha256};
use tessera_core::{ApiKeyId, RealmKind, SecretHash};
use zeroize::Zeroizing;

use crate::{KeyError, NoEntropy, random};

const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
/// Crockford's base 32: no `i`, `l`, `o`, `u`, so it survives being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An API key in the form that its client holds.
#[derive(Clone)]
pub struct ApiKeySecret {
    text: Zeroizing<String>,
    kind: RealmKind,
    id: ApiKeyId,
}

impl ApiKeySecret {
    /// A new random key for a realm of this kind.
    ///
    /// # Errors
    /// Fails if the operating system provides no random numbers.
    pub fn generate(kind: RealmKind) -> Result<Self, NoEntropy> {
        let random = Zeroizing::new(random::<{ ID_LENGTH + SECRET_LENGTH }>()?);
        let body: Zeroizing<String> =
            Zeroizing::new(random.iter().map(|byte| base32_digit(u32::from(*byte))).collect());
        let mut text = Zeroizing::new(format!("tsk_{kind}_{}", *body));
        text.extend(checksum(kind, &body));
        Self::parse(&text).map_err(|_| NoEntropy)
    }

    /// Parses a key.
    ///
    /// # Errors
    /// Fails if the text does not have the form of a key, or if its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // A key from a file, or from a secret that was written with `echo`, ends with a line feed.
        Self::parse_parts(text.trim()).ok_or(KeyError {
            expected: "an API key, `tsk_production_…` or `tsk_sandbox_…`, copied whole",
        })
    }

    fn parse_parts(text: &str) -> Option<Self> {
        let (kind, rest) = RealmKind::ALL.iter().find_map(|kind| {
            text.strip_prefix("tsk_")?
                .strip_prefix(kind.as_str())?
                .strip_prefix('_')
                .map(|rest| (*kind, rest))
        })?;
        if rest.len() != ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH || !rest.bytes().all(is_base32) {
            return None;
        }
        let (body, given) = rest.split_at_checked(ID_LENGTH + SECRET_LENGTH)?;
        if !checksum(kind, body).eq(given.chars()) {
            return None;
        }
        let id = ApiKeyId::parse(body.get(..ID_LENGTH)?).ok()?;
        Some(Self {
            text: Zeroizing::new(text.to_owned()),
            kind,
            id,
        })
    }

    /// The part that names the key.
    #[must_use]
    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    /// The kind of realm that the key names.
    #[must_use]
    pub fn kind(&self) -> RealmKind {
        self.kind
    }

    /// The hash that the store keeps. A fast hash is enough for 160 random bits.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let mut digest = Sha256::new();
        digest.update(b"tessera api key v1");
        digest.update(self.text.as_bytes());
        SecretHash::from_bytes(digest.finalize().into())
    }

    /// The key itself, to be shown to its client once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

fn checksum(kind: RealmKind, body: &str) -> impl Iterator<Item = char> {
    let mut sum = crc32fast::Hasher::new();
    for part in [kind.as_str(), "_", body] {
        sum.update(part.as_bytes());
    }
    let sum = sum.finalize();
    (0..CHECKSUM_LENGTH).map(move |digit| base32_digit(sum >> (5 * digit)))
}

/// Whether [`ALPHABET`] has it. Each authenticated call checks all characters of its key with it.
fn is_base32(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !matches!(byte, b'i' | b'l' | b'o' | b'u')
}

/// The digit for the lowest five bits.
fn base32_digit(bits: u32) -> char {
    ALPHABET
        .get((bits & 31) as usize)
        .copied()
        .map_or('0', char::from)
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeySecret({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_what_is_taken() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_base32(byte), ALPHABET.contains(&byte), "{byte}");
        }
    }
}
