//! A machine whose clock is wrong for a while: ahead or behind, by seconds or by years, while the authority runs or
//! between two runs. The real binary runs under a clock that the test sets (Debian's `libfaketime`).
//!
//! What was revoked stays revoked, for callers and for new followers; what was alive stays alive.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tessera_proto::v1::{
    CreateApiKeyRequest, IssueRequest, IssueResponse, ListKeysRequest, WatchRequest, WatchStart,
    api_key_service_client::ApiKeyServiceClient, key_service_client::KeyServiceClient,
    revoke_request::Target, watch_request, watch_response, watch_start::From,
};
use tokio_stream::StreamExt;

use crate::support::{Authority, Client, access, reason, refresh, soon, viewer};

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, or `None` after printing how to get it. With `TESSERA_PEERS=required` it must be installed.
pub(crate) fn library() -> Option<PathBuf> {
    let directories = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    let found = directories
        .iter()
        .map(|directory| Path::new(directory).join(LIBRARY));
    if let Some(found) = found.into_iter().find(|path| path.exists()) {
        return Some(found);
    }
    let is_required = env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
    assert!(!is_required, "no {LIBRARY}: apt-get install faketime");
    let _ = writeln!(io::stderr(), "nothing tested: apt-get install faketime");
    None
}

/// A machine with a data directory, and a clock that can be set.
struct Machine {
    directory: TempDir,
    library: String,
}

