//! `tessera serve`, for operators: what it creates, what it refuses, and how it stops.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;
use tessera_proto::v1::{GetStatusRequest, PlanRequest, policy_service_client::PolicyServiceClient};

use crate::{
    certificates::Ca,
    support::{
        Authority, Client, PATIENCE, access, copy_directory, json, refresh, root, soon, stderr, tessera,
        viewer,
    },
};

/// A directory with a configuration, the default policy, and free ports.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) address: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    pub(crate) fn with(server_section: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_directory(&root().join("policies"), &directory.path().join("policies"));
        let port = free_port();
        let example = fs::read_to_string(root().join("tessera.example.toml")).unwrap();
        let config = example
            .replace(
                "listen = \"127.0.0.1:7600\"",
                &format!("listen = \"127.0.0.1:{port}\""),
            )
            .replace(
                "admin_listen = \"127.0.0.1:7601\"",
                "admin_listen = \"127.0.0.1:0\"",
            )
            .replace("[store]", &format!("{server_section}\n[store]"));
        let place = Self {
            directory,
            address: format!("http://127.0.0.1:{port}"),
        };
        fs::write(place.config(), config).unwrap();
        place
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("tessera.toml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} lacks {from}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    /// The first key of a realm, made without an authority.
    pub(crate) fn first_key(&self, realm: &str) -> Value {
        let mut command = tessera();
        command
            .args(["apikey", "create", "dev", "--realm", realm, "--config"])
            .arg(self.config());
        json(&mut command)
    }

    /// Runs a `tessera serve` that must end by itself.
    fn refused(&self) -> Output {
        let output = tessera()
            .args(["serve", "--config"])
            .arg(self.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        output
    }

    /// Runs `tessera serve` until it reports that it serves.
    fn serve(&self) -> Authority {
        self.serve_with("info", std::io::sink())
    }

    /// The same with a filter of the log, which goes to `into`.
    pub(crate) fn serve_with(&self, filter: &str, into: impl Write + Send + 'static) -> Authority {
        self.start(into, |command| {
            command.env("RUST_LOG", filter);
        })
    }

    /// The same with a modified command.
    pub(crate) fn serve_as(&self, change: impl FnOnce(&mut Command)) -> Authority {
        self.start(std::io::sink(), change)
    }

    /// The same, and its log goes to `into`.
    pub(crate) fn start(
        &self,
        into: impl Write + Send + 'static,
        change: impl FnOnce(&mut Command),
    ) -> Authority {
        start(&self.config(), &self.address, into, change)
    }
}

/// A port on which nothing listens, another each time: a configuration has several.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Runs `tessera serve` with a configuration until it reports that it serves.
pub(crate) fn serve(config: &Path, address: &str) -> Authority {
    start(config, address, std::io::sink(), |_| {})
}

pub(crate) fn start(
    config: &Path,
    address: &str,
    mut into: impl Write + Send + 'static,
    change: impl FnOnce(&mut Command),
) -> Authority {
    let mut command = tessera();
    command
        .args(["serve", "--config"])
        .arg(config)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped());
    change(&mut command);
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let (mut said, deadline) = (String::new(), Instant::now() + PATIENCE);
    while !said.contains("serving") {
        assert!(
            log.read_line(&mut said).unwrap() > 0 && Instant::now() < deadline,
            "{said}"
        );
    }
    into.write_all(said.as_bytes()).unwrap();
    std::thread::spawn(move || std::io::copy(&mut log, &mut into));
    Authority::adopt(child, address.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_a_first_key_a_call_and_a_clean_stop() {
    let place = Place::new();
    let made = place.first_key("production");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("tsk_production_"));
    let (mut log, into) = std::io::pipe().unwrap();
    let authority = place.serve_with("info", into);
    let client = Client::connect(&place.address, secret).await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    assert_eq!(
        client.introspect(&access(issued.tokens.as_ref())).await.iss,
        "https://auth.example.org/production"
    );
    assert!(authority.stop().success());
    let mut logged = String::new();
    log.read_to_string(&mut logged).unwrap();
    assert!(
        logged.contains("stopped") && !logged.contains("ERROR"),
        "{logged}"
    );
    // The same again, after a restart.
    let authority = place.serve();
    let client = Client::connect(&place.address, secret).await;
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    authority.signal("INT");
    assert!(authority.wait().success());
}

/// As a shell, a container or a secret's file provides it.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_is_as_if_it_were_not_set_and_a_key_may_end_with_a_line_feed() {
    let place = Place::new();
    let made = place.first_key("production");
    let secret = made["secret"].as_str().unwrap();
    let key = fs::read_to_string(place.path("server.key")).unwrap();
    for server_key in [String::new(), "\n".to_owned(), format!("{}\n", key.trim())] {
        let authority = place.serve_as(|command| {
            command.env("TESSERA_SERVER_KEY", &server_key);
        });
        for (api_key, expected) in [
            (secret.to_owned(), Some(0)),
            (format!("{secret}\r\n"), Some(0)),
            (String::new(), Some(2)),
        ] {
            let mut command = tessera();
            command
                .args(["token", "issue", "--subject", "user:ann", "--role", "role:viewer"])
                .env("TESSERA_ADDR", &place.address)
                .env("TESSERA_API_KEY", &api_key);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), expected, "{}", stderr(&output));
            if expected == Some(2) {
                assert!(stderr(&output).contains("no API key"), "{}", stderr(&output));
            }
        }
        assert!(authority.stop().success());
    }
    let mut command = tessera();
    command.args(["session", "list", "--subject", "user:ann"]);
    let output = command
        .env("TESSERA_ADDR", "")
        .env("TESSERA_API_KEY", "tsk_x")
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("http://127.0.0.1:7600"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn metrics_have_the_type_of_what_they_are() {
    let authority = Authority::dev(&[]);
    let admin = authority.ready["admin"].as_str().unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--include", &format!("{admin}/metrics")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(
        body.contains("# TYPE tessera_clock_steps_total counter\n"),
        "{body}"
    );
    assert!(!body.contains("# EOF"), "{body}");
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--include", "--header"])
        .args([
            "accept: application/openmetrics-text;version=1.0.0",
            &format!("{admin}/metrics"),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("# TYPE tessera_clock_steps counter\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let cases: [(&str, &str, &[&str]); 6] = [
        ("cache_mib", "cash_mib", &["tessera.toml", "line", "cash_mib"]),
        ("grace = \"10s\"", "grace = \"10 s\"", &["90s", "line"]),
        ("grace = \"10s\"", "grace = \"2m\"", &["from 0s to 1m", "line"]),
        ("kind = \"sandbox\"", "kind = \"test\"", &["sandbox", "line"]),
        (
            "[realms.sandbox]",
            "[realms.staging]",
            &["staging", "catalogue.toml"],
        ),
        ("path = \"policies\"", "path = \"polices\"", &["polices"]),
    ];
    for (from, to, expected) in cases {
        let place = Place::new();
        place.edit("tessera.toml", from, to);
        let said = stderr(&place.refused());
        for part in expected {
            assert!(said.contains(part), "{to}: {said}");
        }
    }
    let missing = tessera()
        .args(["serve", "--config", "/nowhere/tessera.toml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nowhere/tessera.toml"));
}

#[test]
fn a_mistyped_policy_line_is_refused_with_file_line_and_column() {
    let place = Place::new();
    place.edit(
        "policies/policy.csv",
        "p, role:viewer, *, videos, read, allow",
        "p, role:viewr, *, videos, read, allow",
    );
    let said = stderr(&place.refused());
    assert!(
        said.contains("policy.csv:5:4") && said.contains("role:viewer"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_puts_the_directory_in_force_and_nothing_else_does_where_it_is_not_watched() {
    let place = Place::new();
    place.edit("tessera.toml", "watch = true", "watch = false");
    let secret = place.first_key("production")["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let authority = place.serve();
    let client = Client::connect(&place.address, &secret).await;
    let status = async || {
        let status = PolicyServiceClient::new(client.channel.clone())
            .get_status(GetStatusRequest {})
            .await;
        status.unwrap().into_inner()
    };
    let before = status().await;
    assert_eq!(before.attempt_trigger, "start");
    place.edit(
        "policies/policy.csv",
        "# A viewer reads.",
        "# A viewer reads, and that is all.",
    );
    let plan = PolicyServiceClient::new(client.channel.clone())
        .plan(PlanRequest::default())
        .await;
    let plan = plan.unwrap().into_inner();
    assert_ne!(plan.new_revision, before.policy_revision);
    assert_eq!(status().await.policy_revision, before.policy_revision);
    authority.signal("HUP");
    let after = soon("the reload", async {
        loop {
            let now = status().await;
            if now.attempt_trigger == "signal" {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(after.policy_revision, plan.new_revision);
    assert!(authority.stop().success());
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let place = Place::new();
    let _authority = place.serve();
    place.edit(
        "tessera.toml",
        &place.address.replace("http://", ""),
        "127.0.0.1:0",
    );
    let said = stderr(&place.refused());
    assert!(
        said.contains("in use by another process") && said.contains("data"),
        "{said}"
    );
}

#[test]
fn a_taken_address_is_refused_before_anything_is_touched() {
    let place = Place::new();
    let _taken = TcpListener::bind(place.address.replace("http://", "")).unwrap();
    let said = stderr(&place.refused());
    assert!(
        said.contains("can't listen on") && !place.path("data").exists(),
        "{said}"
    );
}

#[test]
fn a_damaged_directory_is_refused_with_what_to_do() {
    let place = Place::new();
    place.first_key("production");
    let file = place.path("data").join("rows").join("db");
    let mut rows = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut bytes = Vec::new();
    rows.read_to_end(&mut bytes).unwrap();
    // Within the written part, not in the unused rest.
    let at = bytes.iter().position(|&byte| byte != 0).unwrap();
    let middle = at + (bytes.iter().rposition(|&byte| byte != 0).unwrap() - at) / 2;
    rows.seek(SeekFrom::Start(middle as u64)).unwrap();
    rows.write_all(&[!bytes[middle]; 64]).unwrap();
    rows.sync_all().unwrap();
    let said = stderr(&place.refused());
    assert!(said.contains("is damaged") && said.contains("backup"), "{said}");
}

fn restored(place: &Place) -> Command {
    let mut command = tessera();
    command.args(["restore", "--config"]).arg(place.config());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_restored_ends_all_that_was_issued() {
    let place = Place::new();
    let key = place.first_key("production");
    let key = key["secret"].as_str().unwrap();
    let issue = async || {
        let client = Client::connect(&place.address, key).await;
        let issued = client.issue(viewer("user:ann")).await.unwrap();
        access(issued.tokens.as_ref())
    };
    let authority = place.serve();
    let before = issue().await;
    assert!(authority.stop().success());
    copy_directory(&place.path("data"), &place.path("copy"));
    let authority = place.serve();
    let after = issue().await;
    assert!(authority.stop().success());

    fs::remove_dir_all(place.path("data")).unwrap();
    fs::rename(place.path("copy"), place.path("data")).unwrap();
    // No option says so, but the witness beside the server key does.
    let said = stderr(&place.refused());
    assert!(
        said.contains("is older than what was served last") && said.contains("tessera restore"),
        "{said}"
    );
    let ended = json(&mut restored(&place));
    assert_eq!(ended["signing_keys_revoked"].as_array().unwrap().len(), 2);
    assert_eq!(ended["api_keys"][0]["client"], "client:dev");
    assert_eq!(ended["api_keys_revoked"], false);
    assert_eq!(ended["sessions_ended"]["production"], 1);
    assert_eq!(ended["sessions_ended"]["sandbox"], 0);
    let authority = place.serve();
    let client = Client::connect(&place.address, key).await;
    for token in [before, after] {
        assert!(!client.introspect(&token).await.active);
    }
    assert!(client.introspect(&issue().await).await.active);
    assert!(authority.stop().success());
}

#[test]
fn a_witness_that_says_nothing_is_not_passed_over() {
    let place = Place::new();
    place.first_key("production");
    assert!(place.serve().stop().success());
    let witness = place.path("server.key.witness");
    for text in ["", "tessera witness 1\nlog 0a"] {
        fs::write(&witness, text).unwrap();
        let said = stderr(&place.refused());
        assert!(
            said.contains("server.key.witness") && said.contains("tessera restore"),
            "{said}"
        );
    }
    fs::remove_file(&witness).unwrap();
    assert!(place.serve().stop().success());
}

/// A log on a full disk, and one that is not read: lines are lost, and nothing else.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let full = || {
        let file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        Stdio::from(file)
    };
    for stderr in [full(), Stdio::piped()] {
        let place = Place::new();
        let key = place.first_key("production");
        let key = key["secret"].as_str().unwrap();
        let mut command = tessera();
        command
            .args(["serve", "--config"])
            .arg(place.config())
            .env("RUST_LOG", "trace")
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        // Kept, and never read: a pipe takes 64 KiB.
        let _unread = child.stderr.take();
        let authority = Authority::adopt(child, place.address.clone());
        let deadline = Instant::now() + PATIENCE;
        let client = Client::connect(&place.address, key).await;
        while client.issue(viewer("user:ann")).await.is_err() {
            assert!(Instant::now() < deadline, "it does not serve");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for _ in 0..100 {
            client.issue(viewer("user:ann")).await.unwrap();
        }
        assert!(authority.stop().success());
    }
}

fn store(place: &Place, verb: &str) -> Command {
    let mut command = tessera();
    command.args(["store", verb, "--config"]).arg(place.config());
    command
}

#[test]
fn a_directory_that_is_gone_does_not_begin_empty_without_a_word() {
    let place = Place::new();
    place.first_key("production");
    let occupied = store(&place, "init").output().unwrap();
    assert_eq!(occupied.status.code(), Some(2), "{}", stderr(&occupied));
    for name in ["rows", "seal"] {
        let path = place.path("data").join(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    let said = stderr(&place.refused());
    assert!(said.contains("tessera store init"), "{said}");
    json(&mut store(&place, "init"));
    assert!(place.serve().stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn compacting_gives_space_back_and_keeps_what_is_alive() {
    let place = Place::new();
    let key = place.first_key("production");
    let key = key["secret"].as_str().unwrap();
    let authority = place.serve();
    let client = Client::connect(&place.address, key).await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    let mut token = refresh(issued.tokens.as_ref());
    for _ in 0..200 {
        token = refresh(client.refresh(&token).await.unwrap().tokens.as_ref());
    }
    assert!(authority.stop().success());
    let compacted = json(&mut store(&place, "compact"));
    let bytes = |name: &str| compacted[name].as_u64().unwrap();
    assert!(bytes("bytes_after") <= bytes("bytes_before"), "{compacted}");
    let authority = place.serve();
    let client = Client::connect(&place.address, key).await;
    assert_eq!(client.refresh(&token).await.unwrap().generation, 202);
    assert!(authority.stop().success());
}

#[test]
fn the_data_lies_apart_from_everything_else() {
    for path in ["policies", "policies/data", "/"] {
        let place = Place::new();
        let store = format!("path = {:?}", place.path("data"));
        let text = fs::read_to_string(place.config()).unwrap();
        let from = if text.contains(&store) {
            store
        } else {
            "path = \"data\"".to_owned()
        };
        place.edit("tessera.toml", &from, &format!("path = {path:?}"));
        let said = stderr(&place.refused());
        assert!(said.contains("[store] path"), "{path}: {said}");
        assert!(!place.path("policies/data").exists());
    }
}

#[test]
fn a_setting_a_disk_and_damage_are_three_messages() {
    let place = Place::new();
    place.first_key("production");
    place.edit("tessera.toml", "cache_mib = ", "cache_mib = 0 # ");
    let said = stderr(&place.refused());
    assert!(said.contains("cache_mib") && !said.contains("damaged"), "{said}");
    let text = fs::read_to_string(place.config()).unwrap();
    fs::write(place.config(), text.replace("cache_mib = 0 # ", "cache_mib = ")).unwrap();
    assert!(place.serve().stop().success());
    use std::os::unix::fs::PermissionsExt;
    for (path, mode) in [
        ("data", 0o700),
        ("data/rows", 0o700),
        ("data/rows/db", 0o600),
        ("data/seal", 0o600),
    ] {
        let found = fs::metadata(place.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
}

#[test]
fn restored_begins_nothing_where_there_is_nothing() {
    let place = Place::new();
    let refused = restored(&place).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("there is no data directory"),
        "{}",
        stderr(&refused)
    );
    assert!(!place.path("data").exists());
}

#[test]
fn a_missing_or_foreign_server_key_is_refused() {
    let place = Place::new();
    place.first_key("production");
    let key = fs::read_to_string(place.path("server.key")).unwrap();
    fs::remove_file(place.path("server.key")).unwrap();
    let said = stderr(&place.refused());
    assert!(said.contains("server.key") && said.contains("restore"), "{said}");
    assert!(
        !place.path("server.key").exists(),
        "a new one would hide that the old one is gone"
    );

    let other = Place::new();
    other.first_key("production");
    fs::copy(other.path("server.key"), place.path("server.key")).unwrap();
    let said = stderr(&place.refused());
    assert!(said.contains("sealed by another server key"), "{said}");
    fs::write(place.path("server.key"), "k4.local.short").unwrap();
    let said = stderr(&place.refused());
    assert!(said.contains("k4.local") && !said.contains("short"), "{said}");
    // With the right key among the previous keys it opens.
    fs::copy(other.path("server.key"), place.path("server.key")).unwrap();
    fs::write(place.path("old.key"), key).unwrap();
    place.edit("tessera.toml", "previous = []", "previous = [\"old.key\"]");
    place.first_key("sandbox");
}

#[test]
fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.first_key("production");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("server.key")), 0o600);
    let dev = tempfile::tempdir().unwrap();
    Authority::dev_on(dev.path()).stop();
    assert_eq!(mode(&dev.path().join("server.key")), 0o600);
    assert_eq!(mode(&dev.path().join("dev-api-keys.json")), 0o600);
}

#[tokio::test]
async fn checklist_34_with_tls_plaintext_and_strangers_are_refused() {
    let place = Place::with("[server.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.pem\"\n");
    let ca = Ca::new();
    let pair = ca.sign();
    fs::write(place.path("server.crt"), pair.certificate).unwrap();
    fs::write(place.path("server.pem"), pair.key).unwrap();
    fs::write(place.path("ca.crt"), &ca.pem).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(place.path("other.crt"), other.cert.pem()).unwrap();

    let secret = place.first_key("production")["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let _authority = place.serve();
    let https = place.address.replace("http://127.0.0.1", "https://localhost");
    let call = |address: &str, ca: Option<&str>| {
        let mut command = tessera();
        command
            .args(["token", "issue", "--json"])
            .env("TESSERA_ADDR", address)
            .env("TESSERA_API_KEY", &secret);
        if let Some(ca) = ca {
            command.env("TESSERA_CA", place.path(ca));
        }
        command.output().unwrap()
    };
    let accepted = call(&https, Some("ca.crt"));
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    for (what, address, ca) in [
        ("plaintext", place.address.as_str(), None),
        ("another authority", https.as_str(), Some("other.crt")),
        (
            "another name",
            place.address.replace("http://", "https://").as_str(),
            Some("ca.crt"),
        ),
        ("no authority", https.as_str(), None),
    ] {
        let refused = call(address, ca);
        assert_eq!(refused.status.code(), Some(2), "{what}: {}", stderr(&refused));
    }
}
