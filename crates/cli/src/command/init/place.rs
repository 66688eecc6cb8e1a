//! The directory that `tessera init` fills, and its earlier state.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// A directory that is empty, or does not exist.
pub(super) struct Place {
    directory: PathBuf,
    /// The directory and its parents that do not exist, the innermost first.
    missing: Vec<PathBuf>,
}

impl Place {
    /// Checks the directory.
    ///
    /// # Errors
    /// Fails if it is not empty.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let is_empty = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            entries => entries?.next().is_none(),
        };
        if !is_empty {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let directory = std::path::absolute(directory)?;
        let missing = directory.ancestors().take_while(|path| !path.exists());
        let missing = missing.map(Path::to_path_buf).collect();
        Ok(Self { directory, missing })
    }

    /// Restores its earlier state.
    ///
    /// # Errors
    /// Fails if something can't be removed.
    pub(super) fn restore(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        for directory in self.missing.iter().filter(|directory| directory.exists()) {
            fs::remove_dir(directory)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_made_what_it_was() {
        let above = tempfile::tempdir().unwrap();
        let fill = |directory: &Path| {
            fs::create_dir_all(directory.join("policies/tests")).unwrap();
            fs::write(directory.join("policies/policy.csv"), "p").unwrap();
            fs::write(directory.join("server.key"), "key").unwrap();
        };
        let empty = above.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let missing = above.path().join("of/which/nothing/is/there");
        for directory in [&empty, &missing] {
            let place = Place::of(directory).unwrap();
            place.restore().unwrap();
            fill(directory);
            assert!(Place::of(directory).is_err(), "it is not empty");
            place.restore().unwrap();
        }
        let left = fs::read_dir(above.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["empty"]);
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
        // Earlier files stay.
        fill(&empty);
        assert!(Place::of(&empty).is_err());
        fs::write(above.path().join("file"), "").unwrap();
        assert!(Place::of(&above.path().join("file")).is_err());
    }
}
