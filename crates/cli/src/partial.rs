//! A file that appears completely or not at all.

use std::{
    ffi::OsString,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// `FILE.partial`, which only its owner can read. It is removed when it is dropped, unless it became FILE.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    pub(crate) fn beside(file: &Path) -> Result<Self, Failure> {
        let mut name = OsString::from(file);
        name.push(".partial");
        let path = PathBuf::from(name);
        // Left by a killed command. It is never written to: it may be a link to another file.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&path, &error)),
            _ => {}
        }
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|error| unusable(&path, &error))?;
        Ok(Self { path, file })
    }

    /// A handle for writing.
    pub(crate) fn file(&self) -> Result<File, Failure> {
        self.file
            .try_clone()
            .map_err(|error| unusable(&self.path, &error))
    }

    /// Why it can't be written.
    pub(crate) fn unwritten(&self, error: impl Display) -> Failure {
        Failure::cannot_run(format!(
            "`{}` can't be written, and nothing is left of it: {error}",
            self.path.display()
        ))
        .because("FILE_UNUSABLE")
    }

    /// Gives it the name `file`, durably, if it [may](may_be_made).
    pub(crate) fn becomes(self, file: &Path, overwrite: bool) -> Result<(), Failure> {
        self.file
            .sync_all()
            .map_err(|error| unusable(&self.path, &error))?;
        let named = if overwrite {
            may_be_made(file, overwrite)?;
            fs::rename(&self.path, file)
        } else {
            // A link replaces nothing, unlike a rename.
            fs::hard_link(&self.path, file).or_else(|error| self.rename_where_nothing_is(file, &error))
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(file),
            _ => unusable(file, &error),
        })?;
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| unusable(parent, &error))
    }

    /// Not every file system supports links.
    fn rename_where_nothing_is(&self, file: &Path, error: &io::Error) -> io::Result<()> {
        if error.kind() == io::ErrorKind::AlreadyExists || file.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(&self.path, file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename it does not exist.
        let _ = fs::remove_file(&self.path);
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot_run(format!("`{}` can't be used: {error}", path.display())).because("FILE_UNUSABLE")
}

/// Whether `file` may be made. An existing file is replaced only if this was requested, and a device or a pipe never
/// is.
pub(crate) fn may_be_made(file: &Path, overwrite: bool) -> Result<(), Failure> {
    if !overwrite && file.symlink_metadata().is_ok() {
        return Err(is_there(file));
    }
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(Failure::cannot_run(format!(
            "`{}` is not a file, so it is not replaced: name another file",
            file.display()
        ))
        .because("FILE_EXISTS"));
    }
    Ok(())
}

fn is_there(file: &Path) -> Failure {
    Failure::cannot_run(format!(
        "`{}` already exists: name another file, or replace it with --overwrite",
        file.display()
    ))
    .because("FILE_EXISTS")
}
