//! The README's tour, run unchanged, so that it stays correct.
//!
//! Every line of its `sh` blocks under "A tour" is run in one shell. A line that begins with `#>` is the expected
//! output of the command above it. The example services of the tour are started according to their `console` block, on
//! free ports.

use std::{fs, path::Path, process::Command};

use crate::support::{Authority, Service, binary, root, stderr, stdout};

/// The text below "A tour" of the README.
fn tour() -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let tour = readme.split("\n## A tour\n").nth(1).unwrap();
    tour.split("\n## ").next().unwrap().to_owned()
}

/// The commands of a page, each with its expected output.
pub(crate) fn steps(page: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for block in page.split("```sh\n").skip(1) {
        for line in block
            .split("```")
            .next()
            .unwrap()
            .lines()
            // A block may be part of a list.
            .map(str::trim_start)
            .filter(|line| !line.trim().is_empty())
        {
            match line.strip_prefix("#>") {
                Some(expected) => steps.last_mut().unwrap().1.push(expected.trim().to_owned()),
                None => steps.push((line.to_owned(), Vec::new())),
            }
        }
    }
    steps
}

/// Runs all commands in one shell, and compares.
fn run(steps: &[(String, Vec<String>)], variables: &[(&str, &str)]) {
    run_in(root(), steps, variables);
}

/// The same, in another directory.
pub(crate) fn run_in(
    directory: &Path,
    steps: &[(String, Vec<String>)],
    variables: &[(&str, &str)],
) -> String {
    let mut script = String::new();
    for (number, (command, _)) in steps.iter().enumerate() {
        // A refusal is part of the tour: it must print the expected text, and not end the rest.
        script += &format!("echo '@@@ {number}'\n{command} 2>&1 || true\n");
    }
    let path = format!(
        "{}:{}",
        binary().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-u", "-c", &script])
        .current_dir(directory)
        .env("PATH", path)
        .envs(variables.iter().copied())
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap();
    let printed = stdout(&output);
    let answers: Vec<_> = printed.split("@@@ ").skip(1).collect();
    assert_eq!(answers.len(), steps.len(), "{printed}\n{}", stderr(&output));
    for ((command, expected), answer) in steps.iter().zip(answers) {
        for part in expected {
            assert!(
                answer.contains(part.as_str()),
                "{command}\nmust print: {part}\nprinted: {answer}"
            );
        }
    }
    printed
}

#[test]
fn the_tour_goes_as_it_says() {
    let authority = Authority::dev(&[]);
    let api_key = authority.api_key("production");
    let reach = [
        ("TESSERA_ADDR", &*authority.address),
        ("TESSERA_API_KEY", &api_key),
    ];
    let videos = Service::start("videos", &reach);
    let (_, address) = &videos.place;
    let front = Service::start("front", &[reach[0], reach[1], ("VIDEOS", address)]);
    let steps = steps(&tour());
    assert!(steps.len() >= 10, "{steps:?}");
    let place = |service: &Service| service.place.clone();
    let (videos, front) = (place(&videos), place(&front));
    run(
        &steps,
        &[reach[0], reach[1], (&videos.0, &videos.1), (&front.0, &front.1)],
    );
    let checked = steps.iter().filter(|(_, expected)| !expected.is_empty()).count();
    assert!(checked >= 8, "a tour whose answers nobody checks");
}

#[test]
fn the_page_about_http_says_what_happens() {
    let authority = Authority::dev(&[]);
    let api_key = authority.api_key("production");
    let page = fs::read_to_string(root().join("docs/http.md")).unwrap();
    let steps = steps(&page);
    assert!(
        steps.iter().all(|(_, expected)| !expected.is_empty()) && steps.len() >= 6,
        "{steps:?}"
    );
    run(
        &steps,
        &[
            ("TESSERA_ADDR", &*authority.address),
            ("TESSERA_API_KEY", &api_key),
        ],
    );
}
