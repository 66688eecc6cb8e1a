//! What a sealer does.

use zeroize::Zeroizing;

use super::error::SealerError;

/// Seals the text of a server key, and opens it again.
pub(crate) trait Sealer {
    /// Which key seals: one line, for people and for what is sealed. Not secret.
    fn key(&self) -> &str;

    /// Seals a text, bound to `bound`: one line of ASCII.
    ///
    /// # Errors
    /// See [`SealerError`].
    fn seal(&self, secret: &str, bound: &[u8]) -> Result<String, SealerError>;

    /// Opens what was sealed with the same `bound`.
    ///
    /// # Errors
    /// See [`SealerError`].
    fn open(&self, sealed: &str, bound: &[u8]) -> Result<Zeroizing<String>, SealerError>;
}
