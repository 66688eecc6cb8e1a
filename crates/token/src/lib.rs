//! Tessera's credentials.
//!
//! - [`access`]: PASETO `v4.public` access tokens, signed by a [`SigningKeyPair`] and verified against a
//!   [`Keyring`]. Only verifying yields [`AccessClaims`](tessera_core::AccessClaims).
//! - [`refresh`]: refresh tokens (`tsr_…`), PASETO `v4.local` under a [`ServerKeys`], and the ratchet that
//!   derives a successor's secret.
//! - [`api_key`]: API keys (`tsk_…`).
//! - [`checkpoint`]: signed statements about the audit trail.
//! - [`backup_key`]: the key that encrypts backups.
//! - [`sealing_key`]: the key that seals a server key at rest, if no HSM does.
//!
//! Nothing here reads a clock: time is an argument.
#![forbid(unsafe_code)]

pub mod access;
pub mod api_key;
pub mod backup_key;
pub mod checkpoint;
mod key_id;
pub mod keyring;
mod local;
mod local_secret;
mod public;
pub mod refresh;
pub mod sealing_key;
pub mod server_key;
pub mod signing_key;
mod wire;

pub use access::{Expectation, VerifyError};
pub use api_key::ApiKeySecret;
pub use backup_key::{BackupKey, ChunkIndex, ChunkKey};
pub use checkpoint::{Checkpoint, CheckpointKey, CheckpointPublicKey, ExportedPart};
pub use keyring::{Keyring, VerifyingKey};
pub use refresh::{RefreshSecret, RefreshToken};
pub use sealing_key::SealingKey;
pub use server_key::{ServerKey, ServerKeys};
pub use signing_key::SigningKeyPair;

/// The operating system provides no random numbers: no secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoEntropy;

/// `N` random bytes.
///
/// # Errors
/// Fails if the operating system provides none.
pub fn random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

/// A text is not a key: the error names what was expected, and never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected {expected}")]
pub struct KeyError {
    pub(crate) expected: &'static str,
}

#[cfg(test)]
mod tests;
