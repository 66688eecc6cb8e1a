//! Opening the rows without a risk to them.
//!
//! sled writes while it opens: it treats a segment that it could not read as one that a crash tore, and zeroes what
//! follows, before the rows can be compared with the seal. So sled never gets the only copy. The rows are set aside
//! under another name, and sled opens a copy of them. The original rows are removed only once the copy was compared
//! with the seal and is on the disk:
//!
//! ```text
//! rows           the rows, or while a start is under way the copy that sled opens
//! rows.before    the rows as they were found; where this exists, it is the truth
//! rows.new       the rows of a compaction that is not finished
//! rows.gone      rows that are being removed
//! ```
//!
//! Rows that are refused are restored by renaming them: not one byte of them was written. The next start reverts a
//! start that was interrupted. If the file system can share blocks between files, the copy costs nothing.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, sync_directory},
    progress::{StartProgress, Step},
};

/// Only the owner may read the rows.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

impl Directory {
    fn rows_before(&self) -> PathBuf {
        self.path().join("rows.before")
    }

    /// The directory that a compaction writes.
    pub(super) fn rows_new(&self) -> PathBuf {
        self.path().join("rows.new")
    }

    fn rows_gone(&self) -> PathBuf {
        self.path().join("rows.gone")
    }

    /// Reverts a start that was interrupted.
    pub(super) fn take_back(&self) -> io::Result<()> {
        self.remove_gone();
        remove_directory(&self.rows_new())?;
        if self.rows_before().exists() {
            self.restore()?;
        }
        Ok(())
    }

    /// Sets the rows aside, unchanged.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        fs::rename(self.rows(), self.rows_before())?;
        sync_directory(self.path())
    }

    /// Copies the rows that were set aside to the directory that sled opens.
    pub(super) fn copy_aside(&self, progress: &StartProgress) -> io::Result<()> {
        let bytes = directory_bytes(&self.rows_before())?;
        progress.enter(Step::Copy { bytes });
        remove_directory(&self.rows())?;
        copy_directory(&self.rows_before(), &self.rows(), progress)
    }

    /// Writes the copy to the disk while sled reads it, so that [`keep_copy`](Self::keep_copy) waits less.
    pub(super) fn sync_copy(&self) -> io::Result<()> {
        sync_tree(&self.rows())
    }

    /// Restores the rows that were set aside, and discards the copy.
    pub(super) fn restore(&self) -> io::Result<()> {
        remove_directory(&self.rows())?;
        fs::rename(self.rows_before(), self.rows())?;
        sync_directory(self.path())
    }

    /// Makes the rows durable that sled opened, and removes those that were set aside. They are gone once they are
    /// renamed.
    pub(super) fn keep_copy(&self) -> io::Result<()> {
        sync_tree(&self.rows())?;
        sync_directory(self.path())?;
        if self.rows_before().exists() {
            fs::rename(self.rows_before(), self.rows_gone())?;
            sync_directory(self.path())?;
            self.remove_gone();
        }
        Ok(())
    }

    /// Removes rows that are no longer needed. If this fails, they only take space.
    fn remove_gone(&self) {
        let gone = self.rows_gone();
        if let Err(error) = remove_directory(&gone) {
            tracing::warn!(path = %gone.display(), %error, "remove this: it is of no use");
        }
    }

    /// Replaces the rows with the result of a compaction.
    pub(super) fn exchange(&self) -> io::Result<()> {
        sync_tree(&self.rows_new())?;
        self.set_aside()?;
        fs::rename(self.rows_new(), self.rows())?;
        self.keep_copy()
    }

    /// Removes the access of all users except the owner. Not every file system supports that, and not every owner may
    /// do it.
    pub(super) fn close_to_others(&self) {
        let closed = restrict(self.path(), DIRECTORY_MODE)
            .and_then(|()| restrict(&self.path().join("lock"), FILE_MODE))
            .and_then(|()| restrict(&self.seal(), FILE_MODE))
            .and_then(|()| restrict_directory(&self.rows()))
            .and_then(|()| match restrict_directory(&self.audit()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                restricted => restricted,
            });
        if let Err(error) = closed {
            tracing::warn!(path = %self.path().display(), %error, "others on this machine may be able to read the data directory");
        }
    }

    /// How many bytes the rows take on the disk.
    pub(super) fn rows_bytes(&self) -> io::Result<u64> {
        directory_bytes(&self.rows())
    }
}

/// Removes a directory, even if its owner may not write into it.
fn remove_directory(path: &Path) -> io::Result<()> {
    let mut removed = fs::remove_dir_all(path);
    if matches!(&removed, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
        removed = open_directories(path).and_then(|()| fs::remove_dir_all(path));
    }
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Gives the owner write access to a directory and those below it.
fn open_directories(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

/// Copies files and directories. Other entries are not sled's. Unfinished snapshots of sled are left out: sled could
/// not open beside them, and a snapshot only makes opening faster.
fn copy_directory(from: &Path, to: &Path, progress: &StartProgress) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_directory(&entry.path(), &target, progress)?;
        } else if kind.is_file() && !is_unfinished_snapshot(&entry.path()) {
            progress.add(fs::copy(entry.path(), target)?);
        }
    }
    Ok(())
}

fn is_unfinished_snapshot(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "generating")
}

fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let synced = if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())
        } else {
            File::open(entry.path()).and_then(|file| file.sync_all())
        };
        match synced {
            // sled replaces its snapshots at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    sync_directory(path)
}

fn directory_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(data) if data.is_dir() => directory_bytes(&entry.path())?,
            Ok(data) => data.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o777 & !mode == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn restrict_directory(path: &Path) -> io::Result<()> {
    restrict(path, DIRECTORY_MODE)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let restricted = if entry.file_type()?.is_dir() {
            restrict_directory(&entry.path())
        } else {
            restrict(&entry.path(), FILE_MODE)
        };
        match restricted {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            restricted => restricted?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a user other than root gets the failure.
    #[test]
    fn a_directory_goes_that_its_owner_may_not_write_into() {
        let above = tempfile::tempdir().unwrap();
        let rows = above.path().join("rows");
        let within = rows.join("blobs");
        fs::create_dir_all(&within).unwrap();
        for directory in [&within, &rows] {
            fs::write(directory.join("db"), "rows").unwrap();
            fs::set_permissions(directory, Permissions::from_mode(0o500)).unwrap();
        }
        remove_directory(&rows).unwrap();
        assert!(!rows.exists());
        remove_directory(&rows).unwrap();
    }
}
