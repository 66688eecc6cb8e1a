//! Limits, and the files that a directory may contain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{fs, path::Path, time::Instant};

use tessera_policy::{Policy, PolicyError};

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in Policy::default_files() {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    directory
}

fn codes(result: Result<Policy, PolicyError>) -> Vec<(&'static str, String)> {
    result
        .unwrap_err()
        .diagnostics
        .into_iter()
        .map(|diagnostic| (diagnostic.code, diagnostic.file))
        .collect()
}

#[test]
fn a_file_that_is_too_large_is_refused_without_reading_it_to_the_end() {
    let directory = directory();
    // Sparse: it has no bytes on disk.
    fs::File::create(directory.path().join("big.csv"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert_eq!(
        codes(Policy::load(directory.path())),
        [("P002", "big.csv".to_owned())]
    );
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let directory = directory();
    fs::write(
        directory.path().join("long.csv"),
        format!("# {}\n", "x".repeat(5_000)),
    )
    .unwrap();
    assert_eq!(
        codes(Policy::load(directory.path())),
        [("P002", "long.csv".to_owned())]
    );
}

/// Run with `cargo test --release -p tessera-policy --test limits -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn figures_of_loading() {
    for (rules, users) in [
        (1_000, 1_000),
        (10_000, 10_000),
        (100_000, 100_000),
        (400_000, 600_000),
    ] {
        let roles = rules / 10;
        let mut catalogue =
            String::from("[realms]\nproduction = \"p\"\nsandbox = \"s\"\n[audiences]\napi = \"a\"\n");
        catalogue.push_str("[scopes]\n\"films/{id}:play\" = \"f\"\n[roles]\n");
        (0..roles).for_each(|role| catalogue.push_str(&format!("\"role:r{role}\" = \"r\"\n")));
        let policies: String = (0..rules)
            .map(|rule| format!("p,role:r{},*,films/{rule},play,allow\n", rule % roles))
            .collect();
        let users: Vec<String> = (0..users)
            .map(|user| format!("g,u{user},role:r{},*\n", user % roles))
            .collect();
        let mut files = vec![
            Policy::default_files()[0],
            ("catalogue.toml", catalogue.as_bytes()),
        ];
        files.push(("a.csv", policies.as_bytes()));
        let halves = users
            .chunks(users.len() / 2)
            .map(<[String]>::concat)
            .collect::<Vec<_>>();
        files.push(("b.csv", halves[0].as_bytes()));
        files.push(("c.csv", halves[1].as_bytes()));
        let started = Instant::now();
        let policy = Policy::from_files(&files).unwrap();
        println!("{} rules: loaded in {:?}", policy.rule_count(), started.elapsed());
        if policy.rule_count() == 1_000_000 {
            files.push(("d.csv", b"g, one-more, role:r1, *\n"));
            assert_eq!(codes(Policy::from_files(&files)), [("P002", "d.csv".to_owned())]);
        }
    }
}

#[test]
fn documentation_hidden_files_and_examples_may_stand_beside_a_policy() {
    let directory = directory();
    let before = Policy::load(directory.path()).unwrap();
    fs::write(directory.path().join("README.md"), "what this is").unwrap();
    fs::write(directory.path().join(".policy.csv.swp"), "\u{0}").unwrap();
    fs::create_dir_all(directory.path().join("examples/rental")).unwrap();
    assert_eq!(
        Policy::load(directory.path()).unwrap().revision(),
        before.revision()
    );
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_so_is_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        codes(Policy::load(&directory.path().join("nowhere"))),
        [("P001", ".".to_owned())]
    );
    let missing = ["catalogue.toml", "model.conf", "policy.csv"].map(|name| ("P001", name.to_owned()));
    assert_eq!(codes(Policy::load(directory.path())), missing);
    assert!(Policy::load(Path::new("")).is_err());
}

#[test]
fn the_number_of_findings_is_limited() {
    let mut files = Policy::default_files().to_vec();
    let rules = "P, role:viewer, *, videos, read, allow\n".repeat(50_000);
    files[2].1 = Box::leak(rules.into_boxed_str()).as_bytes();
    assert_eq!(Policy::from_files(&files).unwrap_err().diagnostics.len(), 1_000);
}
