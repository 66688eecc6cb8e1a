//! The directory that `tessera init` fills, and how it was before.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// A directory that is empty, or not there.
pub(super) struct Place {
    directory: PathBuf,
    /// It and those above it that are not there, the innermost first.
    missing: Vec<PathBuf>,
}

impl Place {
    /// Looks at it.
    ///
    /// # Errors
    /// Fails where there is something in it.
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

    /// Makes it what it was.
    ///
    /// # Errors
    /// Fails where something can't be removed.
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
        // What was there before stays.
        fill(&empty);
        assert!(Place::of(&empty).is_err());
        fs::write(above.path().join("file"), "").unwrap();
        assert!(Place::of(&above.path().join("file")).is_err());
    }
}
