//! A running authority for the tests of the command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    reason = "tests, each with a part of this"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// The permissions of `client:dev` in these tests.
pub(crate) const ADMIN: &str = "\
p, client:dev, *, tessera/policies, *, allow
p, client:dev, *, tessera/audit, read, allow
p, client:dev, *, tessera/tokens, introspect, allow
p, client:dev, *, tessera/revocations, watch, allow
p, client:dev, *, tessera/revocations, require, allow
p, client:dev, *, tessera/subjects/user:*, issue, allow
p, client:dev, *, tessera/roles/role:reader, assert, allow
g, client:dev, role:billing, production
";

pub(crate) fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary, without this test's environment.
pub(crate) fn tessera() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    for variable in [
        "TESSERA_ADDR",
        "TESSERA_API_KEY",
        "TESSERA_CA",
        "TESSERA_CLIENT_CERT",
        "TESSERA_CLIENT_KEY",
        "TESSERA_SERVER_KEY",
        "TESSERA_BACKUP_KEY",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running authority with the policy `policies/` in its own directory; killed when it is dropped.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    child: Child,
    address: String,
    key: String,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with `policies/` and `next/`, both with rules for the client of these tests.
pub(crate) fn policies() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for policy in ["policies", "next"] {
        let (from, to) = (
            here().join("tests/policies").join(policy),
            directory.path().join(policy),
        );
        fs::create_dir_all(to.join("tests")).unwrap();
        for file in ["model.conf", "catalogue.toml", "policy.csv", "tests/reports.toml"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        fs::write(to.join("admin.csv"), ADMIN).unwrap();
    }
    directory
}

impl Authority {
    /// `tessera dev`, which puts changes of the directory in force automatically.
    pub(crate) fn dev() -> Self {
        let directory = policies();
        let ready = directory.path().join("ready.json");
        let mut command = tessera();
        command
            .current_dir(directory.path())
            .args(["dev", "--policy", "policies", "--print-json"]);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--ready-file",
        ]);
        let mut child = command
            .arg(&ready)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let printed: Value = serde_json::from_str(&line).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        assert_eq!(printed, written);
        Self {
            directory,
            child,
            address: printed["grpc"].as_str().unwrap().to_owned(),
            key: printed["realms"]["production"]["api_key"]
                .as_str()
                .unwrap()
                .to_owned(),
        }
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// `tessera serve` with `[policy] watch = false`: a change waits in the directory.
    pub(crate) fn serve() -> Self {
        Self::serve_in(policies(), "http", "")
    }

    /// The same in a given directory, with more settings; `scheme` is that of its address.
    pub(crate) fn serve_in(directory: tempfile::TempDir, scheme: &str, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let example = fs::read_to_string(here().join("../../tessera.example.toml")).unwrap();
        let config = example
            .replace("\"127.0.0.1:7600\"", &format!("\"127.0.0.1:{port}\""))
            .replace("\"127.0.0.1:7601\"", "\"127.0.0.1:0\"")
            .replace("watch = true", "watch = false")
            + settings;
        assert!(config.contains("watch = false"));
        let path = directory.path().join("tessera.toml");
        fs::write(&path, config).unwrap();
        let mut first_key = tessera();
        first_key.args([
            "apikey",
            "create",
            "dev",
            "--realm",
            "production",
            "--field",
            "secret",
            "--config",
        ]);
        let made = first_key.arg(&path).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let mut command = tessera();
        command
            .args(["serve", "--config"])
            .arg(&path)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("serving") {
            assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
        }
        // Its log is discarded, but must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            directory,
            child,
            address: format!("{scheme}://localhost:{port}"),
            key: text(&made.stdout).trim().to_owned(),
        }
    }

    /// Its address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tessera();
        command
            .current_dir(self.directory.path())
            .env("TESSERA_ADDR", &self.address)
            .env("TESSERA_API_KEY", &self.key)
            .args(arguments);
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The output of a command, which must end with the exit code.
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = text(&output.stdout) + text(&output.stderr).as_str();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Begins a session of a reader that may read reports.
    pub(crate) fn issue(&self, subject: &str) -> Value {
        let issue = ["token", "issue", "--subject", subject, "--role", "role:reader"];
        let scope = ["--scope", "reports/2026:read"];
        self.json(0, &[&issue[..], &scope[..]].concat())
    }

    /// Removes the readers' permissions from the directory's rules.
    pub(crate) fn take_reports_away(&self) {
        let rules = self.path("policies/policy.csv");
        let text = fs::read_to_string(&rules).unwrap();
        let rule = "p, role:reader, *, reports/*, read, allow\n";
        assert!(text.contains(rule));
        fs::write(rules, text.replace(rule, "")).unwrap();
        fs::remove_file(self.path("policies/tests/reports.toml")).unwrap();
    }

    /// Puts a mistake into the directory's rules.
    pub(crate) fn spoil(&self) {
        fs::write(
            self.path("policies/more.csv"),
            "p, role:raeder, *, reports/*, read, allow\n",
        )
        .unwrap();
    }
}
