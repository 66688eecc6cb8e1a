//! What a directory has, before it is opened as a store.

use tessera_core::{LogId, SigningKey};

/// The content of a directory, before anything in it is changed.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its log.
    pub log: LogId,
    /// The last group of writes.
    pub group: u64,
    /// The signing keys, sealed.
    pub signing_keys: Vec<SigningKey>,
}
