//! Text that a finding never repeats: secrets, and anything that is not a name. A file may contain anything by mistake,
//! and findings go to logs and callers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use tessera_policy::{Policy, PolicyError};

/// The pasted texts, and the part of each that must appear nowhere.
const PASTED: [(&str, &str); 7] = [
    ("the pass phrase is canary!", "canary"),
    ("tsk_canary0123456789", "canary"),
    ("tsr_canary", "canary"),
    ("v4.local.canary0123456789", "canary"),
    ("k4.secret-wrap.pie.canary0123456789", "canary"),
    ("-----BEGIN PRIVATE KEY----- canary", "canary"),
    ("c4naryCANARYcanary0123456789", "c4nary"),
];

fn load(files: &[(&str, Vec<u8>)]) -> Result<Policy, PolicyError> {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    Policy::from_files(&files)
}

/// The text with each of its words replaced in turn.
fn with_each_word_replaced(text: &str, by: &str) -> Vec<String> {
    let is_part = |c: char| !c.is_whitespace() && !"\"'[],=()".contains(c);
    let mut from = 0;
    let each = std::iter::from_fn(|| {
        let start = from + text[from..].find(is_part)?;
        let end = text[start..]
            .find(|c| !is_part(c))
            .map_or(text.len(), |end| start + end);
        from = end;
        Some(format!("{}{by}{}", &text[..start], &text[end..]))
    });
    each.collect()
}

#[test]
fn no_finding_repeats_what_was_pasted_into_a_file() {
    let default: Vec<(&str, Vec<u8>)> = Policy::default_files()
        .iter()
        .map(|(name, bytes)| (*name, bytes.to_vec()))
        .collect();
    let mut refused = 0;
    for (number, (name, bytes)) in default.iter().enumerate() {
        let text = String::from_utf8(bytes.clone()).unwrap();
        for (kind, (pasted, canary)) in PASTED.into_iter().enumerate() {
            let quoted = pasted.replace(' ', "_");
            // Each word is replaced by some of the pasted texts: all of them would take a minute.
            let some = |all: Vec<String>| all.into_iter().skip(kind).step_by(PASTED.len());
            let wrong = some(with_each_word_replaced(&text, pasted))
                .chain(some(with_each_word_replaced(&text, &quoted)));
            for wrong in wrong.chain([format!("{text}\n{pasted}\n")]) {
                let mut files = default.clone();
                files[number].1 = wrong.clone().into_bytes();
                let Err(error) = load(&files) else { continue };
                refused += 1;
                let said = format!("{error} {error:?}");
                assert!(!said.contains(canary), "{name}: {wrong}\n{said}");
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn no_finding_repeats_the_name_of_a_file_that_is_a_secret() {
    for (pasted, canary) in PASTED {
        let name = format!("{pasted}.cvs");
        let error = Policy::from_files(&[(name.as_str(), b"x")]).unwrap_err();
        let found = &error.diagnostics[0];
        assert_eq!(found.code, "P006");
        // A name without the form of a secret is the only indication of the file.
        if pasted.ends_with('!') {
            continue;
        }
        assert!(!format!("{error} {error:?}").contains(canary), "{error}");
    }
}

#[test]
fn a_secret_is_refused_wherever_it_stands_and_nothing_else_is_said_of_the_file() {
    for (number, (name, bytes)) in Policy::default_files().iter().enumerate() {
        for secret in ["tsk_canary0123456789", "-----BEGIN PRIVATE KEY-----"] {
            let mut files: Vec<(&str, Vec<u8>)> = Policy::default_files()
                .iter()
                .map(|(name, bytes)| (*name, bytes.to_vec()))
                .collect();
            files[number].1 = [bytes, format!("# {secret}\n\u{7}\n").as_bytes()].concat();
            let error = load(&files).unwrap_err();
            let found: Vec<_> = error
                .diagnostics
                .iter()
                .filter(|found| found.file == *name)
                .map(|found| (found.code, found.column))
                .collect();
            assert_eq!(found, [("P008", 3)], "{name}");
        }
    }
}

#[test]
fn without_its_content_a_finding_has_its_place_and_what_its_code_stands_for() {
    let mut files = Policy::default_files().to_vec();
    files.push(("zz.csv", b"p, role:ghost, *, videos, read, allow\n"));
    let found = &Policy::from_files(&files).unwrap_err().diagnostics[0];
    assert!(found.message.contains("role:ghost"));
    let without = found.without_content();
    assert_eq!(
        without.to_string(),
        "zz.csv:1:4: P037: a role that the catalogue does not have"
    );
}
