//! The interface of a sealer.

use zeroize::Zeroizing;

use super::error::SealerError;

/// Seals the text of a server key, and opens it again.
pub(crate) trait Sealer {
    /// The name of the sealing key: one line, for people and for the bound text. Not secret.
    fn key(&self) -> &str;

    /// Seals a text, bound to `bound`: one line of ASCII.
    ///
    /// # Errors
    /// See [`SealerError`].
    fn seal(&self, secret: &str, bound: &[u8]) -> Result<String, SealerError>;

    /// Opens a text that was sealed with the same `bound`.
    ///
    /// # Errors
    /// See [`SealerError`].
    fn open(&self, sealed: &str, bound: &[u8]) -> Result<Zeroizing<String>, SealerError>;
}
