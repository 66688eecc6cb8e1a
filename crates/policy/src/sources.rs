//! The files of a policy, as they were at one moment.

use std::{path::Path, sync::Arc, thread, time::Duration};

use tessera_core::PolicyRevision;

use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
    sources::{
        files::{Files, Kind, is_rules, refuse_stray},
        snapshot::Snapshot,
    },
};

mod beneath;
mod files;
mod snapshot;

pub(crate) use files::{CATALOGUE, MODEL, ROUTES};

/// How often a directory is read before the read is given up because the files keep changing.
const READS_MAX: usize = 12;
/// The pause between two reads that must agree: longer than a tick of the file system's clock.
const READ_PAUSE: Duration = Duration::from_millis(5);

/// The files of one policy by name; names of tests begin with `tests/`.
///
/// All of them existed at one moment, within the limits: at most 1,000 files of 16 MiB, and 64 MiB together. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    files: Arc<Files>,
    revision: PolicyRevision,
}

impl Sources {
    /// Reads a directory until two consecutive reads agree, so that files replaced meanwhile are never mixed. Blocking,
    /// for some milliseconds more than the reading takes.
    ///
    /// # Errors
    /// Fails with every file that can't be read, is too large or is not part of a policy, and if the files keep
    /// changing.
    pub fn read(directory: &Path) -> Result<Self, PolicyError> {
        let mut last = Snapshot::take(directory);
        for _ in 1..READS_MAX {
            thread::sleep(READ_PAUSE);
            let next = Snapshot::take(directory);
            if next == last {
                return Self::new(next.files?);
            }
            last = next;
        }
        let message = "the files change while they are being read";
        let help = "replace the whole directory at once, as a rename or a ConfigMap does".to_owned();
        Err(PolicyError::of(
            code::UNREADABLE,
            &Place::start("."),
            message,
            help,
        ))
    }

    /// Reads files from memory: names such as `policy.csv` or `tests/x.toml`, with contents.
    ///
    /// # Errors
    /// Fails with every file that is too large or is not part of a policy, and if one is missing.
    pub fn from_memory(files: &[(&str, &[u8])]) -> Result<Self, PolicyError> {
        let mut found = Files::default();
        let mut findings = Findings::default();
        for (name, bytes) in files {
            match Kind::of(name) {
                Kind::Policy => found.admit(name, bytes.to_vec(), &mut findings),
                Kind::Stray => refuse_stray(name, &mut findings),
                Kind::Tests | Kind::Aside => {}
            }
        }
        Self::new(found.checked(findings)?)
    }

    /// The files in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter()
    }

    /// The bytes of a file, if there is one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.0.get(name).map(Vec::as_slice)
    }

    /// The digest of all files, SHA-256: their name in tokens, events and logs.
    #[must_use]
    pub fn revision(&self) -> PolicyRevision {
        self.revision
    }

    /// How many bytes all files have together.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.files.byte_count()
    }

    /// The rule files in name order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter(|(name, _)| is_rules(name))
    }

    /// The test files in name order.
    pub(crate) fn tests(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter(|(name, _)| name.starts_with("tests/"))
    }

    fn new(files: Files) -> Result<Self, PolicyError> {
        let revision = PolicyRevision::parse(&files.digest()).map_err(|error| {
            let message = format!("a defect: the digest is no revision: {error}");
            PolicyError::of(code::DEFECT, &Place::start("."), message, None)
        })?;
        Ok(Self {
            files: Arc::new(files),
            revision,
        })
    }
}
