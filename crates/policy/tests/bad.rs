//! Every code has an example: a directory `bad/<code>-<slug>` with the files that differ from `bad/base`, and
//! `expected`, whose lines are `<code> <file>:<line>:<column>`, or `without <file>`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tessera_policy::{CODES, Policy};

/// Codes without an example, and why.
const WITHOUT_EXAMPLE: [(&str, &str); 5] = [
    (
        "P002",
        "a file over 16 MiB does not belong in a repository; `limits.rs` makes one",
    ),
    ("P048", "a warning; `token_size.rs` makes it"),
    ("P007", "`sources.rs` makes links of every kind"),
    (
        "P060",
        "no rules that pass the reader are known that casbin refuses",
    ),
    ("P061", "a defect of ours; the index's own tests seed one"),
];

fn bad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

fn examples() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(bad())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "base")
        .collect();
    names.sort();
    names
}

/// The files below `directory` by their name in the policy.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path
                    .strip_prefix(directory)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The files of an example laid over the base, and what is expected of them.
fn example(name: &str) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let mut all = files(&bad().join("base"));
    all.extend(files(&bad().join(name)));
    let expected = String::from_utf8(all.remove("expected").unwrap()).unwrap();
    let mut lines = Vec::new();
    for line in expected.lines() {
        match line.strip_prefix("without ") {
            Some(file) => assert!(all.remove(file).is_some(), "{name}: {file}"),
            None => lines.push(line.to_owned()),
        }
    }
    (all, lines)
}

#[test]
fn the_base_is_right() {
    let base = files(&bad().join("base"));
    let base: Vec<(&str, &[u8])> = base
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    Policy::from_files(&base).unwrap();
}

#[test]
fn a_test_may_have_an_empty_list_beside_one_that_asks() {
    let test = "[[test]]\nname = \"nobody writes\"\nrealm = \"production\"\nsubject = \"user:ann\"\n\
                roles = []\nallow = []\ndeny = [\"videos:write\"]\n";
    let mut all = files(&bad().join("base"));
    all.insert("tests/case.toml".to_owned(), test.into());
    let all: Vec<(&str, &[u8])> = all
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    assert_eq!(Policy::from_files(&all).unwrap().test_report().expectations, 1);
}

#[test]
fn every_example_is_refused_with_its_code_at_its_place() {
    let mut wrong = Vec::new();
    for name in examples() {
        let (all, expected) = example(&name);
        let all: Vec<(&str, &[u8])> = all
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        let found: Vec<String> = match Policy::from_files(&all) {
            Ok(_) => Vec::new(),
            Err(error) => error
                .diagnostics
                .iter()
                .map(|d| format!("{} {}:{}:{}", d.code, d.file, d.line, d.column))
                .collect(),
        };
        if found != expected || !expected.iter().any(|line| name.starts_with(&line[..4])) {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_is_refused_alike_when_it_is_read_from_a_directory() {
    for name in examples() {
        let (all, _) = example(&name);
        let directory = tempfile::tempdir().unwrap();
        for (file, bytes) in &all {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let all: Vec<(&str, &[u8])> = all
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        let expected = Policy::from_files(&all).unwrap_err();
        assert_eq!(Policy::load(directory.path()).unwrap_err(), expected, "{name}");
    }
}

#[test]
fn every_code_has_an_example_or_a_reason_for_having_none() {
    let examples: BTreeSet<String> = examples().iter().map(|name| name[..4].to_owned()).collect();
    for (code, title) in CODES {
        let is_excused = WITHOUT_EXAMPLE.iter().any(|(excused, _)| excused == code);
        assert_ne!(examples.contains(*code), is_excused, "{code}, {title}");
    }
}

#[test]
fn every_code_is_in_the_table_under_its_title() {
    let table = include_str!("../../../docs/policies.md");
    let rows: Vec<(&str, &str)> = table
        .lines()
        .filter(|line| line.starts_with("| P"))
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert_eq!(cells.len(), 3, "{line}");
            (cells[0].trim_start_matches("| "), cells[1])
        })
        .collect();
    assert_eq!(rows, CODES);
}

#[test]
fn messages_read_as_sentences_for_people() {
    for name in examples() {
        let (all, _) = example(&name);
        let all: Vec<(&str, &[u8])> = all
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        for diagnostic in Policy::from_files(&all).unwrap_err().diagnostics {
            let message = &diagnostic.message;
            assert!(
                !message.ends_with('.') && !message.starts_with(char::is_uppercase),
                "{message}"
            );
            assert!(!message.contains("::") && !message.contains('\n'), "{message}");
        }
    }
}
