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
mod entropy;
mod key_error;
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
pub use entropy::{NoEntropy, random};
pub use key_error::KeyError;
pub use keyring::{Keyring, VerifyingKey};
pub use refresh::{RefreshSecret, RefreshToken};
pub use sealing_key::SealingKey;
pub use server_key::{ServerKey, ServerKeys};
pub use signing_key::SigningKeyPair;

#[cfg(test)]
mod tests;
