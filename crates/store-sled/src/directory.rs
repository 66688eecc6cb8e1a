//! The data directory: its files, and the lock on it.
//!
//! ```text
//! <path>/lock     locked while a process has the store open
//! <path>/seal     what the rows must be: see `seal`
//! <path>/rows/    sled's own directory; its data file is `rows/db`
//! <path>/audit/   the audit records that left the rows: see `archive`
//! ```
//!
//! During a start there are more: see `aside`.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::OpenError;

/// A data directory that this process has locked. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory if it does not exist, and locks it before anything in it is read.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        if !path.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(io_error)?;
            sync_parent(path).map_err(io_error)?;
        }
        check_file(&path.join("lock"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io_error(source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn seal(&self) -> PathBuf {
        self.path.join("seal")
    }

    /// sled's directory.
    pub(super) fn rows(&self) -> PathBuf {
        self.path.join("rows")
    }

    /// The directory of the audit records that left the rows.
    pub(super) fn audit(&self) -> PathBuf {
        self.path.join("audit")
    }

    /// The file that sled writes.
    pub(super) fn data_file(&self) -> PathBuf {
        self.rows().join("db")
    }

    /// Whether sled ever wrote anything here.
    pub(super) fn has_rows(&self) -> bool {
        std::fs::metadata(self.data_file()).is_ok_and(|data| data.len() > 0)
    }

    /// Whether the directory of the rows has any entry.
    pub(super) fn has_rows_directory(&self) -> bool {
        std::fs::read_dir(self.rows()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Checks that the files that are opened are files: a pipe would be waited for.
    pub(super) fn check_files(&self) -> Result<(), OpenError> {
        check_file(&self.seal())?;
        check_file(&self.data_file())?;
        check_file(&self.rows().join("conf"))
    }

    pub(super) fn damaged(&self, detail: impl Into<String>) -> OpenError {
        OpenError::Damaged {
            path: self.path.clone(),
            detail: detail.into(),
        }
    }

    pub(super) fn io_error(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Checks that a path is a regular file, or nothing.
fn check_file(path: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        Ok(_) | Err(_) => Err(OpenError::NotAFile {
            path: path.to_owned(),
        }),
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_named() {
        for name in ["lock", "seal", "rows/db", "rows/conf"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            let checked = Directory::lock(directory.path()).and_then(|locked| locked.check_files());
            let said = checked.unwrap_err().to_string();
            assert!(said.contains(&path.display().to_string()), "{name}: {said}");
            std::fs::remove_dir(&path).unwrap();
            std::os::unix::fs::symlink(&path, &path).unwrap();
            let checked = Directory::lock(directory.path()).and_then(|locked| locked.check_files());
            assert!(matches!(checked, Err(OpenError::NotAFile { .. })), "{name}");
        }
    }
}
