//! The key of backups, and the authenticated encryption of a backup's chunks.
//!
//! Each file has its own key, derived from the backup key and the file's head. A chunk is encrypted with
//! XChaCha20-Poly1305 under a nonce that is its index, with a mark on the last one: a chunk that is changed, cut off,
//! moved, or taken from another file does not open.

use std::fmt;

use hkdf::Hkdf;
use orion::hazardous::aead::xchacha20poly1305::{Nonce, SecretKey, XChaCha20Poly1305};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyError, NoEntropy, local_secret::LocalSecret};

/// How many bytes encryption adds to a chunk.
pub const SEAL_BYTES: usize = 16;
/// The length of the nonce.
const NONCE_BYTES: usize = 24;

/// A backup key: 32 secret bytes, written as PASERK `k4.local.…`.
pub struct BackupKey {
    secret: LocalSecret,
    id: String,
}

/// Encrypts the chunks of one file.
pub struct ChunkKey(SecretKey);

/// The index of a chunk in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkIndex {
    /// How many chunks come before it.
    pub number: u64,
    /// Whether it is the last.
    pub is_last: bool,
}

const EXPECTED: &str = "a PASERK `k4.local.…` of 32 bytes, as `tessera backup key new` makes it";

impl BackupKey {
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

    /// The key of the file that begins with `head`, which contains random bytes: no two files may have the same.
    ///
    /// # Errors
    /// Fails if no key can be derived, which never happens.
    pub fn of_file(&self, head: &[u8]) -> Result<ChunkKey, KeyError> {
        let error = KeyError { expected: EXPECTED };
        let mut derived = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(head), self.secret.as_slice())
            .expand(b"tessera backup chunks v1", derived.as_mut_slice())
            .map_err(|_| error)?;
        let key = SecretKey::try_from(derived.as_slice()).map_err(|_| error)?;
        Ok(ChunkKey(key))
    }

    fn of(secret: LocalSecret) -> Result<Self, KeyError> {
        let id = LocalSecret::id_of(secret.as_slice())?;
        Ok(Self { secret, id })
    }
}

impl ChunkKey {
    /// Encrypts a chunk. No index may be used twice.
    #[must_use]
    pub fn seal(&self, index: ChunkIndex, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; plain.len().checked_add(SEAL_BYTES)?];
        let nonce = Nonce::try_from(nonce(index).as_slice()).ok()?;
        XChaCha20Poly1305::seal(&self.0, &nonce, plain, None, &mut sealed).ok()?;
        Some(sealed)
    }

    /// Decrypts a chunk; `None` if it is not what was encrypted with this key at this index.
    #[must_use]
    pub fn open(&self, index: ChunkIndex, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(vec![0; sealed.len().checked_sub(SEAL_BYTES)?]);
        let nonce = Nonce::try_from(nonce(index).as_slice()).ok()?;
        XChaCha20Poly1305::open(&self.0, &nonce, sealed, None, plain.as_mut_slice()).ok()?;
        Some(plain)
    }
}

/// The index and whether it is the last, after zeros.
fn nonce(index: ChunkIndex) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    let tail = index
        .number
        .to_be_bytes()
        .into_iter()
        .chain([u8::from(index.is_last)]);
    for (to, from) in nonce.iter_mut().rev().zip(tail.rev()) {
        *to = from;
    }
    nonce
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupKey({})", self.id)
    }
}

impl fmt::Debug for ChunkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: ChunkIndex = ChunkIndex {
        number: 7,
        is_last: false,
    };

    #[test]
    fn a_chunk_opens_only_as_what_it_is() {
        let key = BackupKey::generate().unwrap();
        let file = key.of_file(b"head one").unwrap();
        for plain in [&b""[..], b"rows"] {
            let sealed = file.seal(INDEX, plain).unwrap();
            assert_eq!(file.open(INDEX, &sealed).unwrap().as_slice(), plain);
            let others = [
                ChunkIndex { number: 8, ..INDEX },
                ChunkIndex {
                    is_last: true,
                    ..INDEX
                },
            ];
            for other in others {
                assert!(file.open(other, &sealed).is_none(), "{other:?}");
            }
            let of_others = [
                key.of_file(b"head two").unwrap(),
                BackupKey::generate().unwrap().of_file(b"head one").unwrap(),
            ];
            for other in of_others {
                assert!(other.open(INDEX, &sealed).is_none());
            }
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(file.open(INDEX, &changed).is_none(), "byte {at}");
            }
            assert!(file.open(INDEX, &sealed[..sealed.len() - 1]).is_none());
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_never_shown() {
        let key = BackupKey::generate().unwrap();
        let text = key.to_paserk();
        assert!(text.starts_with("k4.local."));
        assert_eq!(BackupKey::parse(&format!(" {}\n", *text)).unwrap().id(), key.id());
        assert_eq!(format!("{key:?}"), format!("BackupKey({})", key.id()));
        let file = key.of_file(b"").unwrap();
        assert_eq!(format!("{file:?}"), "ChunkKey");
        for bad in [
            "",
            "k4.local.",
            "k4.local.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            key.id(),
        ] {
            assert!(BackupKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_nonce_ends_with_the_index_and_the_mark() {
        let last = ChunkIndex {
            number: 0x0102,
            is_last: true,
        };
        let mut expected = [0; NONCE_BYTES];
        expected[21..].copy_from_slice(&[1, 2, 1]);
        assert_eq!(nonce(last), expected);
    }
}
