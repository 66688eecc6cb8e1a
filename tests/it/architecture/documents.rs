//! Links of documents lead to files that exist, and documents have what the code says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::tree;
use crate::support::root;

/// The documents for people, including those of `docs`.
fn documents() -> Vec<PathBuf> {
    let mut documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
        .map(|name| root().join(name))
        .to_vec();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents
}

/// The links of a document within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text
        .match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split(')').next());
    let files = links.filter_map(|link| link.split('#').next());
    files.filter(|file| !file.is_empty() && !file.contains("://"))
}

/// The dead links of a document.
fn dead<'a>(document: &Path, text: &'a str) -> Vec<&'a str> {
    let directory = document.parent().unwrap();
    links(text)
        .filter(|link| !directory.join(link).exists())
        .collect()
}

#[test]
fn documents_link_to_files_that_exist() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let dead = dead(&document, &text);
        assert!(dead.is_empty(), "{}: {dead:?}", document.display());
    }
}

#[test]
fn a_link_that_leads_nowhere_is_seen() {
    let text = "[a](README.md) [b](docs/gone.md#x) [c](https://example.org/gone) [d](#below)";
    assert_eq!(dead(&root().join("a.md"), text), ["docs/gone.md"]);
}

/// Each threat has a defence, and names an existing test.
#[test]
fn each_threat_names_a_test() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, table) = text
        .split_once("| threat | defence | test |\n|---|---|---|\n")
        .unwrap();
    let rows: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 20, "{} threats", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [threat, defence, test] = cells[..] else {
            panic!("{row}");
        };
        assert!(
            !threat.is_empty() && !defence.is_empty() && links(test).count() > 0,
            "{row}"
        );
    }
}

/// The reasons of failed commands in a line of code: `.because("…")`, and constants.
fn reasons(line: &str) -> impl Iterator<Item = &str> {
    let is_reason = |text: &&str| {
        text.len() > 4
            && text
                .chars()
                .all(|character| character.is_ascii_uppercase() || character == '_')
    };
    line.split('"').skip(1).step_by(2).filter(is_reason)
}

#[test]
fn every_reason_of_a_failed_command_is_documented() {
    let page = fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let mut seen = 0;
    for file in tree::crates().iter().flat_map(|of| &of.files) {
        let is_table = file.path.ends_with("daemon/src/reason.rs");
        let lines = file.lines().map(|(_, line)| line);
        let lines = lines.filter(|line| is_table || line.contains(".because(\""));
        for reason in lines.flat_map(reasons) {
            assert!(
                page.contains(&format!("`{reason}`")),
                "{reason} is not in docs/cli.md"
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}
