//! The README's tour, run as it stands there, so that it can't rot.
//!
//! Every line of its `sh` blocks under "A tour" is run in one shell. A line that begins with `#>` says
//! what the command above it must have printed. The example services that the tour calls are started as
//! their `console` block says, on free ports.

use std::{fs, process::Command};

use crate::support::{Authority, Service, binary, root, stderr, stdout};

/// The commands of the tour, each with what it must print.
fn steps() -> Vec<(String, Vec<String>)> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let tour = readme
        .split("\n## A tour\n")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for block in tour.split("```sh\n").skip(1) {
        for line in block
            .split("```")
            .next()
            .unwrap()
            .lines()
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
    let steps = steps();
    assert!(steps.len() >= 10, "{steps:?}");
    let mut script = String::new();
    for (number, (command, _)) in steps.iter().enumerate() {
        // A refusal is part of the tour: it must print what is said, and not end it.
        script += &format!("echo '@@@ {number}'\n{command} 2>&1 || true\n");
    }
    let path = format!(
        "{}:{}",
        binary().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-u", "-c", &script])
        .current_dir(root())
        .env("PATH", path)
        .envs(reach)
        .envs([videos.place.clone(), front.place.clone()])
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
    let checked = steps.iter().filter(|(_, expected)| !expected.is_empty()).count();
    assert!(checked >= 8, "a tour whose answers nobody checks");
}