impl Machine {
    fn new(library: &Path) -> Self {
        let machine = Self {
            directory: tempfile::tempdir().unwrap(),
            library: library.to_str().unwrap().to_owned(),
        };
        machine.set_clock("+0");
        machine
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// Sets the clock off by this much, such as `+2h`.
    fn set_clock(&self, offset: &str) {
        let unfinished = self.directory.path().join("clock.new");
        fs::write(&unfinished, offset).unwrap();
        fs::rename(unfinished, self.file()).unwrap();
    }

    fn start(&self) -> Authority {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_start(&self) -> Result<Authority, String> {
        self.try_start_with(&[])
    }

    fn try_start_with(&self, more: &[&str]) -> Result<Authority, String> {
        let (file, data) = (self.file(), self.directory.path().join("data"));
        let variables = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let arguments = [&["--data-dir", data.to_str().unwrap()], more].concat();
        Authority::start_dev_with(&arguments, &variables)
    }
}

/// The value of a metric.
async fn metric(authority: &Authority, name: &str) -> f64 {
    let url = format!("{}/metrics", authority.ready["admin"].as_str().unwrap());
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--fail", &url])
        .output();
    let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

async fn until(authority: &Authority, name: &str, is_reached: impl Fn(f64) -> bool) {
    soon(name, async {
        while !is_reached(metric(authority, name).await) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// Waits for a purge, so that everything with an expired time could be removed.
async fn purged(authority: &Authority) {
    let before = metric(authority, "tessera_purges_total").await;
    until(authority, "tessera_purges_total", |purges| purges >= before + 1.0).await;
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    /// Access and refresh tokens that ended, with the kind of their revocation.
    dead: Vec<(&'static str, String, String)>,
    /// Refresh tokens that work.
    alive: Vec<(&'static str, String)>,
    /// How many revocations a verifier must know.
    revocations: usize,
}

impl Ledger {
    fn died(&mut self, what: &'static str, issued: &IssueResponse) {
        let tokens = issued.tokens.as_ref();
        self.dead.push((what, access(tokens), refresh(tokens)));
    }

    /// Revokes one thing of each kind, and leaves one session alive.
    async fn revoke_each_kind(&mut self, client: &Client, when: &'static str) {
        for kind in [
            "client",
            "signing key",
            "token",
            "session",
            "subject",
            "label",
            "API key",
        ] {
            let (issued, target) = target(client, kind).await;
            client.revoke(target).await.unwrap();
            self.revocations += 1;
            // The sessions of a revoked signing key continue; its access tokens do not. For the other kinds it is the
            // reverse.
            match kind {
                "token" | "signing key" => {
                    let tokens = issued.tokens.as_ref();
                    self.dead.push((kind, access(tokens), String::new()));
                    self.alive.push((when, refresh(tokens)));
                }
                _ => self.died(kind, &issued),
            }
        }
        let issued = client.issue(viewer("user:alive")).await.unwrap();
        self.alive.push((when, refresh(issued.tokens.as_ref())));
    }

    async fn check(&mut self, client: &Client) {
        for (what, access, refresh) in &self.dead {
            assert!(!client.introspect(access).await.active, "{what}: active again");
            if !refresh.is_empty() {
                let refused = client.refresh(refresh).await.unwrap_err();
                assert_eq!(reason(&refused), "SESSION_REVOKED", "{what}");
            }
        }
        for (when, token) in &mut self.alive {
            let refreshed = client.refresh(token).await;
            let refreshed = refreshed.unwrap_or_else(|status| panic!("{when}: lost: {status:?}"));
            *token = self::refresh(refreshed.tokens.as_ref());
            let active = client.introspect(&access(refreshed.tokens.as_ref())).await.active;
            assert!(active, "{when}: a new token is not active");
        }
        let known = snapshot(client).await;
        assert!(
            known >= self.revocations,
            "a verifier learns of {known} revocations out of {}",
            self.revocations
        );
    }
}

/// A session, and the target of that kind of revocation.
async fn target(client: &Client, kind: &str) -> (IssueResponse, Target) {
    let subject = format!("user:{}", uuid::Uuid::new_v4());
    let label = format!("stream:{}", uuid::Uuid::new_v4());
    let request = IssueRequest {
        labels: vec![label.clone()],
        ..viewer(&subject)
    };
    match kind {
        // Those of another client: the calling client continues.
        "client" | "API key" => {
            let mut keys = ApiKeyServiceClient::new(client.channel.clone());
            let name = format!("c{}", uuid::Uuid::new_v4().simple());
            let created = keys
                .create_api_key(CreateApiKeyRequest {
                    name,
                    ..CreateApiKeyRequest::default()
                })
                .await
                .unwrap()
                .into_inner();
            let key = created.api_key.unwrap();
            let issued = client.issue(request).await.unwrap();
            // The key itself began no session, as the policy grants its client nothing; so the label ends this one.
            client.revoke(Target::Label(label)).await.unwrap();
            let target = if kind == "client" {
                Target::Client(key.client)
            } else {
                Target::ApiKeyId(key.id)
            };
            (issued, target)
        }
        kind => {
            let issued = client.issue(request).await.unwrap();
            let target = match kind {
                "token" => Target::Token(access(issued.tokens.as_ref())),
                "session" => Target::SessionId(issued.session_id.clone()),
                "subject" => Target::Subject(subject),
                "label" => Target::Label(label),
                _ => Target::KeyId(signing_key(client).await),
            };
            (issued, target)
        }
    }
}

/// The active signing key.
async fn signing_key(client: &Client) -> String {
    let mut keys = KeyServiceClient::new(client.channel.clone());
    let listed = keys.list_keys(ListKeysRequest::default()).await.unwrap();
    let keys = listed.into_inner().keys;
    keys.into_iter()
        .find(|key| key.status() == tessera_proto::v1::KeyStatus::Active)
        .unwrap()
        .kid
}

/// How many revocations a verifier gets that begins to follow now.
async fn snapshot(client: &Client) -> usize {
    let start = WatchRequest {
        message: Some(watch_request::Message::Start(WatchStart {
            from: Some(From::Snapshot(true)),
            ..WatchStart::default()
        })),
    };
    let requests = tokio_stream::once(start).chain(tokio_stream::pending());
    let mut answers = client.revocations().watch(requests).await.unwrap().into_inner();
    let mut items = 0;
    soon("the snapshot", async {
        while let Some(answer) = answers.next().await {
            match answer.unwrap().message.unwrap() {
                watch_response::Message::SnapshotItem(_) => items += 1,
                watch_response::Message::SnapshotEnd(_) => break,
                _ => {}
            }
        }
    })
    .await;
    items
}

/// The clock is wrong while the authority runs, and right again.
async fn while_running(library: PathBuf, offset: &'static str) {
    let machine = Machine::new(&library);
    let authority = machine.start();
    let client = authority.client("production").await;
    let mut ledger = Ledger::default();
    ledger.revoke_each_kind(&client, "before").await;

    machine.set_clock(offset);
    // HTTP/1 can't write a year of five digits, and metrics use it.
    if is_large(offset) && offset != BEYOND_9999 {
        until(&authority, "tessera_clock_stepped", |stepped| stepped == 1.0).await;
    }
    ledger.check(&client).await;
    ledger.revoke_each_kind(&client, "while it is wrong").await;

    machine.set_clock("+0");
    until(&authority, "tessera_clock_stepped", |stepped| stepped == 0.0).await;
    ledger.revoke_each_kind(&client, "after").await;
    purged(&authority).await;
    ledger.check(&client).await;
    assert!(authority.stop().success());
}

/// The clock is wrong when the authority starts, and right when it starts again; the last run begins after a kill.
async fn between_runs(library: PathBuf, offset: &'static str) {
    let machine = Machine::new(&library);
    let mut ledger = Ledger::default();
    for (when, offset) in [("before", "+0"), ("while it is wrong", offset), ("after", "+0")] {
        machine.set_clock(offset);
        let authority = machine.start();
        let client = authority.client("production").await;
        ledger.check(&client).await;
        ledger.revoke_each_kind(&client, when).await;
        // A clock that is behind, or years ahead, is a step that is not over: nothing is purged.
        if metric(&authority, "tessera_clock_stepped").await == 0.0 {
            purged(&authority).await;
        }
        ledger.check(&client).await;
        if when == "before" {
            assert!(authority.stop().success());
        } else {
            authority.kill();
        }
    }
}

/// A short run after a long stop leaves the purge time far behind. A clock that is set back by less than that is still
/// a step: what has expired is not valid again, unless an operator accepts the clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_after_a_short_run_is_a_step_until_an_operator_accepts_it() {
    let Some(library) = library() else { return };
    let machine = Machine::new(&library);
    assert!(machine.start().stop().success());
    machine.set_clock("+20m");
    let authority = machine.start();
    let latest = iat_now(&authority).await;
    assert_eq!(metric(&authority, "tessera_clock_stepped").await, 0.0);
    authority.kill();

    machine.set_clock("+10m");
    let authority = machine.start();
    let iat = iat_now(&authority).await;
    assert!(iat >= latest, "{iat} is before {latest}");
    assert_eq!(metric(&authority, "tessera_clock_stepped").await, 1.0);
    assert_eq!(metric(&authority, "tessera_clock_steps_total").await, 1.0);
    assert!(authority.stop().success());

    let authority = machine.try_start_with(&["--accept-clock"]).unwrap();
    let iat = iat_now(&authority).await;
    assert!((latest - 605..latest - 500).contains(&iat), "{iat} and {latest}");
    assert_eq!(metric(&authority, "tessera_clock_stepped").await, 0.0);
    assert!(authority.stop().success());
}

/// The time of issue of a token that is issued now.
async fn iat_now(authority: &Authority) -> i64 {
    let client = authority.client("production").await;
    let issued = client.issue(viewer("user:ada")).await.unwrap();
    client.introspect(&access(issued.tokens.as_ref())).await.iat
}

/// A year that can't be written is refused at the start, and changes nothing while the authority runs.
async fn beyond_9999() {
    let Some(library) = library() else { return };
    let machine = Machine::new(&library);
    let mut ledger = Ledger::default();
    let authority = machine.start();
    let client = authority.client("production").await;
    ledger.revoke_each_kind(&client, "before").await;
    assert!(authority.stop().success());
    machine.set_clock(BEYOND_9999);
    let refused = machine.try_start().map(drop).unwrap_err();
    assert!(refused.contains("beyond the year 9999"), "{refused}");
    machine.set_clock(BEFORE_1970);
    let refused = machine.try_start().map(drop).unwrap_err();
    assert!(refused.contains("before the year 1970"), "{refused}");
    machine.set_clock("+0");
    let authority = machine.start();
    ledger.check(&authority.client("production").await).await;
    drop(authority);
    while_running(library, BEYOND_9999).await;
}

const BEYOND_9999: &str = "+9000y";
/// The offset by which the clock shows a day before 1970.
const BEFORE_1970: &str = "-60y";

fn is_large(offset: &str) -> bool {
    !offset.ends_with("1s")
}

async fn all(running: &[&'static str], between: &[&'static str]) {
    let Some(library) = library() else { return };
    let mut cases = tokio::task::JoinSet::new();
    for offset in running {
        cases.spawn(while_running(library.clone(), offset));
    }
    for offset in between {
        cases.spawn(between_runs(library.clone(), offset));
    }
    while let Some(done) = cases.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_for_a_while_forgets_and_loses_nothing() {
    all(&["+2h", "-10y"], &["+2h", "+10y"]).await;
}

/// The long form: `cargo test --release -p tessera-proto --test it -- --ignored --nocapture every_step_of_the_clock`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: each step, while running and between runs"]
async fn every_step_of_the_clock() {
    let steps = ["+1s", "-1s", "+300s", "-300s", "+2h", "-2h", "+10y", "-10y"];
    all(&steps, &steps).await;
    beyond_9999().await;
    println!(
        "{} steps, while running and between runs: 0 forgotten, 0 lost",
        steps.len() + 1
    );
}
