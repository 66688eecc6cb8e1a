//! One read of a directory, while others may write to it.

use std::{fs::File, io::Read, path::Path, time::SystemTime};

use super::{
    beneath::{Directory, Refused},
    files::{Files, Kind, refuse_stray},
};
use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
    quote::quote_title,
};

/// The files at the time of the read. Files that were replaced meanwhile may be mixed: only if two consecutive
/// snapshots are equal, nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) files: Result<Files, PolicyError>,
    /// When each file was last changed: a writer that starts again leaves an empty file in two consecutive reads.
    changed: Vec<Option<SystemTime>>,
}

impl Snapshot {
    /// Reads the current files.
    pub(super) fn take(directory: &Path) -> Self {
        let mut reader = Reader::default();
        match Directory::open(directory) {
            Ok(root) => reader.read_directory(&root, ".", ""),
            Err(error) => {
                let message = format!("the directory `{}` can't be read: {error}", directory.display());
                reader.findings.add(code::UNREADABLE, &Place::start("."), message);
            }
        }
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
    fn read_directory(&mut self, root: &Directory, path: &str, prefix: &str) {
        let mut names = match root.list(path) {
            Ok(names) => names,
            Err(refused) => return self.refuse(path, "the directory", refused),
        };
        names.sort();
        for name in names {
            let name = format!("{prefix}{name}");
            match Kind::of(&name) {
                Kind::Policy => self.read_file(root, &name),
                Kind::Tests => self.read_directory(root, &name, "tests/"),
                Kind::Aside => {}
                Kind::Stray => refuse_stray(&name, &mut self.findings),
            }
            if self.findings.is_full() {
                return;
            }
        }
    }

    fn read_file(&mut self, root: &Directory, name: &str) {
        match root.file(name).and_then(|file| self.read_start(&file)) {
            Ok((changed, bytes)) => {
                self.changed.push(changed);
                self.files.admit(name, bytes, &mut self.findings);
            }
            Err(refused) => self.refuse(name, "the file", refused),
        }
    }

    /// The needed beginning of a file, with the time of its last change.
    fn read_start(&self, mut file: &File) -> Result<(Option<SystemTime>, Vec<u8>), Refused> {
        let mut read = || {
            let changed = file.metadata()?.modified().ok();
            let mut bytes = Vec::new();
            // The limit applies to what is read: the reported length of the file may change or be missing.
            let length = u64::try_from(self.files.bytes_wanted()).unwrap_or(u64::MAX);
            file.by_ref().take(length).read_to_end(&mut bytes)?;
            Ok((changed, bytes))
        };
        read().map_err(Refused::Io)
    }

    fn refuse(&mut self, name: &str, what: &str, refused: Refused) {
        let place = Place::start(name);
        let quoted = quote_title(name);
        match refused {
            Refused::Leaves => {
                let message = format!("{what} {quoted} is a link that leads out of the policy's directory");
                let help =
                    "only relative links that stay within the directory are followed: put the file there, or \
                            name its directory as the policy's"
                        .to_owned();
                self.findings.advise(code::LINK_OUT, &place, message, help);
            }
            Refused::Kind(problem) => {
                let message = format!("{what} {quoted} can't be read: {problem}");
                self.findings.add(code::UNREADABLE, &place, message);
            }
            Refused::Io(error) => {
                let message = format!("{what} {quoted} can't be read: {error}");
                self.findings.add(code::UNREADABLE, &place, message);
            }
        }
    }
}
