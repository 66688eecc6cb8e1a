//! Years of an installation within minutes: its signing keys, its server key, its API keys, its certificates and its
//! policy change, backups are made and one is restored, a sink of the audit trail hangs, a verifier freezes. All the time its clients
//! call. No valid token is refused, no revoked one is accepted, and the audit trail has each change with its actor.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tessera_proto::v1::{AwaitPropagationRequest, revoke_request::Target};
use tokio::task::JoinSet;

use crate::{
    backups::Site,
    certificates::{Ca, Pair},
    serving::free_port,
    support::{Authority, Client, Service, access, json, refresh, soon, tessera, viewer},
};

const WORKERS: usize = 4;
/// The maximum number of rolls of a key and its successors in an hour, minus one.
const ROLLS: usize = 4;

/// The state that all tasks share.
struct Year {
    site: Site,
    ca: Ca,
    address: String,
    admin: String,
    videos: String,
    /// The current key of the load.
    key: RwLock<String>,
    is_over: AtomicBool,
    /// How often the verifier has been frozen or thawed: odd while it is frozen.
    freezes: AtomicUsize,
    calls: AtomicUsize,
}

impl Year {
    /// Its first call needs a handshake.
    fn client(&self) -> Client {
        let key = self.key.read().unwrap().clone();
        Client::over_tls(&self.address, &key, &self.ca.pem)
    }

