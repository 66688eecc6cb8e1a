//! The authority's messages about its policy's files: they contain nothing of a file outside the policy, and no secret
//! that was pasted into a file of the policy.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use tessera_proto::v1::{
    GetStatusRequest, GetStatusResponse, PlanRequest, PolicyFile, ReloadOutcome, ReloadRequest,
    policy_service_client::PolicyServiceClient,
};
use tonic::{Status, service::interceptor::InterceptedService, transport::Channel};

use crate::support::{Authority, Bearer, Client, binary, copy_directory, root};

/// Texts that are pasted by mistake; the canary must be in no answer.
const PASTED: [&str; 6] = [
    "tsk_production_canary0123456789",
    "tsr_canary0123456789",
    "v4.local.canary0123456789",
    "k4.secret-wrap.pie.canary0123456789",
    "-----BEGIN PRIVATE KEY-----canary",
    "the pass phrase is canary!",
];
const CANARY: &str = "canary";
const FILES: [&str; 4] = ["policy.csv", "model.conf", "catalogue.toml", "tests/dev.toml"];

/// Returns a file's text with a pasted secret, and the name of the way.
type Way = fn(&str, &str) -> (&'static str, String);
const WAYS: [Way; 5] = [
    |text, pasted| ("a line", format!("{text}\n{pasted}\n")),
    |text, pasted| ("a rule", format!("{text}\np, {pasted}, *, videos, read, allow\n")),
    |text, pasted| ("a value", format!("{text}\nx = [\"{pasted}\"]\n")),
    |text, pasted| ("a key", format!("{text}\n\"{pasted}\" = 1\n")),
    |text, pasted| ("a table", format!("{text}\n[[{pasted}]]\n")),
];

type Policies = PolicyServiceClient<InterceptedService<Channel, Bearer>>;

/// An authority that logs everything, in a directory with secrets in it.
struct World {
    directory: tempfile::TempDir,
    authority: Authority,
    log: Arc<Mutex<String>>,
    production: Policies,
    sandbox: Policies,
    /// Texts that must appear nowhere.
    secrets: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        copy_directory(&root().join("policies"), &path("policies"));
        let pass_phrases =
            format!("{CANARY}\ndb-password, {CANARY}2, x, y, z, w\n[{CANARY}]\n{CANARY} = \"x\"\n");
        fs::write(path("secret.txt"), pass_phrases).unwrap();
        let (authority, log) = start(directory.path());
        let key = fs::read_to_string(path("data/server.key")).unwrap();
        let keys = ["production", "sandbox"].map(|realm| authority.api_key(realm));
        let secrets = keys
            .iter()
            .cloned()
            .chain([key.trim().to_owned(), CANARY.to_owned()]);
        let policies = async |key: &str| {
            let client = Client::connect(&authority.address, key).await;
            client.policies()
        };
        Self {
            production: policies(&keys[0]).await,
            sandbox: policies(&keys[1]).await,
            secrets: secrets.collect(),
            authority,
            log,
            directory,
        }
    }

    fn policy(&self, name: &str) -> PathBuf {
        self.directory.path().join("policies").join(name)
    }

    fn restore(&self) {
        fs::remove_dir_all(self.policy("")).unwrap();
        copy_directory(&root().join("policies"), &self.policy(""));
    }

    fn assert_clean(&self, what: &str, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "{what}: {secret}: {text}");
        }
    }

    /// Everything that the authority reports about the directory in its current state.
    async fn look(&mut self, what: &str) -> (GetStatusResponse, GetStatusResponse) {
        let refused: Status = self.production.reload(ReloadRequest {}).await.unwrap_err();
        let planned = self.sandbox.plan(PlanRequest::default()).await.unwrap_err();
        let seen = self
            .production
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        let by_sandbox = self
            .sandbox
            .get_status(GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        let admin = self.authority.ready["admin"].as_str().unwrap().to_owned();
        for (place, text) in [
            ("Reload", format!("{refused:?}")),
            ("Plan", format!("{planned:?}")),
            ("GetStatus", format!("{seen:?}")),
            ("GetStatus of a sandbox", format!("{by_sandbox:?}")),
            ("/readyz", get(&admin, "/readyz")),
            ("/metrics", get(&admin, "/metrics")),
            ("/status", get(&admin, "/status")),
        ] {
            self.assert_clean(&format!("{what} at {place}"), &text);
        }
        assert_eq!(seen.attempt_outcome(), ReloadOutcome::Refused, "{what}");
        (seen, by_sandbox)
    }
}

