//! Backups by the real binary: made while others write, then verified, restored and served.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use tessera_backup::{CompleteBackup, FileError, Item};
use tessera_core::SessionState;
use tessera_proto::v1::revoke_request::Target;
use tessera_store::BackupRecord;
use tessera_token::BackupKey;

use crate::{
    serving::{Place, serve},
    support::{Authority, Client, access, json, reason, refresh, soon, stderr, stdout, tessera, viewer},
};

const WORKERS: usize = 4;
/// How many calls each worker has made at least before the first backup, and between two backups.
const CALLS: usize = 25;
const BACKUPS: usize = 3;

/// An authority with a backup key beside it.
pub(crate) struct Site {
    place: Place,
    pub(crate) api_key: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let api_key = place.first_key("production")["secret"]
            .as_str()
            .unwrap()
            .to_owned();
        let made = tessera()
            .args(["backup", "key", "new"])
            .arg(place.path("backup.key"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        Self { place, api_key }
    }

    /// A site whose clients may call without rate limits.
    pub(crate) fn for_much() -> Self {
        let site = Self::new();
        for (setting, otherwise) in [
            (
                "calls_per_second_per_client = 5000",
                "calls_per_second_per_client = 100000",
            ),
            (
                "disk_mib_per_hour_per_client = 8192",
                "disk_mib_per_hour_per_client = 1000000",
            ),
        ] {
            site.place.edit("tessera.toml", setting, otherwise);
        }
        site
    }

    pub(crate) fn serve(&self) -> Authority {
        serve(&self.place.config(), &self.place.address)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.place.edit("tessera.toml", from, to);
    }

    /// A command about backups with all necessary arguments.
    fn backup(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = tessera();
        command
            .current_dir(self.place.path(""))
            .env("TESSERA_ADDR", &self.place.address)
            .env("TESSERA_API_KEY", &self.api_key)
            .env("TESSERA_BACKUP_KEY", "backup.key")
            .arg("backup")
            .args(arguments);
        command
    }

    /// Makes a backup, and returns the output of the command.
    pub(crate) fn create(&self, file: &str) -> Value {
        json(&mut self.backup(&["create", file]))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.backup(arguments).output().unwrap()
    }

    fn read(&self, file: &str) -> (CompleteBackup, Vec<BackupRecord>) {
        let text = fs::read_to_string(self.place.path("backup.key")).unwrap();
        let key = BackupKey::parse(&text).unwrap();
        let mut records = Vec::new();
        let file = File::open(self.place.path(file)).unwrap();
        let made = tessera_backup::read(file, &key, |item| {
            if let Item::Record(record) = item {
                records.push(record);
            }
            Ok::<_, FileError>(())
        });
        (made.unwrap(), records)
    }

    /// Stops serving the data, and restores a backup in its place. Returns the output of the command.
    pub(crate) fn restore(&self, file: &str, more: &[&str]) -> Value {
        fs::remove_dir_all(self.place.path("data")).unwrap();
        let arguments = [&["restore", file, "--config", "tessera.toml"], more].concat();
        json(&mut self.backup(&arguments))
    }
}

/// A worker's knowledge of one of its sessions: only what was acknowledged.
#[derive(Clone)]
struct Known {
    session: String,
    /// How many backups were finished when it was requested.
    begun_after: usize,
    generation: u64,
    /// The position of its end in the log.
    revoked_at: Option<u64>,
    access: String,
    refresh: String,
}

type Ledger = Arc<Mutex<Vec<Known>>>;

/// The state that all workers share.
#[derive(Clone, Default)]
struct Shared {
    calls: Arc<AtomicUsize>,
    backups: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

/// The position in a cursor: after a version and the log.
fn sequence_of(cursor: &str) -> u64 {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    u64::from_be_bytes(bytes[17..25].try_into().unwrap())
}

/// Issues, refreshes and revokes, and records what was acknowledged, until it is stopped.
async fn work(client: Client, ledger: Ledger, shared: Shared) {
    let mut turn = 0;
    while !shared.is_over.load(Ordering::SeqCst) {
        let begun_after = shared.backups.load(Ordering::SeqCst);
        let issued = client.issue(viewer("user:ann")).await.unwrap();
        let place = {
            let mut ledger = ledger.lock().unwrap();
            ledger.push(Known {
                session: issued.session_id.clone(),
                begun_after,
                generation: 1,
                revoked_at: None,
                access: access(issued.tokens.as_ref()),
                refresh: refresh(issued.tokens.as_ref()),
            });
            ledger.len() - 1
        };
        let token = ledger.lock().unwrap()[place].refresh.clone();
        let refreshed = client.refresh(&token).await.unwrap();
        {
            let known = &mut ledger.lock().unwrap()[place];
            known.generation = refreshed.generation;
            known.refresh = refresh(refreshed.tokens.as_ref());
        }
        turn += 1;
        if turn % 2 == 0 {
            let revoked = client.revoke(Target::SessionId(issued.session_id)).await.unwrap();
            ledger.lock().unwrap()[place].revoked_at = Some(sequence_of(&revoked.cursor));
        }
        shared.calls.fetch_add(1, Ordering::SeqCst);
    }
}

/// A backup, and what was acknowledged before it began.
struct Taken {
    file: String,
    sequence: u64,
    before: Vec<Vec<Known>>,
}

async fn take(site: &Arc<Site>, number: usize, ledgers: &[Ledger], shared: &Shared) -> Taken {
    let due = shared.calls.load(Ordering::SeqCst) + CALLS * WORKERS;
    soon("the workers work", async {
        while shared.calls.load(Ordering::SeqCst) < due {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = ledgers
        .iter()
        .map(|ledger| ledger.lock().unwrap().clone())
        .collect();
    let (file, creating) = (format!("backup-{number}"), Arc::clone(site));
    let name = file.clone();
    let create = move || creating.create(&name);
    let made = tokio::task::spawn_blocking(create).await.unwrap();
    shared.backups.fetch_add(1, Ordering::SeqCst);
    Taken {
        file,
        sequence: made["sequence"].as_u64().unwrap(),
        before,
    }
}

/// The sessions in a backup: the generation of each, and whether it was ended individually.
fn sessions(records: Vec<BackupRecord>) -> HashMap<String, (u64, bool)> {
    let mut sessions = HashMap::new();
    for record in records {
        match record {
            BackupRecord::Session(session) => {
                let state = (session.generation(), session.state != SessionState::Active);
                sessions.insert(session.id.to_string(), state);
            }
            BackupRecord::NoSession(id) => drop(sessions.remove(&id.to_string())),
            _ => {}
        }
    }
    sessions
}

/// Compares a backup with what the workers know at the end.
fn check(site: &Site, taken: &Taken, number: usize, ledgers: &[Ledger]) {
    let (made, records) = site.read(&taken.file);
    assert_eq!(made.tail.end.last.0, taken.sequence);
    let has = sessions(records);
    for known in taken.before.iter().flatten() {
        let (generation, is_revoked) = has[&known.session];
        assert!(generation >= known.generation, "{}", known.session);
        assert!(is_revoked || known.revoked_at.is_none(), "{}", known.session);
    }
    for ledger in ledgers {
        let ledger = ledger.lock().unwrap();
        let there: Vec<_> = ledger
            .iter()
            .map(|known| has.contains_key(&known.session))
            .collect();
        let first_missing = there.iter().position(|is_there| !is_there).unwrap_or(there.len());
        assert!(
            there[first_missing..].iter().all(|is_there| !is_there),
            "what a worker did is in it up to one moment"
        );
        for (known, is_there) in ledger.iter().zip(there) {
            assert!(!is_there || known.begun_after <= number, "{}", known.session);
            if let Some(at) = known.revoked_at {
                let is_revoked = has.get(&known.session).is_some_and(|(_, is_revoked)| *is_revoked);
                assert_eq!(is_revoked, at <= taken.sequence, "{} at {at}", known.session);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_what_was_acknowledged_before_its_position_and_nothing_after() {
    let site = Arc::new(Site::new());
    let authority = site.serve();
    let shared = Shared::default();
    let client = authority.with_key(&site.api_key).await;
    let ledgers: Vec<_> = (0..WORKERS).map(|_| Ledger::default()).collect();
    let workers: Vec<_> = ledgers
        .iter()
        .map(|ledger| tokio::spawn(work(client.clone(), Arc::clone(ledger), shared.clone())))
        .collect();
    let mut taken = Vec::new();
    for number in 0..BACKUPS {
        taken.push(take(&site, number, &ledgers, &shared).await);
    }
    shared.is_over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(authority.stop().success());
    for (number, taken) in taken.iter().enumerate() {
        check(&site, taken, number, &ledgers);
    }

    let last = taken.last().unwrap();
    let live = sessions(site.read(&last.file).1);
    let live = live.values().filter(|(_, is_revoked)| !is_revoked).count();
    let restored = site.restore(&last.file, &[]);
    assert_eq!(restored["sessions_ended"]["production"], live);
    let authority = site.serve();
    let client = authority.with_key(&site.api_key).await;
    for known in last.before.iter().map(|known| known.last().unwrap()) {
        assert!(!client.introspect(&known.access).await.active);
        let refused = client.refresh(&known.refresh).await.unwrap_err();
        assert!(
            ["SESSION_REVOKED", "REFRESH_TOKEN_AHEAD"].contains(&reason(&refused).as_str()),
            "{refused}"
        );
    }
    // A token that was issued after the backup is unknown.
    let after = ledgers[0].lock().unwrap().last().unwrap().clone();
    assert!(!client.introspect(&after.access).await.active);
    client.refresh(&after.refresh).await.unwrap_err();
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
    assert!(authority.stop().success());
}

/// Runs a command that can't run, and checks its reason and parts of its message.
fn refused(command: &mut std::process::Command, reason: &str, parts: &[&str]) {
    let output = command.arg("--json").output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["error"]["reason"], reason, "{told}");
    for part in parts {
        assert!(
            told["error"]["message"].as_str().unwrap().contains(part),
            "{part}: {told}"
        );
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_never_replaced_unasked_and_appears_whole() {
    let site = Site::new();
    let path = |name: &str| -> PathBuf { site.place.path(name) };
    refused(
        &mut site.backup(&["create", "one"]),
        "",
        &["no authority answers"],
    );
    let authority = site.serve();
    let made = site.run(&["create", "one"]);
    assert!(made.status.success(), "{}", stderr(&made));
    for part in [
        "A restore needs both keys",
        "server key  k4.lid.",
        "backup key  k4.lid.",
    ] {
        assert!(stdout(&made).contains(part), "{}", stdout(&made));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path("one")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(path("one")).unwrap();
    refused(
        &mut site.backup(&["create", "one"]),
        "FILE_EXISTS",
        &["already exists", "--overwrite"],
    );
    assert_eq!(fs::read(path("one")).unwrap(), before);
    assert!(site.run(&["create", "one", "--overwrite"]).status.success());
    assert_ne!(fs::read(path("one")).unwrap(), before);
    // Anything that is not a regular file, such as a pipe or /dev/null, is never replaced.
    let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.unwrap().success());
    let mut over_a_pipe = site.backup(&["create", "pipe", "--overwrite"]);
    refused(&mut over_a_pipe, "FILE_EXISTS", &["is not a file"]);
    let kind = fs::symlink_metadata(path("pipe")).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
    // Left by a killed command; it may also be a link to another file.
    fs::write(path("precious"), "precious").unwrap();
    std::os::unix::fs::symlink("precious", path("two.partial")).unwrap();
    assert!(site.run(&["create", "two"]).status.success());
    assert_eq!(fs::read(path("precious")).unwrap(), b"precious");
    refused(
        &mut site.backup(&["create", "three", "--key-file", "server.key"]),
        "BACKUP_KEY_UNUSABLE",
        &["this is the server key"],
    );
    let mut without = site.backup(&["create", "three"]);
    refused(
        without.env("TESSERA_BACKUP_KEY", ""),
        "BACKUP_KEY_MISSING",
        &["no backup key"],
    );
    refused(
        &mut site.backup(&["key", "new", "backup.key"]),
        "FILE_EXISTS",
        &["backup.key"],
    );
    assert!(authority.stop().success());
    let there = names(&path(""));
    let left = there
        .iter()
        .filter(|name| name.contains("three") || name.contains("partial"));
    assert_eq!(left.count(), 0, "{there:?}");
    assert!(site.run(&["verify", "one"]).status.success());
}

/// What a bad backup is called, its content, and the reason and the message of its refusal.
type Bad = (&'static str, Vec<u8>, &'static str, &'static str);

fn bad_backups(good: &[u8]) -> [Bad; 8] {
    let flipped = |at: usize| {
        let mut bytes = good.to_owned();
        bytes[at] ^= 1;
        bytes
    };
    let mut newer = good.to_owned();
    newer[11] = 2;
    let not_a_backup = |name, bytes| (name, bytes, "BACKUP_DAMAGED", "is not a Tessera backup");
    let cut_off = |name, bytes| (name, bytes, "BACKUP_INCOMPLETE", "is cut off after");
    let changed = |name, bytes| (name, bytes, "BACKUP_DAMAGED", "is not what was written");
    let newer_format = "has format 2, and this version reads up to 1";
    [
        not_a_backup("empty", Vec::new()),
        not_a_backup("text", b"not a backup at all".to_vec()),
        cut_off("cut", good[..good.len() / 2].to_vec()),
        cut_off("shorter", good[..good.len() - 1].to_vec()),
        changed("longer", [good, b"x"].concat()),
        changed("flipped", flipped(good.len() / 2)),
        changed("hash", flipped(good.len() - 1)),
        ("newer", newer, "NEWER_VERSION", newer_format),
    ]
}

#[test]
fn each_bad_backup_is_told_by_itself_and_restores_nothing() {
    let site = Site::new();
    let authority = site.serve();
    let verified = json(&mut site.backup(&["create", "good"]));
    assert!(authority.stop().success());
    assert_eq!(
        json(&mut site.backup(&["verify", "good"]))["sequence"],
        verified["sequence"]
    );
    fs::remove_dir_all(site.place.path("data")).unwrap();
    let good = fs::read(site.place.path("good")).unwrap();
    let before = names(&site.place.path(""));
    for (name, bytes, reason, said) in &bad_backups(&good) {
        fs::write(site.place.path("bad"), bytes).unwrap();
        refused(&mut site.backup(&["verify", "bad"]), reason, &["`bad`", said]);
        let restore = ["restore", "bad", "--config", "tessera.toml"];
        refused(&mut site.backup(&restore), reason, &["`bad`", said]);
        fs::remove_file(site.place.path("bad")).unwrap();
        assert_eq!(names(&site.place.path("")), before, "{name} leaves something");
    }
    let other = site.run(&["key", "new", "other.key"]);
    assert!(other.status.success());
    refused(
        &mut site.backup(&["verify", "good", "--key-file", "other.key"]),
        "BACKUP_KEY_WRONG",
        &["was made with the backup key k4.lid.", "and this key is k4.lid."],
    );
    refused(
        &mut site.backup(&["verify", "nowhere"]),
        "FILE_UNUSABLE",
        &["`nowhere`"],
    );
}

#[test]
fn a_backup_is_restored_only_with_its_server_key_and_into_nothing() {
    let site = Site::new();
    let authority = site.serve();
    let made = json(&mut site.backup(&["create", "good"]));
    let server_key = made["server_key_ids"][0].as_str().unwrap();
    let restore = ["restore", "good", "--config", "tessera.toml"];
    let refused = |reason, parts: &[&str]| refused(&mut site.backup(&restore), reason, parts);
    refused("STORE_IN_USE", &["serves the data directory", "stop it first"]);
    assert!(authority.stop().success());
    refused("STORE_NOT_EMPTY", &["is not empty", "move it away first"]);
    fs::rename(site.place.path("data"), site.place.path("before")).unwrap();
    let key = site.place.path("server.key");
    fs::rename(&key, site.place.path("kept.key")).unwrap();
    refused(
        "SERVER_KEY_MISSING",
        &[server_key, "is missing", "none is at hand", "https://"],
    );
    assert!(!key.exists(), "no key is made where one is missing");
    let another = Site::new();
    fs::copy(another.place.path("server.key"), &key).unwrap();
    refused(
        "SERVER_KEY_MISSING",
        &[server_key, "is missing", "at hand is k4.lid."],
    );
    fs::rename(site.place.path("kept.key"), &key).unwrap();
    let cut_off = site.place.path("data.restoring");
    fs::create_dir(&cut_off).unwrap();
    refused("RESTORE_UNFINISHED", &["data.restoring", "remove it"]);
    fs::remove_dir(&cut_off).unwrap();
    let (issuer, other) = (
        "https://auth.example.org/production",
        "https://other.example.org/",
    );
    site.edit(issuer, other);
    refused("BACKUP_OF_OTHER_AUTHORITY", &[issuer, other]);
    site.edit(other, issuer);
    assert!(!site.place.path("data").exists());
    // An empty directory counts as none.
    fs::create_dir(site.place.path("data")).unwrap();
    let restored = site.run(&restore);
    assert!(restored.status.success(), "{}", stderr(&restored));
    for part in ["revoked and replaced", "revoke again", "is not in it"] {
        assert!(stdout(&restored).contains(part), "{}", stdout(&restored));
    }
    assert!(site.serve().stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_is_not_revived_and_api_keys_end_if_asked() {
    let site = Site::new();
    let authority = site.serve();
    let client = authority.with_key(&site.api_key).await;
    let before = client.issue(viewer("user:ann")).await.unwrap();
    let made = site.run(&["create", "good"]);
    assert!(made.status.success(), "{}", stderr(&made));
    client
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let after = client.issue(viewer("user:eve")).await.unwrap();
    let rotated = |args: &[&str]| {
        let mut command = tessera();
        command.env("TESSERA_ADDR", &site.place.address);
        json(command.env("TESSERA_API_KEY", &site.api_key).args(args))
    };
    let keys = rotated(&["key", "list"]);
    assert!(authority.stop().success());
    let restored = site.restore("good", &["--revoke-api-keys"]);
    assert_eq!(restored["api_keys_revoked"], true);
    let made_anew = json(
        tessera()
            .args(["apikey", "create", "dev", "--realm", "production", "--config"])
            .arg(site.place.config()),
    );
    let authority = site.serve();
    let old = authority.with_key(&site.api_key).await;
    let refused = old.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(reason(&refused), "CLIENT_AUTH_FAILED");
    let client = authority.with_key(made_anew["secret"].as_str().unwrap()).await;
    for issued in [&before, &after] {
        assert!(!client.introspect(&access(issued.tokens.as_ref())).await.active);
        client
            .refresh(&refresh(issued.tokens.as_ref()))
            .await
            .unwrap_err();
    }
    let mut command = tessera();
    command.env("TESSERA_ADDR", &site.place.address);
    let listed = json(
        command
            .env("TESSERA_API_KEY", made_anew["secret"].as_str().unwrap())
            .args(["key", "list"]),
    );
    let active = |keys: &Value| {
        let keys = keys["keys"].as_array().unwrap().clone();
        let active = keys.into_iter().filter(|key| key["status"] == "active");
        active.map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (active(&keys).len(), active(&listed).len()),
        (1, 1),
        "{keys} {listed}"
    );
    assert_ne!(active(&keys), active(&listed));
    assert!(authority.stop().success());
}
