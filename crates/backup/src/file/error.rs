//! Why a file can't be read as a backup. Each message is a sentence with the remedy.

use std::io;

use super::layout::FORMAT;
use crate::content::ContentError;

/// A file can't be read as a backup, or can't be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system reported an error.
    #[error("the backup can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like a backup.
    #[error("the file is not a Tessera backup: name one that `tessera backup create` made")]
    NoBackup,
    /// A newer version made it.
    #[error(
        "the backup has format {found}, and this version reads up to {FORMAT}: use the version that made it, or a newer one"
    )]
    NewerFormat {
        /// The format found.
        found: u32,
    },
    /// Another backup key made it.
    #[error(
        "the backup was made with the backup key {made_with}, and this key is {given}: name the file of the right one with --key-file or in TESSERA_BACKUP_KEY"
    )]
    OtherKey {
        /// The id of the key that it was made with.
        made_with: String,
        /// The id of the given key.
        given: String,
    },
    /// It ends too early.
    #[error(
        "the backup is cut off after {bytes} bytes: copy it again from where it was made, or use another backup"
    )]
    CutOff {
        /// How many bytes there are.
        bytes: u64,
    },
    /// A part of it differs from what was written.
    #[error(
        "the backup is not what was written, at byte {at}: it was damaged or changed, or put together from several; copy it again from where it was made, or use another backup"
    )]
    Changed {
        /// Where the part begins.
        at: u64,
    },
    /// Its content can't be read, although it was not changed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It can't be encrypted.
    #[error("the backup can't be encrypted: {0}")]
    Encryption(&'static str),
}
