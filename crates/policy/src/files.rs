//! The files of a policy: which belong to it, how large they may be, and their digest.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};
use tessera_core::PolicyRevision;

use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
    nearest::did_you_mean,
};

/// The largest file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most files that a policy may have.
pub(crate) const FILES_MAX: usize = 1_000;

pub(crate) const MODEL: &str = "model.conf";
pub(crate) const CATALOGUE: &str = "catalogue.toml";
const TESTS: &str = "tests";

/// The files of one policy by name; names of tests begin with `tests/`.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Reads a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, PolicyError> {
        let mut files = Self::default();
        let mut findings = Findings::default();
        files.read_folder(folder, "", &mut findings);
        if findings.is_empty() {
            files.check_complete(&mut findings);
        }
        findings.into_result().map(|()| files)
    }

    /// Takes files from memory.
    pub(crate) fn from_memory(files: &[(&str, &[u8])]) -> Result<Self, PolicyError> {
        let mut found = Self::default();
        let mut findings = Findings::default();
        for (name, bytes) in files {
            if kind_of(name) == Kind::Policy {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if found.admit(name, length, &mut findings) {
                    found.0.insert((*name).to_owned(), bytes.to_vec());
                }
            } else if kind_of(name) == Kind::Stray {
                refuse_stray(name, &mut findings);
            }
        }
        if findings.is_empty() {
            found.check_complete(&mut findings);
        }
        findings.into_result().map(|()| found)
    }

    /// The bytes of a file.
    pub(crate) fn get(&self, name: &str) -> &[u8] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The rule files in name order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter(|(name, _)| name.ends_with(".csv"))
    }

    /// The test files in name order.
    pub(crate) fn tests(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter(|(name, _)| name.starts_with("tests/"))
    }

    /// The first 16 hexadecimal digits of SHA-256 over names, lengths and contents.
    pub(crate) fn revision(&self) -> Option<PolicyRevision> {
        let mut hash = Sha256::new();
        for (name, bytes) in self.iter() {
            // Lengths first, so that no two sets of files give the same stream of bytes.
            hash.update(name.len().to_be_bytes());
            hash.update(name);
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        }
        let digits: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        PolicyRevision::parse(&digits).ok()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str, findings: &mut Findings) {
        let mut names = match list(folder) {
            Ok(names) => names,
            Err(error) => {
                let place = Place::start(if prefix.is_empty() { "." } else { TESTS });
                let message = format!("the folder `{}` can't be read: {error}", folder.display());
                return findings.add(code::UNREADABLE, &place, message);
            }
        };
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let name = format!("{prefix}{name}");
            // The target of a symbolic link counts: Kubernetes mounts a ConfigMap as links.
            let is_folder = path.is_dir();
            match kind_of(&name) {
                Kind::Policy if !is_folder => self.read_file(&path, &name, findings),
                Kind::Tests if is_folder => self.read_folder(&path, "tests/", findings),
                Kind::Aside => {}
                Kind::Policy | Kind::Tests | Kind::Stray => refuse_stray(&name, findings),
            }
        }
    }

    fn read_file(&mut self, path: &Path, name: &str, findings: &mut Findings) {
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let length = fs::metadata(path)?.len();
            let mut bytes = Vec::new();
            if length <= FILE_BYTES_MAX {
                // The limit holds for the reading too: the file may grow between the two.
                fs::File::open(path)?
                    .take(FILE_BYTES_MAX + 1)
                    .read_to_end(&mut bytes)?;
            }
            Ok((length.max(u64::try_from(bytes.len()).unwrap_or(u64::MAX)), bytes))
        };
        match read() {
            Ok((length, bytes)) => {
                if self.admit(name, length, findings) {
                    self.0.insert(name.to_owned(), bytes);
                }
            }
            Err(error) => {
                let message = format!("`{name}` can't be read: {error}");
                findings.add(code::UNREADABLE, &Place::start(name), message);
            }
        }
    }

    fn admit(&self, name: &str, length: u64, findings: &mut Findings) -> bool {
        let (code, problem) = if length > FILE_BYTES_MAX {
            (
                code::TOO_LARGE,
                format!("`{name}` has {length} bytes; at most {FILE_BYTES_MAX} are read"),
            )
        } else if self.0.len() >= FILES_MAX {
            (
                code::TOO_LARGE,
                format!("the policy has more than {FILES_MAX} files"),
            )
        } else if self.0.contains_key(name) {
            (code::STRAY_FILE, format!("`{name}` is given twice"))
        } else {
            return true;
        };
        findings.add(code, &Place::start(name), problem);
        false
    }

    fn check_complete(&self, findings: &mut Findings) {
        for name in [MODEL, CATALOGUE] {
            if !self.0.contains_key(name) {
                findings.add(
                    code::UNREADABLE,
                    &Place::start(name),
                    format!("the policy has no `{name}`"),
                );
            }
        }
        if self.rules().next().is_none() {
            let place = Place::start("policy.csv");
            findings.add(
                code::UNREADABLE,
                &place,
                "the policy has no rules: no file ends in `.csv`",
            );
        }
    }
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A part of the policy.
    Policy,
    /// The folder of tests.
    Tests,
    /// What may stand beside a policy without meaning anything: hidden files, documentation, examples.
    Aside,
    /// Anything else, which may be a misspelled part: `policy.cvs` would be a file of denials gone.
    Stray,
}

fn kind_of(name: &str) -> Kind {
    let (is_test, base) = match name.strip_prefix("tests/") {
        Some(base) => (true, base),
        None => (false, name),
    };
    if base.starts_with('.') || base.starts_with("examples/") || base.ends_with(".md") {
        Kind::Aside
    } else if base.contains('/') {
        Kind::Stray
    } else if is_test {
        if base.ends_with(".toml") {
            Kind::Policy
        } else {
            Kind::Stray
        }
    } else if base == MODEL || base == CATALOGUE || base.ends_with(".csv") {
        Kind::Policy
    } else {
        match base {
            TESTS => Kind::Tests,
            "examples" => Kind::Aside,
            _ => Kind::Stray,
        }
    }
}

fn refuse_stray(name: &str, findings: &mut Findings) {
    let known = [MODEL, CATALOGUE, "policy.csv", TESTS, "examples"];
    let help = did_you_mean(name, known).unwrap_or_else(|| {
        "a policy is `model.conf`, `catalogue.toml`, `*.csv` and `tests/*.toml`; `*.md` and hidden files may \
         stand beside them"
            .to_owned()
    });
    findings.advise(
        code::STRAY_FILE,
        &Place::start(name),
        format!("`{name}` is no part of a policy"),
        help,
    );
}