    /// It listens before it knows the keys.
    async fn verifier_is_ready(&self) {
        soon("the verifier is ready", async {
            while get(&self.videos, "/readyz", "") != Some(200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// A command against the authority.
    fn tessera(&self, arguments: &[&str]) -> Command {
        let mut command = tessera();
        command
            .current_dir(self.site.path(""))
            .env("TESSERA_ADDR", &self.address)
            .env("TESSERA_CA", self.site.path("ca.pem"))
            .env("TESSERA_API_KEY", &self.site.api_key)
            .env("TESSERA_BACKUP_KEY", "backup.key")
            .args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        json(&mut self.tessera(arguments))
    }

    /// The verifier's HTTP status for a token; `None` if it was frozen meanwhile.
    async fn verified(&self, token: &str) -> Option<u16> {
        let before = self.freezes.load(Ordering::SeqCst);
        let (address, token) = (self.videos.clone(), token.to_owned());
        let asked = tokio::task::spawn_blocking(move || status_of(&address, &token));
        let status = if before.is_multiple_of(2) {
            asked.await.unwrap()
        } else {
            return None;
        };
        (before == self.freezes.load(Ordering::SeqCst)).then_some(status?)
    }

    /// Begins, refreshes and ends sessions, and checks each token at both the verifier and the authority.
    async fn work(self: Arc<Self>) {
        while !self.is_over.load(Ordering::SeqCst) {
            let client = self.client();
            let issued = client.issue(viewer("user:ann")).await.unwrap();
            let first = access(issued.tokens.as_ref());
            self.is_good(&client, &first).await;
            let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
            let second = access(refreshed.tokens.as_ref());
            self.is_good(&client, &second).await;
            let revoked = client.revoke(Target::SessionId(issued.session_id)).await.unwrap();
            let waits = AwaitPropagationRequest {
                cursor: revoked.cursor,
            };
            client.revocations().await_propagation(waits).await.unwrap();
            for token in [&first, &second] {
                assert!(
                    !client.introspect(token).await.active,
                    "a revoked token is active"
                );
                let status = self.verified(token).await;
                assert_ne!(status, Some(200), "a verifier accepts a revoked token");
            }
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn is_good(&self, client: &Client, token: &str) {
        let status = self.verified(token).await;
        // It answers 503 for a moment after it was frozen for longer than its bound.
        let is_accepted = matches!(status, None | Some(200)) || (status == Some(503) && self.was_frozen());
        assert!(is_accepted, "a verifier refuses a good token: {status:?}");
        assert!(
            client.introspect(token).await.active,
            "a good token is not active"
        );
    }

    fn was_frozen(&self) -> bool {
        self.freezes.load(Ordering::SeqCst) > 0
    }

    /// Makes each kind of change once.
    async fn round(&self, number: usize, authority: &Authority, videos: &Service) {
        self.rotate_signing_key().await;
        self.replace_server_key(number, authority).await;
        self.replace_certificate().await;
        if number < ROLLS {
            self.roll_api_key();
        }
        let rules = self.site.path("policies/policy.csv");
        let text = fs::read_to_string(&rules).unwrap();
        fs::write(
            &rules,
            text + &format!("g, user:guest-{number}, role:viewer, *\n"),
        )
        .unwrap();
        self.json(&["policy", "reload"]);
        let backup = format!("backup-{number}");
        self.json(&["backup", "create", &backup]);
        self.freeze(videos).await;
    }

    async fn rotate_signing_key(&self) {
        let key = self.json(&["key", "rotate"])["kid"].clone();
        soon("the new key signs", async {
            loop {
                let keys = self.json(&["key", "list"]);
                let signs = |listed: &Value| listed["kid"] == key && listed["status"] == "active";
                if keys["keys"].as_array().unwrap().iter().any(signs) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    async fn replace_server_key(&self, number: usize, authority: &Authority) {
        let name = |number: usize| match number {
            0 => "server.key".to_owned(),
            number => format!("server-{number}.key"),
        };
        let new = name(number + 1);
        let made = self.json(&["serverkey", "new", &new]);
        let config = fs::read_to_string(self.site.path("tessera.toml")).unwrap();
        let (file, previous) = (format!("file = \"{}\"", name(number)), "previous = [");
        let keeps = format!("previous = [\"{}\", ", name(number));
        let config = config
            .replacen(&file, &format!("file = \"{new}\""), 1)
            .replacen(previous, &keeps, 1);
        fs::write(self.site.path("tessera.toml"), config).unwrap();
        authority.signal("HUP");
        soon("the new server key", async {
            while self.json(&["serverkey", "status", "--config", "tessera.toml"])["current"]["id"]
                != made["id"]
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    /// The handshakes of the load go on meanwhile, with the old certificate or the new one.
    async fn replace_certificate(&self) {
        let pair = write_pair(&self.site, &self.ca);
        let port = self.address.rsplit(':').next().unwrap().parse().unwrap();
        soon("the new certificate", async {
            while self.ca.presented_at(port).await != pair.der {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    fn roll_api_key(&self) {
        let id = {
            let key = self.key.read().unwrap();
            let made = self.json(&["apikey", "list"]);
            let keys = made["api_keys"].as_array().unwrap().clone();
            let newest = keys.iter().rev().find(|listed| {
                let id = listed["id"].as_str().unwrap();
                key.contains(id)
            });
            newest.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let rolled = self.json(&["apikey", "roll", &id, "--overlap", "1h"]);
        *self.key.write().unwrap() = rolled["secret"].as_str().unwrap().to_owned();
    }

    /// A session ends while the verifier is frozen. After the thaw it must never accept its token.
    async fn freeze(&self, videos: &Service) {
        let client = self.client();
        let issued = client.issue(viewer("user:bob")).await.unwrap();
        let token = access(issued.tokens.as_ref());
        self.freezes.fetch_add(1, Ordering::SeqCst);
        videos.signal("STOP");
        let ended = self.json(&["revoke", "--session", &issued.session_id, "--wait", "--yes"]);
        assert_eq!(ended["matched"], 1, "{ended}");
        videos.signal("CONT");
        let address = self.videos.clone();
        let refused = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let status = status_of(&address, &token);
                assert_ne!(status, Some(200), "accepted after it was frozen");
                if status == Some(401) {
                    return;
                }
                assert!(Instant::now() < deadline, "{status:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        refused.await.unwrap();
        self.freezes.fetch_add(1, Ordering::SeqCst);
    }

    /// The trail is complete, each change is in it with its actor, and the sink that received it has all of it.
    fn check_trail(&self, rounds: usize) {
        let verified = self.json(&["audit", "verify"]);
        assert_eq!(verified["records"], verified["last_position"]);
        let changes = [
            ("signing_key_created", rounds),
            ("api_key_rolled", rounds.min(ROLLS)),
            // One change at the start is the operator's.
            ("policy_applied", rounds + 1),
            ("backed_up", rounds),
            ("revoked", rounds),
            ("server_key_replaced", rounds),
        ];
        for (action, least) in changes {
            let found = self.json(&["audit", "list", "--action", action, "--limit", "0"]);
            let records = found["records"].as_array().unwrap();
            let by_client = records.iter().filter(|record| {
                let actor = &record["actor"];
                // The files of server keys are read by the authority, and those of policies too, unless a command was first.
                let of_files = ["policy_applied", "server_key_replaced"].contains(&action);
                let is_watchers = of_files && actor["operator"] == true;
                is_watchers || (actor["client"].is_string() && actor["address"] == "127.0.0.1")
            });
            assert!(by_client.count() >= least, "{action}: {records:?}");
        }
        let last = verified["last_position"].as_u64().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = fs::read_to_string(self.site.path("audit.jsonl")).unwrap();
            let positions: Vec<_> = text.lines().map(position_of).collect();
            if positions.last().is_some_and(|position| *position >= last) {
                assert!(
                    positions.windows(2).all(|pair| pair[1] == pair[0] + 1),
                    "in order, and each"
                );
                assert_eq!(positions[0], 1);
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the file ends with {:?} of {last}",
                positions.last()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A new certificate with a new key, in the files of the configuration.
fn write_pair(site: &Site, ca: &Ca) -> Pair {
    let pair = ca.sign();
    // Between the two, the files do not match: the pair in use stays.
    fs::write(site.path("server.crt"), &pair.certificate).unwrap();
    fs::write(site.path("server.pem"), &pair.key).unwrap();
    pair
}

fn position_of(line: &str) -> u64 {
    let record: Value = serde_json::from_str(line).unwrap();
    record["position"].as_u64().unwrap()
}

/// The status of a request with a token; `None` if there was no answer.
fn status_of(address: &str, token: &str) -> Option<u16> {
    get(address, "/videos", token)
}

fn get(address: &str, path: &str, token: &str) -> Option<u16> {
    let host = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let line = String::from_utf8_lossy(&answer);
    line.split(' ').nth(1)?.parse().ok()
}

/// A receiver that accepts connections and never answers.
fn hung_receiver() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    port
}

/// An installation with TLS and two sinks of the audit trail, one of which hangs; and the address of its admin port.
fn installed() -> (Site, Ca, String) {
    let site = Site::for_much();
    let admin = format!("127.0.0.1:{}", free_port());
    let sinks = format!(
        "[audit.sinks.file]\nkind = \"file\"\npath = \"audit.jsonl\"\n\
         [audit.sinks.siem]\nkind = \"http\"\nurl = \"http://127.0.0.1:{}/\"\n[log]\n",
        hung_receiver()
    );
    site.edit(
        "admin_listen = \"127.0.0.1:0\"",
        &format!("admin_listen = \"{admin}\""),
    );
    site.edit("[log]\n", &sinks);
    site.edit("publish_for = \"10m\"", "publish_for = \"0s\"");
    let tls = "[server.tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.pem\"\n[store]\n";
    site.edit("[store]\n", tls);
    let ca = Ca::new();
    write_pair(&site, &ca);
    fs::write(site.path("ca.pem"), &ca.pem).unwrap();
    (site, ca, admin)
}

async fn run(rounds: impl Fn(usize, Instant) -> bool) {
    let (site, ca, admin) = installed();
    let ca_file = site.path("ca.pem");
    let authority = site.serve();
    let address = authority.address.replace("http://127.0.0.1", "https://localhost");
    let reach = [
        ("TESSERA_ADDR", address.as_str()),
        ("TESSERA_API_KEY", site.api_key.as_str()),
        ("TESSERA_CA", ca_file.to_str().unwrap()),
    ];
    let videos = Service::start("videos", &reach);
    let year = Arc::new(Year {
        address,
        admin,
        videos: videos.place.1.clone(),
        key: RwLock::new(site.api_key.clone()),
        site,
        ca,
        is_over: AtomicBool::new(false),
        freezes: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
    });
    year.verifier_is_ready().await;
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(Arc::clone(&year).work());
    }
    let (began, mut done) = (Instant::now(), 0);
    while rounds(done, began) {
        year.round(done, &authority, &videos).await;
        assert!(!workers.is_empty(), "the workers ended");
        done += 1;
    }
    year.is_over.store(true, Ordering::SeqCst);
    while let Some(worked) = workers.join_next().await {
        worked.unwrap();
    }
    println!(
        "{done} rounds, {} turns of {WORKERS} clients in {:?}; admin at {}",
        year.calls.load(Ordering::SeqCst),
        began.elapsed(),
        year.admin
    );
    year.check_trail(done);
    let issued = year.client().issue(viewer("user:ann")).await.unwrap();
    drop(videos);
    assert!(authority.stop().success());
    // The last backup, restored: tokens from after it, and from before, are not valid there.
    year.site.restore(&format!("backup-{}", done - 1), &["--yes"]);
    let restored = year.site.serve();
    let client = year.client();
    assert!(!client.introspect(&access(issued.tokens.as_ref())).await.active);
    client
        .refresh(&refresh(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    client.issue(viewer("user:ann")).await.unwrap();
    assert_eq!(year.json(&["audit", "verify"])["unknown_checkpoints"], 0);
    assert!(restored.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_changes_once_while_clients_call() {
    run(|done, _| done < 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "15 minutes: cargo test --release -p tessera-proto --test it -- --ignored --nocapture for_as_long_as"]
async fn everything_changes_for_as_long_as_one_wants() {
    let minutes = env::var("TESSERA_YEAR_MINUTES")
        .ok()
        .and_then(|value| value.parse().ok());
    let length = Duration::from_secs(60 * minutes.unwrap_or(15));
    run(move |done, began| done < 1 || began.elapsed() < length).await;
}
