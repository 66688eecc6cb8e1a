//! Words that were replaced by the standard term, and that must not come back.

use std::{fs, path::Path};

use super::tree;
use crate::support::root;

/// The standard term, and the forms of the replaced word.
const WORDS: [(&str, &[&str]); 16] = [
    (
        "session, or refresh family for the chain of refresh tokens",
        &["family", "families", "fid"],
    ),
    ("label", &["binding", "bindings"]),
    ("endpoint, or handler", &["door", "doors"]),
    ("directory", &["folder", "folders"]),
    (
        "reconcile, or preview",
        &[
            "settle", "settles", "settling", "felt", "feel", "feels", "foresee", "foreseen",
        ],
    ),
    ("check, or decide", &["judge", "judges", "judged", "judging"]),
    ("indeterminate", &["unsure"]),
    ("purge", &["sweep", "sweeps", "swept", "sweeper"]),
    (
        "background priority, or a time by its name",
        &["patience", "patiently"],
    ),
    ("fix, or repair", &["mend", "mends", "mended", "mending"]),
    ("restored", &["put back", "puts back", "putting back"]),
    ("releases", &["gives the directory free"]),
    ("takes precedence", &["goes before"]),
    ("reconnects", &["heard again", "hears again"]),
    (
        "watcher, or housekeeping",
        &["keeper", "housekeeper", "keep house"],
    ),
    ("follow, or reload", &["obey", "obeys", "obeyed"]),
];

/// Exceptions, in which a word has another meaning or waits to be replaced: the word, the beginning of the path, and
/// why.
const EXCEPT: [(&str, &str, &str); 13] = [
    ("family", "crates/core/src/family.rs", "the refresh family itself"),
    (
        "family",
        "crates/core/src/session.rs",
        "a session has a refresh family",
    ),
    (
        "family",
        "crates/core/src/lib.rs",
        "the module of the refresh family",
    ),
    (
        "family",
        "crates/authority/src/issuance/",
        "a session's refresh family",
    ),
    (
        "family",
        "crates/authority/src/access/introspect.rs",
        "a session's refresh family",
    ),
    (
        "family",
        "crates/store-conformance/src/fixture.rs",
        "a session's refresh family",
    ),
    (
        "family",
        "crates/server/src/edge/metrics",
        "a family of metrics, as Prometheus says it",
    ),
    ("family", "docs/api.md", "a session's refresh family"),
    ("family", "docs/ARCHITECTURE.md", "a session's refresh family"),
    (
        "family",
        "proto/tessera/v1/session_service.proto",
        "a session's refresh family",
    ),
    (
        "binding",
        "crates/store-postgres/src/servers.rs",
        "PostgreSQL's setting `channel_binding`",
    ),
    ("settle", "crates/core/src/clock/", "the settled time"),
    (
        "settle",
        "crates/store-sled/src/",
        "a seal settles what was written before it",
    ),
];

/// The forbidden words in the lines of a text.
fn found_in(path: &Path, lines: impl Iterator<Item = (usize, String)>) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in lines {
        let said = format!(" {} ", parts(&line).join(" "));
        for (instead, words) in WORDS {
            for word in words.iter().filter(|word| said.contains(&format!(" {word} "))) {
                let is_this = |(of, begin, _): &(&str, &str, &str)| {
                    of == word && path.to_string_lossy().starts_with(begin)
                };
                if !EXCEPT.iter().any(is_this) {
                    found.push(format!(
                        "{}:{number}: `{word}`, which is: {instead}",
                        path.display()
                    ));
                }
            }
        }
    }
    found
}

/// The words of a line in lower case; those of a name, such as `put_back` or `PutBack`, are words too.
fn parts(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        if c.is_alphabetic() {
            parts.last_mut().unwrap().extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The documents for people beside the sources.
fn documents() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "tessera.example.toml",
    ] {
        found.push(root().join(name));
    }
    for directory in ["docs", "proto/tessera/v1"] {
        let files = fs::read_dir(root().join(directory)).unwrap();
        found.extend(
            files
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file()),
        );
    }
    found.retain(|path| {
        path.extension()
            .is_some_and(|kind| ["md", "proto", "toml"].iter().any(|of| kind == *of))
    });
    found
}

#[test]
fn replaced_words_do_not_come_back() {
    let mut found = Vec::new();
    for file in tree::sources() {
        let lines = file.lines().map(|(number, line)| (number, line.to_owned()));
        found.extend(found_in(&file.path, lines));
    }
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = (1..).zip(text.lines().map(ToOwned::to_owned));
        found.extend(found_in(path.strip_prefix(root()).unwrap(), lines));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_replaced_word_is_seen_in_prose_and_in_names() {
    let found = |line: &str| found_in(Path::new("a.rs"), [(1, line.to_owned())].into_iter()).len();
    for line in [
        "// The copy was put back.",
        "let put_back = 1;",
        "struct PutBack;",
        "Doors are closed",
        "fn family_id()",
    ] {
        assert_eq!(found(line), 1, "{line}");
    }
    for line in ["recommended", "indoors", "output back", "unbindings"] {
        assert_eq!(found(line), 0, "{line}");
    }
}
