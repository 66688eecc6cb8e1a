//! Checks of every example: it is complete, each of its rules is needed, and its README is correct.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::directory;
use crate::support::{Authority, binary, copy_directory, root, stderr, stdout};

fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("policies/examples")).unwrap();
    let directories = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    let directories: Vec<_> = directories.collect();
    assert!(directories.len() >= 7, "{directories:?}");
    directories
}

fn read(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_example_has_the_supported_model() {
    let model = read(&root().join("policies"), "model.conf");
    for example in examples() {
        assert_eq!(read(&example, "model.conf"), model, "{}", example.display());
    }
}

/// Removes one rule after the other: each time the policy's own tests must fail.
#[test]
fn every_rule_is_missed_by_a_test_when_it_is_gone() {
    for example in examples() {
        let rules = read(&example, "policy.csv");
        let lines: Vec<&str> = rules.lines().collect();
        let is_rule = |line: &str| !line.is_empty() && !line.starts_with('#');
        for at in (0..lines.len()).filter(|&at| is_rule(lines[at])) {
            let copy = tempfile::tempdir().unwrap();
            copy_directory(&example, copy.path());
            let without = [&lines[..at], &lines[at + 1..]].concat().join("\n");
            fs::write(copy.path().join("policy.csv"), without).unwrap();
            let started = Authority::start_dev(&["--policy", copy.path().to_str().unwrap()]);
            let refused = started.err().unwrap_or_default();
            assert!(
                refused.contains("P050"),
                "{}: {}: {refused}",
                example.display(),
                lines[at]
            );
        }
    }
}

/// Removes one route after the other: each time the policy's own tests must fail.
#[test]
fn every_route_is_missed_by_a_test_when_it_is_gone() {
    let routed: Vec<PathBuf> = examples()
        .into_iter()
        .filter(|example| example.join("routes.toml").exists())
        .collect();
    assert!(!routed.is_empty());
    for example in routed {
        let file = read(&example, "routes.toml");
        let routes: Vec<&str> = file.split("[[route]]\n").skip(1).collect();
        for at in 0..routes.len() {
            let copy = tempfile::tempdir().unwrap();
            copy_directory(&example, copy.path());
            let without: Vec<String> = [&routes[..at], &routes[at + 1..]]
                .concat()
                .iter()
                .map(|route| format!("[[route]]\n{route}"))
                .collect();
            fs::write(copy.path().join("routes.toml"), without.concat()).unwrap();
            let checked = Command::new(binary())
                .args(["policy", "check"])
                .arg(copy.path())
                .output()
                .unwrap();
            assert_eq!(checked.status.code(), Some(1), "{}", routes[at]);
            assert!(
                stdout(&checked).contains("P050"),
                "{}: {}",
                routes[at],
                stdout(&checked)
            );
        }
    }
}

/// The commands of a README's `sh` blocks, each with its output after `#>`.
fn steps(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let blocks = readme.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    for line in lines.filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("#>") {
            Some(expected) => steps.last_mut().unwrap().1.push(expected.trim().to_owned()),
            None => steps.push((line.to_owned(), Vec::new())),
        }
    }
    steps
}

/// The output of each command, in one shell, as a reader with the printed keys would run them.
fn answers(authority: &Authority, steps: &[(String, Vec<String>)]) -> Vec<String> {
    let commands = steps
        .iter()
        .map(|(command, _)| format!("echo '@@@'\n{command} 2>&1 || true\n"));
    let directory = binary().parent().unwrap().display();
    let output = Command::new("bash")
        .args(["-u", "-c", &commands.collect::<String>()])
        .current_dir(root())
        .env("PATH", format!("{directory}:{}", std::env::var("PATH").unwrap()))
        .env("TESSERA_ADDR", &authority.address)
        .env("TESSERA_API_KEY", authority.api_key("production"))
        .env("SANDBOX", authority.api_key("sandbox"))
        .output()
        .unwrap();
    assert_eq!(stderr(&output), "");
    stdout(&output).split("@@@").skip(1).map(str::to_owned).collect()
}

fn check_readme(name: &str) {
    let directory = directory(name);
    let readme = read(&directory, "README.md");
    let start = format!("cargo run --release -- dev --policy policies/examples/{name}\n");
    assert!(readme.contains(&start), "{name} does not say how it is run");
    let authority = Authority::dev(&["--policy", directory.to_str().unwrap()]);
    let steps = steps(&readme);
    let checked = steps.iter().filter(|(_, expected)| !expected.is_empty()).count();
    assert!(checked >= 3, "{name}: a README whose answers nobody checks");
    let answers = answers(&authority, &steps);
    assert_eq!(answers.len(), steps.len(), "{name}: {answers:?}");
    for ((command, expected), answer) in steps.iter().zip(answers) {
        for part in expected {
            assert!(
                answer.contains(part.as_str()),
                "{name}: {command}\nmust print: {part}\nprinted: {answer}"
            );
        }
    }
}

#[test]
fn every_readme_goes_as_it_says() {
    for example in examples() {
        check_readme(example.file_name().unwrap().to_str().unwrap());
    }
}