fn start(directory: &Path) -> (Authority, Arc<Mutex<String>>) {
    let mut child = Command::new(binary())
        .args([
            "dev",
            "--print-json",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(directory.join("data"))
        .arg("--policy")
        .arg(directory.join("policies"))
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let (mut from, into) = (child.stderr.take().unwrap(), Arc::clone(&log));
    thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log.lock().unwrap()));
    let address = ready["grpc"].as_str().unwrap().to_owned();
    let mut authority = Authority::adopt(child, address);
    authority.ready = ready;
    (authority, log)
}

fn get(admin: &str, path: &str) -> String {
    let address = admin.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_directory_and_no_secret_within_it_is_ever_said() {
    let mut world = World::new().await;
    for (name, target) in [
        ("zz.csv", "../data/server.key"),
        ("zz.csv", "../data/dev-api-keys.json"),
        ("zz.csv", "../secret.txt"),
        ("zz.csv", "/etc/passwd"),
        ("tests/zz.toml", "../../data/server.key"),
        ("tests/zz.toml", "../../secret.txt"),
        ("model.conf", "../secret.txt"),
        ("catalogue.toml", "../secret.txt"),
        ("tests", "../data"),
    ] {
        let path = world.policy(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        symlink(target, &path).unwrap();
        let (seen, _) = world.look(&format!("{name} -> {target}")).await;
        let found = &seen.diagnostics[0];
        assert_eq!((found.code.as_str(), found.file.as_str()), ("P007", name));
        world.restore();
    }
    let mut ways = WAYS.iter().cycle();
    for name in FILES {
        let text = fs::read_to_string(world.policy(name)).unwrap();
        for pasted in PASTED {
            // Each is pasted in a different way; `content.rs` of the policy tests all ways.
            let (kind, wrong) = ways.next().unwrap()(&text, pasted);
            fs::write(world.policy(name), &wrong).unwrap();
            world.look(&format!("{kind} `{pasted}` in {name}")).await;
            let file = PolicyFile {
                name: name.to_owned(),
                content: format!("{text}\n{pasted}\n").into_bytes(),
            };
            let planned = world.sandbox.plan(PlanRequest { files: vec![file] }).await;
            world.assert_clean("a plan of sent files", &format!("{planned:?}"));
        }
        world.restore();
    }
    let log = world.log.lock().unwrap().clone();
    assert!(log.contains("P007") && log.contains("P008") && log.contains("TRACE"));
    world.assert_clean("the log", &log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_told_where_a_policy_is_wrong_and_not_what_its_files_say() {
    let mut world = World::new().await;
    let rules = fs::read_to_string(world.policy("policy.csv")).unwrap();
    fs::write(
        world.policy("policy.csv"),
        format!("{rules}p, role:viewr, *, videos, read, allow\n"),
    )
    .unwrap();
    let (seen, by_sandbox) = world.look("a mistake").await;
    let (found, told) = (&seen.diagnostics[0], &by_sandbox.diagnostics[0]);
    assert!(found.message.contains("role:viewr") && found.help.contains("role:viewer"));
    assert!(!seen.directory.is_empty() && seen.attempt_problem.contains("role:viewr"));
    assert_eq!(
        (&told.code, told.line, told.column),
        (&found.code, found.line, found.column)
    );
    assert_eq!(told.message, "a role that the catalogue does not have");
    assert!(!format!("{by_sandbox:?}").contains("viewr"), "{by_sandbox:?}");
    assert_eq!((by_sandbox.directory.as_str(), told.help.as_str()), ("", ""));
    assert_eq!(by_sandbox.policy_revision, seen.policy_revision);
    let planned = world.sandbox.plan(PlanRequest::default()).await.unwrap_err();
    assert!(planned.message().contains("P037") && !format!("{planned:?}").contains("viewr"));
    let ready = get(world.authority.ready["admin"].as_str().unwrap(), "/readyz");
    let place = format!("P037 at policy.csv:{}:4\n", found.line);
    assert!(ready.contains(&place) && !ready.contains("viewr"), "{ready}");
}
