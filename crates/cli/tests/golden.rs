//! The output of the command line, kept in `tests/golden/*.trycmd` and in `docs/policies.md`: each command there is
//! run, in a directory with the policies of `tests/policies` and the bad examples of `tessera-policy`.
//!
//! In the comparison, a backslash is written as a slash.
//!
//! To write all output again, for a review of the changes:
//! `TRYCMD=overwrite cargo test -p tessera-cli --test golden`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tessera_policy::CODES;
use trycmd::TestCases;

/// Codes without an example, and why.
const WITHOUT_EXAMPLE: [(&str, &str); 3] = [
    (
        "P060",
        "no rules that pass the reader are known that casbin refuses",
    ),
    ("P061", "a defect of ours"),
    (
        "P048",
        "a warning, which refuses nothing: `check.trycmd` shows it",
    ),
];

/// Examples that can't be stored in a repository: `made` creates them.
const MADE: [&str; 7] = [
    "P001-a-directory",
    "P001-dangling-link",
    "P002-long-line",
    "P002-too-large",
    "P005-escape-sequences",
    "P006-escape-sequences",
    "P007-link-out",
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bad() -> PathBuf {
    here().join("../policy/tests/bad")
}

/// The names of all bad examples by their codes.
fn examples() -> BTreeMap<String, Vec<String>> {
    let stored = fs::read_dir(bad())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "base");
    let mut names: Vec<String> = stored.chain(MADE.map(str::to_owned)).collect();
    names.sort();
    let mut by_code: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        by_code.entry(name[..4].to_owned()).or_default().push(name);
    }
    by_code
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Copies a bad example over the base.
fn lay_out(name: &str, directory: &Path) {
    copy(&bad().join("base"), directory);
    if MADE.contains(&name) {
        make(name, directory);
        return;
    }
    copy(&bad().join(name), directory);
    let expected = fs::read_to_string(directory.join("expected")).unwrap();
    fs::remove_file(directory.join("expected")).unwrap();
    for file in expected.lines().filter_map(|line| line.strip_prefix("without ")) {
        fs::remove_file(directory.join(file)).unwrap();
    }
}

fn make(name: &str, directory: &Path) {
    match name {
        "P001-a-directory" => fs::create_dir(directory.join("more.csv")).unwrap(),
        "P001-dangling-link" => symlink("nowhere", directory.join("more.csv")).unwrap(),
        "P002-long-line" => {
            fs::write(directory.join("more.csv"), format!("# {}\n", "x".repeat(5_000))).unwrap();
        }
        "P002-too-large" => {
            let file = fs::File::create(directory.join("more.csv")).unwrap();
            // Sparse: it has no bytes on disk.
            file.set_len(17 * 1024 * 1024).unwrap();
        }
        "P005-escape-sequences" => {
            let rule = "p, role:viewer\x1b[2J\x1b]0;title\x07, *, videos, read, allow\n";
            fs::write(directory.join("policy.csv"), rule).unwrap();
        }
        "P006-escape-sequences" => fs::write(directory.join("more\x1b[31m.cvs"), "").unwrap(),
        "P007-link-out" => symlink("../policies/policy.csv", directory.join("more.csv")).unwrap(),
        _ => panic!("{name}"),
    }
}

/// The working directory of the commands, with one policy of each kind.
fn world() -> tempfile::TempDir {
    let world = tempfile::tempdir().unwrap();
    copy(&here().join("tests/policies"), world.path());
    for name in examples().values().flatten() {
        lay_out(name, &world.path().join(name));
    }
    world
}

fn golden(code: &str) -> PathBuf {
    here().join(format!("tests/golden/bad/{code}.trycmd"))
}

fn command(example: &str) -> String {
    format!("$ tessera policy check {example}\n")
}

