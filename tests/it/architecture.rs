//! The rules of `docs/ARCHITECTURE.md`, read off the tree: a test fails where one is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::root;

/// Which crates of ours a crate may name. Data flows one way.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("tessera-core", &[]),
    ("tessera-token", &["tessera-core"]),
    ("tessera-policy", &["tessera-core"]),
    ("tessera-store", &["tessera-core"]),
    (
        "tessera-authority",
        &["tessera-core", "tessera-token", "tessera-policy", "tessera-store"],
    ),
    (
        "tessera-server",
        &[
            "tessera-core",
            "tessera-token",
            "tessera-policy",
            "tessera-store",
            "tessera-authority",
            "tessera-proto",
        ],
    ),
    ("tessera-store-sled", &["tessera-core", "tessera-store"]),
    ("tessera-store-conformance", &["tessera-core", "tessera-store"]),
    (
        "tessera-daemon",
        &[
            "tessera-core",
            "tessera-token",
            "tessera-policy",
            "tessera-store",
            "tessera-store-sled",
            "tessera-authority",
            "tessera-server",
        ],
    ),
    (
        "tessera-cli",
        &[
            "tessera-core",
            "tessera-token",
            "tessera-policy",
            "tessera-store",
            "tessera-authority",
            "tessera-server",
            "tessera-daemon",
            "tessera-proto",
        ],
    ),
    (
        "tessera-client",
        &["tessera-core", "tessera-token", "tessera-proto"],
    ),
    (
        "tessera-testkit",
        &[
            "tessera-core",
            "tessera-token",
            "tessera-policy",
            "tessera-store",
            "tessera-authority",
            "tessera-server",
            "tessera-daemon",
            "tessera-client",
            "tessera-proto",
        ],
    ),
    ("tessera-examples", &["tessera-client"]),
    ("tessera-bench", &["tessera-client", "tessera-proto"]),
    ("tessera-proto", &[]),
];

/// Who alone may name a library.
const ONLY: [(&str, &[&str]); 7] = [
    ("sled", &["tessera-store-sled"]),
    ("casbin", &["tessera-policy"]),
    ("pasetors", &["tessera-token"]),
    ("orion", &["tessera-token"]),
    (
        "tonic",
        &[
            "tessera-proto",
            "tessera-server",
            "tessera-daemon",
            "tessera-client",
            "tessera-proto",
            "tessera-cli",
            "tessera-bench",
            "tessera-testkit",
        ],
    ),
    ("prost", &["tessera-proto", "tessera-bench"]),
    ("axum", &["tessera-server", "tessera-examples"]),
];

/// The packages of the workspace with the names of what they are built from (not of what tests them).
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap();
        let normal = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        packages.insert(package["name"].as_str().unwrap().to_owned(), names.collect());
    }
    packages
}

fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The sources of what runs, tests left out.
fn production_sources() -> Vec<(PathBuf, String)> {
    let mut found = sources(&root().join("examples/src"));
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        found.extend(sources(&entry.unwrap().path().join("src")));
    }
    found.retain(|(path, _)| !path.to_string_lossy().contains("/tests"));
    for (_, text) in &mut found {
        if let Some(tests) = text.find("#[cfg(test)]") {
            text.truncate(tests);
        }
    }
    assert!(found.len() > 50);
    found
}

#[test]
fn crates_depend_one_way() {
    let allowed: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    for (package, dependencies) in packages() {
        let may_use = allowed
            .get(package.as_str())
            .unwrap_or_else(|| panic!("{package} is not in MAY_USE"));
        for dependency in dependencies.iter().filter(|name| name.starts_with("tessera-")) {
            assert!(
                may_use.contains(&dependency.as_str()),
                "{package} must not use {dependency}"
            );
        }
    }
}

#[test]
fn each_library_has_its_place() {
    for (package, dependencies) in packages() {
        for (library, places) in ONLY {
            let is_used = dependencies.contains(library);
            assert!(
                !is_used || places.contains(&package.as_str()),
                "{package} must not name {library}"
            );
        }
    }
}

#[test]
fn no_crate_allows_unsafe_code() {
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let source = entry.unwrap().path().join("src");
        let roots = [source.join("lib.rs"), source.join("main.rs")];
        for file in roots.iter().filter(|file| file.exists()) {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains("#![forbid(unsafe_code)]"), "{}", file.display());
        }
    }
}

#[test]
fn files_are_small_and_named_after_things() {
    for (path, text) in production_sources() {
        let lines = text.lines().count();
        assert!(
            lines <= 600,
            "{}: {lines} lines want to be split by noun",
            path.display()
        );
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let vague = [
            "utils", "util", "common", "helpers", "helper", "types", "manager", "misc",
        ];
        assert!(!vague.contains(&name.as_str()), "{}", path.display());
    }
}

#[test]
fn only_the_clock_looks_at_the_clock() {
    for (path, text) in production_sources() {
        let is_clock = path.ends_with("core/src/clock.rs");
        for forbidden in ["SystemTime::now", "Timestamp::now", "Uuid::now_v7"] {
            assert!(
                is_clock || !text.contains(forbidden),
                "{}: {forbidden}",
                path.display()
            );
        }
    }
}

#[test]
fn every_kind_of_event_is_followed_by_the_compiler() {
    // `_ =>` on an event would let a new kind be silent.
    for file in ["event.rs", "revocations.rs"] {
        let text = fs::read_to_string(root().join("crates/core/src").join(file)).unwrap();
        assert!(!text.contains("_ =>"), "{file}: a new kind must be decided on");
    }
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut documents = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    for document in documents
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..]
                .split(')')
                .next()
                .unwrap()
                .split('#')
                .next()
                .unwrap();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}
