//! The text of a key file: a server key in plain text, or sealed.
//!
//! A sealed file contains the id of the server key and the name of what sealed it, so that both are known without an
//! HSM. The sealed text is bound to those lines: if they are changed, it does not open.

use std::fmt;

use tessera_token::{KeyError, ServerKey};
use zeroize::Zeroizing;

use crate::sealer::{Sealer, SealerError};

const TITLE: &str = "tessera sealed server key ";
const VERSION: &str = "1";

/// The content of a key file.
#[derive(Debug)]
pub(crate) enum KeyText {
    /// The server key in plain text.
    Plain(Box<ServerKey>),
    /// A sealed one.
    Sealed(SealedKey),
}

/// A server key that is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedKey {
    /// The id of the server key.
    pub(crate) id: String,
    /// What sealed it: see [`Sealer::key`].
    pub(crate) by: String,
    sealed: String,
}

/// A key file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyTextError {
    /// There is nothing in it.
    #[error(
        "it is empty: restore a copy of the key, or make a key with `tessera serverkey new`, which opens no earlier data"
    )]
    Empty,
    /// It is not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A sealed key was changed after it was written.
    #[error("it is a sealed key that is damaged: restore a copy of the file")]
    Damaged,
    /// A later version wrote it.
    #[error("it is a sealed key of version `{0}`, which a later version of tessera wrote: use that one")]
    Version(u32),
    /// Something else sealed it.
    #[error(
        "it is sealed with {by}, and [keys.sealer] names {ours}: name the first one, or seal the key again with `tessera serverkey reseal`"
    )]
    SealedByOther {
        /// What sealed it.
        by: String,
        /// The configured sealer.
        ours: String,
    },
    /// The sealer can't open it.
    #[error(transparent)]
    Sealer(#[from] SealerError),
}

impl KeyText {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// Fails if it has neither form.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyTextError> {
        // Some editors begin a file with this mark of its encoding.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(KeyTextError::Empty);
        }
        if text.trim_start().starts_with(TITLE) {
            SealedKey::parse(text.trim()).map(Self::Sealed)
        } else {
            Ok(Self::Plain(Box::new(ServerKey::parse(text)?)))
        }
    }

    /// The id of the server key.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Plain(key) => key.id(),
            Self::Sealed(key) => &key.id,
        }
    }
}

impl SealedKey {
    /// Seals a server key, and opens it again before it is used.
    ///
    /// # Errors
    /// Fails if the sealer does.
    pub(crate) fn seal(key: &ServerKey, sealer: &dyn Sealer) -> Result<Self, KeyTextError> {
        let head = head(key.id(), sealer.key());
        let sealed = Self {
            id: key.id().to_owned(),
            by: sealer.key().to_owned(),
            sealed: sealer.seal(&key.to_paserk(), head.as_bytes())?,
        };
        sealed.open(sealer)?;
        Ok(sealed)
    }

    /// The server key.
    ///
    /// # Errors
    /// Fails if something else sealed it, or if the sealer fails.
    pub(crate) fn open(&self, sealer: &dyn Sealer) -> Result<ServerKey, KeyTextError> {
        if self.by != sealer.key() {
            return Err(KeyTextError::SealedByOther {
                by: self.by.clone(),
                ours: sealer.key().to_owned(),
            });
        }
        let text: Zeroizing<String> = sealer.open(&self.sealed, head(&self.id, &self.by).as_bytes())?;
        let key = ServerKey::parse(&text)?;
        if key.id() == self.id {
            Ok(key)
        } else {
            Err(KeyTextError::Damaged)
        }
    }

    fn parse(text: &str) -> Result<Self, KeyTextError> {
        let version = text.lines().next().and_then(|line| line.strip_prefix(TITLE));
        if let Some(other) = version.filter(|version| *version != VERSION) {
            // Text that is not a number is not shown: it may be anything.
            let number = other.parse::<u32>().map_err(|_| KeyTextError::Damaged)?;
            return Err(KeyTextError::Version(number));
        }
        let (checked, check) = text.rsplit_once("\ncheck ").ok_or(KeyTextError::Damaged)?;
        let line = |number: usize, name: &str| {
            let value = checked.lines().nth(number)?.strip_prefix(name)?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        let parsed = (|| {
            Some(Self {
                id: line(1, "id ")?,
                by: line(2, "by ")?,
                sealed: line(3, "sealed ")?,
            })
        })();
        let parsed = parsed.ok_or(KeyTextError::Damaged)?;
        // Distinguishes an accidental change from a key that another key sealed.
        if check_of(checked) == check && parsed.checked() == checked {
            Ok(parsed)
        } else {
            Err(KeyTextError::Damaged)
        }
    }

    fn checked(&self) -> String {
        format!("{}sealed {}", head(&self.id, &self.by), self.sealed)
    }
}

/// The sealed text is bound to this.
fn head(id: &str, by: &str) -> String {
    format!("{TITLE}{VERSION}\nid {id}\nby {by}\n")
}

fn check_of(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

impl fmt::Display for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checked = self.checked();
        writeln!(f, "{checked}\ncheck {}", check_of(&checked))
    }
}

#[cfg(test)]
mod tests;
