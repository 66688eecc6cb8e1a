//! A data directory that is made from something else: a backup, or another store. It gets its name only when it is
//! complete.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::error::{BackupProblem, LaunchError};

/// The suffix of its name until then.
const UNFINISHED: &str = ".restoring";

/// The directory in which a new store is made. Dropping it removes it, unless it became the data directory.
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes it; fails if it exists: otherwise two processes could write to one.
    pub(crate) fn at(data: &Path) -> Result<Self, LaunchError> {
        let path = path_of(data);
        let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty());
        let made = parent
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::DirBuilder::new().mode(0o700).create(&path));
        match made {
            Ok(()) => Ok(Self(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupProblem::CutOff { path }.into())
            }
            Err(source) => Err(LaunchError::File { path, source }),
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives it the name of the data directory, durably. An empty directory of that name is replaced.
    pub(crate) fn becomes(self, path: &Path) -> Result<(), LaunchError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let renamed = fs::rename(&self.0, path)
            .and_then(|()| File::open(parent))
            .and_then(|parent| parent.sync_all());
        renamed.map_err(|source| {
            let mounted = matches!(
                source.kind(),
                io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices
            );
            let source = if mounted {
                io::Error::new(
                    source.kind(),
                    "it is where a file system is mounted: name a directory within it in [store] path",
                )
            } else {
                source
            };
            LaunchError::File {
                path: path.to_owned(),
                source,
            }
        })
    }
}

/// An unfinished directory for the data directory `data`, if there is one. Another process may still be working on it.
pub(crate) fn left_beside(data: &Path) -> Option<PathBuf> {
    let path = path_of(data);
    path.exists().then_some(path)
}

fn path_of(data: &Path) -> PathBuf {
    let mut name = OsString::from(data);
    name.push(UNFINISHED);
    PathBuf::from(name)
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // If it was renamed, or never made, there is nothing to remove.
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "remove this: it is of no use");
        }
    }
}
