//! Output into pipes whose reader is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::support::{Authority, tessera, text};

/// A pipe whose reader is gone.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

/// The exit code and stderr of a command whose stdout is closed.
fn without_reader(command: &mut Command) -> (Option<i32>, String) {
    let child = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_closed_pipe_is_no_failure_and_says_nothing() {
    let quiet = (Some(0), String::new());
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["--help"],
        &["policy", "--help"],
        &["--version"],
    ] {
        assert_eq!(without_reader(tessera().args(arguments)), quiet, "{arguments:?}");
    }
    let policies = support::policies();
    let mut check = tessera();
    check.current_dir(policies.path()).args(["policy", "check"]);
    assert_eq!(without_reader(&mut check), quiet);
    // The exit code keeps its meaning.
    let mut can = tessera();
    can.current_dir(policies.path()).args([
        "policy",
        "can",
        "client:jobs",
        "invoices:read",
        "--realm",
        "production",
    ]);
    assert_eq!(without_reader(&mut can), (Some(1), String::new()));
}

#[test]
fn a_stream_ends_with_its_reader() {
    let authority = Authority::dev();
    let mut watch = authority.command(&["watch", "--from", "snapshot", "--json"]);
    let (status, said) = without_reader(&mut watch);
    assert!(status == Some(0) && said.is_empty(), "{status:?} {said}");
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let mut refused = tessera();
    refused.args(["token", "issue"]).stderr(closed_pipe());
    assert_eq!(refused.output().unwrap().status.code(), Some(2));
}

/// A secret that is shown once is lost if it is not read: that is a failure.
#[test]
fn a_secret_that_nobody_reads_is_said_to_be_lost() {
    let place = tempfile::tempdir().unwrap();
    let (code, said) = without_reader(tessera().args(["init", "auth"]).current_dir(place.path()));
    assert!(
        code == Some(2) && said.contains("API keys that were made are lost"),
        "{said}"
    );
    let mut create = tessera();
    create.args([
        "apikey",
        "create",
        "dev",
        "--realm",
        "production",
        "--config",
        "auth/tessera.toml",
    ]);
    let (code, said) = without_reader(create.current_dir(place.path()));
    assert!(
        code == Some(2) && said.contains("revoke it with `tessera apikey revoke "),
        "{said}"
    );
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = tessera();
    let child = command
        .args(["completions", "bash"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("stdout can't be written"),
        "{said}"
    );
}

#[test]
fn dev_goes_on_serving_where_its_banner_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready.json");
    let mut command = tessera();
    command.args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let mut child = command
        .arg("--ready-file")
        .arg(&ready)
        .stdout(closed_pipe())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    // Its end closes stderr; until then it serves.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    while stderr.read_line(&mut said).unwrap() > 0 {}
    assert!(!said.contains("panicked"), "{said}");
}
