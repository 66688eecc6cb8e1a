//! The files of a policy: which names they have, and how large they may be.

use std::{collections::BTreeMap, fmt};

use sha2::{Digest, Sha256};

use crate::{
    code,
    diagnostic::{Findings, Place, PolicyError},
    nearest::did_you_mean,
    quote::quote_title,
};

/// The largest file, in bytes.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most bytes that all files may have together.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most files that a policy may have.
const FILES_MAX: usize = 1_000;

pub(crate) const MODEL: &str = "model.conf";
pub(crate) const CATALOGUE: &str = "catalogue.toml";
pub(crate) const ROUTES: &str = "routes.toml";
const TESTS: &str = "tests";

/// Files that were admitted, by name.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>);

impl Files {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    pub(super) fn byte_count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// SHA-256 over names, lengths and contents, in hexadecimal digits.
    pub(super) fn digest(&self) -> String {
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
    pub(super) fn bytes_wanted(&self) -> usize {
        FILE_BYTES_MAX.min(BYTES_MAX.saturating_sub(self.byte_count())) + 1
    }

    /// Adds a file, or a finding with the reason against it. If the file is too large, `bytes` need only be its
    /// beginning.
    pub(super) fn admit(&mut self, name: &str, bytes: Vec<u8>, findings: &mut Findings) {
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
    pub(super) fn checked(self, mut findings: Findings) -> Result<Self, PolicyError> {
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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
    pub(super) fn of(name: &str) -> Self {
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

pub(super) fn is_rules(name: &str) -> bool {
    name.ends_with(".csv")
}

pub(super) fn refuse_stray(name: &str, findings: &mut Findings) {
    let known = [MODEL, CATALOGUE, ROUTES, "policy.csv", TESTS, "examples"];
    let help = did_you_mean(name, known).unwrap_or_else(|| {
        "a policy is `model.conf`, `catalogue.toml`, `*.csv`, `tests/*.toml` and perhaps `routes.toml`; `*.md` and \
         hidden files may be beside them"
            .to_owned()
    });
    let message = format!("{} is no part of a policy", quote_title(name));
    findings.advise(code::STRAY_FILE, &Place::start(name), message, help);
}
