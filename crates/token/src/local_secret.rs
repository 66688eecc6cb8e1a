//! 32 secret bytes as PASERK `k4.local.…`: the content of each key of this authority that is kept in a file.

use pasetors::{
    keys::SymmetricKey,
    paserk::{FormatAsPaserk, Id},
    version4::V4,
};
use zeroize::Zeroizing;

use crate::{KeyError, NoEntropy, random};

/// The bytes. Only [`to_paserk`](Self::to_paserk) shows them.
pub(crate) struct LocalSecret(Zeroizing<[u8; 32]>);

impl LocalSecret {
    /// Random bytes.
    pub(crate) fn generate() -> Result<Self, NoEntropy> {
        Self::checked(Zeroizing::new(random()?)).map_err(|_| NoEntropy)
    }

    /// Parses a PASERK; white space around it is ignored. Bytes that are all equal are refused, which is never true of
    /// a real key.
    pub(crate) fn parse(text: &str, expected: &'static str) -> Result<Self, KeyError> {
        let error = KeyError { expected };
        let key = SymmetricKey::<V4>::try_from(text.trim()).map_err(|_| error)?;
        let bytes = key.as_bytes().try_into().map_err(|_| error)?;
        Self::checked(Zeroizing::new(bytes))
    }

    /// A secret, for a key file only.
    pub(crate) fn to_paserk(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        if let Ok(key) = SymmetricKey::<V4>::from(self.as_slice()) {
            // Writing to a string can't fail.
            let _ = key.fmt(&mut *text);
        }
        text
    }

    /// The PASERK id of a key, `k4.lid.…`: not secret.
    pub(crate) fn id_of(key: &[u8]) -> Result<String, KeyError> {
        let weak = KeyError { expected: WEAK };
        let key = SymmetricKey::<V4>::from(key).map_err(|_| weak)?;
        let mut id = String::new();
        Id::from(&key).fmt(&mut id).map_err(|_| weak)?;
        Ok(id)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn checked(bytes: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(KeyError { expected: WEAK });
        }
        Ok(Self(bytes))
    }
}

/// A description of bytes that can be a key.
pub(crate) const WEAK: &str = "32 random bytes";
