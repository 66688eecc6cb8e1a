//! The files of a policy: which belong to it, their size limits, and their digest.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, thread, time::Duration};

use sha2::{Digest, Sha256};
use tessera_core::PolicyRevision;

use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
    nearest::did_you_mean,
    quote::quote_title,
    sources::snapshot::Snapshot,
};

mod beneath;
mod snapshot;

/// The largest file, in bytes.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most bytes that all files may have together.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most files that a policy may have.
const FILES_MAX: usize = 1_000;
/// How often a directory is read before the read is given up because the files keep changing.
const READS_MAX: usize = 12;
/// The pause between two reads that must agree: longer than a tick of the file system's clock.
const READ_PAUSE: Duration = Duration::from_millis(5);

pub(crate) const MODEL: &str = "model.conf";
pub(crate) const CATALOGUE: &str = "catalogue.toml";
pub(crate) const ROUTES: &str = "routes.toml";
const TESTS: &str = "tests";

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
        self.revision.clone()
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

// === files, not yet complete ===

/// Files that were admitted, by name.
#[derive(Default, PartialEq, Eq)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    fn byte_count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// SHA-256 over names, lengths and contents, in hexadecimal digits.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, bytes) in self.iter() {
            // Lengths first, so that no two sets of files give the same stream of bytes.
            hash.update(name.len().to_be_bytes());
            hash.update(name);
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        }
        let digest = hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many bytes of a further file are needed: one more than it may have.
    fn bytes_wanted(&self) -> usize {
        FILE_BYTES_MAX.min(BYTES_MAX.saturating_sub(self.byte_count())) + 1
    }

    /// Adds a file, or a finding with the reason against it. If the file is too large, `bytes` need only be its
    /// beginning.
    fn admit(&mut self, name: &str, bytes: Vec<u8>, findings: &mut Findings) {
        let quoted = quote_title(name);
        let (code, problem) = if bytes.len() > FILE_BYTES_MAX {
            let message = format!("{quoted} has more than the {FILE_BYTES_MAX} bytes that a file may have");
            (code::TOO_LARGE, message)
        } else if self.byte_count() + bytes.len() > BYTES_MAX {
            let message = format!("the files have more than {BYTES_MAX} bytes together");
            (code::TOO_LARGE, message)
        } else if self.0.len() >= FILES_MAX {
            let message = format!("the policy has more than {FILES_MAX} files");
            (code::TOO_LARGE, message)
        } else if self.0.contains_key(name) {
            (code::STRAY_FILE, format!("{quoted} is given twice"))
        } else {
            self.0.insert(name.to_owned(), bytes);
            return;
        };
        findings.add(code, &Place::start(name), problem);
    }

    /// The files, if there is no finding and no file is missing.
    fn checked(self, mut findings: Findings) -> Result<Self, PolicyError> {
        if findings.is_empty() {
            self.check_complete(&mut findings);
        }
        findings.into_result().map(|()| self)
    }

    fn check_complete(&self, findings: &mut Findings) {
        for name in [MODEL, CATALOGUE] {
            if !self.0.contains_key(name) {
                let message = format!("the policy has no `{name}`");
                findings.add(code::UNREADABLE, &Place::start(name), message);
            }
        }
        if !self.0.keys().any(|name| is_rules(name)) {
            let message = "the policy has no rules: no file ends in `.csv`";
            findings.add(code::UNREADABLE, &Place::start("policy.csv"), message);
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.iter().map(|(name, bytes)| (name, bytes.len()));
        f.debug_map().entries(lengths).finish()
    }
}

// === names ===

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A part of the policy.
    Policy,
    /// The directory of tests.
    Tests,
    /// Files that may be beside a policy without a meaning: hidden files, documentation, examples.
    Aside,
    /// Anything else, which may be a misspelled part: `policy.cvs` could be a file of denials, and they would be lost.
    Stray,
}

impl Kind {
    fn of(name: &str) -> Self {
        let (is_test, base) = match name.strip_prefix("tests/") {
            Some(base) => (true, base),
            None => (false, name),
        };
        if base.starts_with('.') || base.starts_with("examples/") || base.ends_with(".md") {
            return Self::Aside;
        }
        match base {
            _ if base.contains('/') => Self::Stray,
            _ if is_test && base.ends_with(".toml") => Self::Policy,
            _ if is_test => Self::Stray,
            MODEL | CATALOGUE | ROUTES => Self::Policy,
            TESTS => Self::Tests,
            "examples" => Self::Aside,
            _ if is_rules(base) => Self::Policy,
            _ => Self::Stray,
        }
    }
}

fn is_rules(name: &str) -> bool {
    name.ends_with(".csv")
}

fn refuse_stray(name: &str, findings: &mut Findings) {
    let known = [MODEL, CATALOGUE, ROUTES, "policy.csv", TESTS, "examples"];
    let help = did_you_mean(name, known).unwrap_or_else(|| {
        "a policy is `model.conf`, `catalogue.toml`, `*.csv`, `tests/*.toml` and perhaps `routes.toml`; `*.md` and \
         hidden files may be beside them"
            .to_owned()
    });
    let message = format!("{} is no part of a policy", quote_title(name));
    findings.advise(code::STRAY_FILE, &Place::start(name), message, help);
}
