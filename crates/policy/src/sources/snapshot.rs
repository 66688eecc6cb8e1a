//! One read of a folder, which others may be writing to meanwhile.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use super::{Files, Kind, TESTS, refuse_stray};
use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
};

/// What was there when it was read. Files that were replaced meanwhile may be mixed: only where two in a row
/// are equal, nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) files: Result<Files, PolicyError>,
    /// When each file was changed last: a writer that begins anew leaves an empty file twice in a row.
    changed: Vec<Option<SystemTime>>,
}

impl Snapshot {
    /// Reads what is there now.
    pub(super) fn take(folder: &Path) -> Self {
        let mut reader = Reader::default();
        reader.read_folder(folder, "");
        Self {
            files: reader.files.checked(reader.findings),
            changed: reader.changed,
        }
    }
}

#[derive(Default)]
struct Reader {
    files: Files,
    changed: Vec<Option<SystemTime>>,
    findings: Findings,
}

impl Reader {
    fn read_folder(&mut self, folder: &Path, prefix: &str) {
        let mut names = match list(folder) {
            Ok(names) => names,
            Err(error) => {
                let place = Place::start(if prefix.is_empty() { "." } else { TESTS });
                let message = format!("the folder `{}` can't be read: {error}", folder.display());
                return self.findings.add(code::UNREADABLE, &place, message);
            }
        };
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let name = format!("{prefix}{name}");
            match Kind::of(&name) {
                Kind::Policy => self.read_file(&path, &name),
                Kind::Tests => self.read_folder(&path, "tests/"),
                Kind::Aside => {}
                Kind::Stray => refuse_stray(&name, &mut self.findings),
            }
            if self.findings.is_full() {
                return;
            }
        }
    }

    fn read_file(&mut self, path: &Path, name: &str) {
        match read_start(path, self.files.bytes_wanted()) {
            Ok((changed, bytes)) => {
                self.changed.push(changed);
                self.files.admit(name, bytes, &mut self.findings);
            }
            Err(error) => {
                let message = format!("`{name}` can't be read: {error}");
                self.findings.add(code::UNREADABLE, &Place::start(name), message);
            }
        }
    }
}

/// The first bytes of a regular file, at most `length`, with the time of its last change.
fn read_start(path: &Path, length: usize) -> io::Result<(Option<SystemTime>, Vec<u8>)> {
    // Opening a pipe would wait for a writer, so the kind is looked at before; and after, since the file
    // may have been replaced. The target of a symbolic link counts: Kubernetes mounts a ConfigMap as links.
    refuse_other_kinds(&fs::metadata(path)?)?;
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    refuse_other_kinds(&metadata)?;
    let mut bytes = Vec::new();
    // The limit is on what is read: the length that the file claims to have may change or be none.
    file.take(u64::try_from(length).unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)?;
    Ok((metadata.modified().ok(), bytes))
}

fn refuse_other_kinds(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other("it is not a regular file"))
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