/// Creates the missing files of examples; the run fills in the output.
fn begin_missing() {
    for (code, names) in examples() {
        let path = golden(&code);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        for name in names
            .iter()
            .filter(|name| !text.contains(&command(name)))
            .collect::<Vec<_>>()
        {
            let gap = if text.is_empty() { "" } else { "\n" };
            text = format!("{text}{gap}```console\n{}? 1\n\n```\n", command(name));
        }
        fs::write(path, text).unwrap();
    }
}

#[test]
fn every_command_prints_what_is_written_down() {
    if env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite") {
        begin_missing();
    }
    let world = world();
    env::set_current_dir(world.path()).unwrap();
    let cases = TestCases::new();
    cases
        .register_bin("tessera", Path::new(env!("CARGO_BIN_EXE_tessera")).to_owned())
        .case(here().join("tests/golden/*.trycmd"))
        .case(here().join("tests/golden/bad/*.trycmd"))
        .case(here().join("../../docs/policies.md"));
    cases.run();
}

#[test]
fn every_code_is_shown() {
    let examples = examples();
    for (code, title) in CODES {
        let is_excused = WITHOUT_EXAMPLE.iter().any(|(excused, _)| excused == code);
        assert_ne!(examples.contains_key(*code), is_excused, "{code}, {title}");
    }
    for (code, names) in examples {
        let text = fs::read_to_string(golden(&code)).unwrap_or_default();
        for name in names {
            let is_shown = text.contains(&command(&name)) && text.contains(&format!("× {code}: "));
            assert!(is_shown, "{name} is not in {}", golden(&code).display());
        }
    }
}

/// The stdout of a command line; it must succeed.
fn said(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs of `tessera policy`, as its help lists them.
fn verbs() -> BTreeSet<String> {
    let help = said(&["policy", "--help"]);
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let verbs = commands.lines().filter_map(|line| line.split_whitespace().next());
    verbs.filter(|verb| *verb != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_verb_has_an_example_and_is_shown() {
    let golden = fs::read_to_string(here().join("tests/golden/help.trycmd")).unwrap();
    let verbs = verbs();
    assert!(verbs.len() >= 10, "{verbs:?}");
    for verb in verbs {
        let help = said(&["policy", &verb, "--help"]);
        assert!(
            help.contains(&format!("\n  tessera policy {verb}")),
            "{verb}: {help}"
        );
        assert!(
            golden.contains(&format!("$ tessera policy {verb} --help\n")),
            "{verb}"
        );
    }
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        assert!(
            script.contains("fail-on-gain") && script.contains("deny-uncovered"),
            "{shell}"
        );
    }
}

#[test]
fn every_code_is_in_the_table_of_the_documentation_under_its_title() {
    let text = fs::read_to_string(here().join("../../docs/policies.md")).unwrap();
    let rows: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| line.starts_with("| P0"))
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            assert!(cells.len() == 3 && cells[2].len() > 5, "{line}");
            (cells[0].trim_start_matches("| "), cells[1])
        })
        .collect();
    assert_eq!(rows, CODES);
}

#[test]
fn the_documentation_shows_the_files_that_it_is_about() {
    let text = fs::read_to_string(here().join("../../docs/policies.md")).unwrap();
    for file in ["policy.csv", "catalogue.toml"] {
        let shown = fs::read_to_string(here().join("tests/policies/policies").join(file)).unwrap();
        assert!(text.contains(&shown), "{file}");
    }
}

#[test]
fn the_commands_that_the_documentation_names_exist() {
    let text = fs::read_to_string(here().join("../../docs/policies.md")).unwrap();
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("tessera policy ") {
        let line = text[at..]
            .split(['\n', '`', '|', '#', '>', ';', ','])
            .next()
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        let verb = words[0];
        let help = said(&["policy", verb, "--help"]);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            assert!(help.contains(flag), "`{line}`: no {flag}");
        }
        named.insert(verb.to_owned());
    }
    assert_eq!(named, verbs(), "the documentation leaves one out");
}
