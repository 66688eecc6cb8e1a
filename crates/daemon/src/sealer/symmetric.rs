//! A sealing key that is in a file or in the environment.

use std::{env, path::Path};

use tessera_core::read_small_text;
use tessera_token::SealingKey;
use zeroize::Zeroizing;

use super::{error::SealerError, seal::Sealer};

/// The variable with the sealing key.
const SEALING_KEY_VARIABLE: &str = "TESSERA_SEALING_KEY";

/// A sealing key in memory.
pub(super) struct Symmetric {
    key: SealingKey,
    /// Its id. A key that moves from a file to the environment keeps it.
    name: String,
}

/// The sealing key of a file.
pub(super) fn in_file(path: &Path) -> Result<Symmetric, SealerError> {
    let text = read_small_text(path).map_err(|source| SealerError::File {
        path: path.to_owned(),
        source,
    })?;
    parse(&Zeroizing::new(text), || format!("in `{}`", path.display()))
}

/// The sealing key of the environment.
pub(super) fn in_environment() -> Result<Symmetric, SealerError> {
    let missing = SealerError::NoSealingKey(SEALING_KEY_VARIABLE);
    let Some(value) = env::var_os(SEALING_KEY_VARIABLE).filter(|value| !value.is_empty()) else {
        return Err(missing);
    };
    let text = Zeroizing::new(value.to_string_lossy().into_owned());
    parse(&text, || format!("in {SEALING_KEY_VARIABLE}"))
}

fn parse(text: &str, place: impl FnOnce() -> String) -> Result<Symmetric, SealerError> {
    let key = SealingKey::parse(text).map_err(|source| SealerError::SealingKey {
        place: place(),
        source,
    })?;
    Ok(Symmetric::new(key))
}

impl Symmetric {
    pub(super) fn new(key: SealingKey) -> Self {
        let name = format!("key {}", key.id());
        Self { key, name }
    }

    pub(super) fn text(&self) -> Zeroizing<String> {
        self.key.to_paserk()
    }
}

impl Sealer for Symmetric {
    fn key(&self) -> &str {
        &self.name
    }

    fn seal(&self, secret: &str, bound: &[u8]) -> Result<String, SealerError> {
        self.key.seal(secret, bound).ok_or_else(|| self.does_not())
    }

    fn open(&self, sealed: &str, bound: &[u8]) -> Result<Zeroizing<String>, SealerError> {
        self.key.open(sealed, bound).ok_or_else(|| self.does_not())
    }
}

impl Symmetric {
    fn does_not(&self) -> SealerError {
        SealerError::DoesNotOpen {
            key: self.name.clone(),
            said: String::new(),
        }
    }
}
