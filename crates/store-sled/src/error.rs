//! Why a data directory can't be used.

use std::{io::ErrorKind, path::PathBuf};

use tessera_store::StoreError;

/// A store can't be opened. Each message names the directory and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error(
        "the data directory `{path}` is in use by another process: stop that one, or choose another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The caller does not accept the content, which stays unchanged.
    #[error("what is in the data directory `{path}` was not accepted")]
    Refused {
        /// The directory.
        path: PathBuf,
    },
    /// The content of the directory is not what was last committed.
    #[error(
        "the data directory `{path}` is damaged: {detail}. Restore a backup, or move the directory away and start again; started as it is, spent refresh tokens could be current again"
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What does not match.
        detail: String,
    },
    /// A setting prevents it; the directory was not read.
    #[error("`{setting}` {problem}: change it under [store], the data directory is not the matter")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The directory was written by a newer version.
    #[error(
        "the data directory `{path}` has format {found}, and this version knows up to {known}: use the version that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// One of the store's files is something else: a directory, a pipe, a link that leads nowhere.
    #[error(
        "`{path}` must be a regular file, and is something else. Nothing was changed. Put the file back that was there, or restore a backup"
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The operating system reported an error: of the disk, of space, of permissions.
    #[error(
        "the data directory `{path}` can't be used: {source}. It is as it was: nothing says that it is damaged, and no copy needs to be restored. {}",
        remedy(.source)
    )]
    Io {
        /// The directory.
        path: PathBuf,
        /// Its error.
        source: std::io::Error,
    },
}

/// The remedy for an error of the operating system.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "Let the user that runs this read and write it, and start again"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "Make room for a second copy of `rows`, which is opened in place of the only one, and start again"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "Choose a path where a directory can be",
        _ => "Look at the disk and the kernel's log, and start again once it is well",
    }
}

/// The database failed. Its message is for the log.
pub(crate) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed {
        detail: error.to_string(),
    }
}
