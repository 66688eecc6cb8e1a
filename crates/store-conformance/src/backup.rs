//! A backup is the state of one position, regardless of concurrent writes.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use tessera_core::{
    ClientName, EventBody, KeyId, KeyStatus, LogId, PolicyRevision, RequestId, Seconds, Sequence, SigningKey,
};
use tessera_store::{
    BackupEnd, BackupError, BackupRecord, Changes, ClientChange, CutoffKey, LastBackup, MemoryStore,
    PurgeBefore, Reads, RequestKey, RequestRecord, SettingChange, Store,
};

use crate::{
    Opened,
    fixture::{
        api_key, at, audit_record, event, realm, rotated, session, session_revoked, subject_revoked, write,
    },
};

type Shared = Arc<dyn Store>;
/// A complete backup.
pub type Backup = (Vec<BackupRecord>, BackupEnd);
/// Makes a store from a backup.
pub type Restore = dyn Fn(Backup) -> Opened + Send + Sync;

/// How many sessions exist before a backup begins.
const SESSIONS: u32 = 1500;
const WRITERS: u32 = 4;
/// After how many records a backup waits for a write.
const RECORDS_FOR_A_UNIT: usize = 16;

/// Everything that a store has, with `meanwhile` called for each record that is shown.
pub async fn back_up(
    store: &Shared,
    mut meanwhile: impl FnMut(usize) + Send + 'static,
) -> Result<Backup, BackupError> {
    let records = Arc::new(Mutex::new(Vec::new()));
    let shown = Arc::clone(&records);
    let visit = move |record| {
        let mut shown = shown.lock();
        shown.push(record);
        meanwhile(shown.len());
        ControlFlow::Continue(())
    };
    let end = store.back_up(Box::new(visit)).await?;
    let records = std::mem::take(&mut *records.lock());
    Ok((records, end))
}

/// The content of a store, as one text: the last record of each key, and the end without the log's name.
pub async fn content(store: &Shared) -> String {
    let (records, mut end) = back_up(store, |_| ()).await.unwrap();
    end.log = LogId::from_bytes([0; 16]);
    let mut last: BTreeMap<String, Option<BackupRecord>> = BTreeMap::new();
    for record in records {
        let (name, record) = named(record);
        last.insert(name, record);
    }
    last.retain(|_, record| record.is_some());
    let lines: Vec<_> = last
        .iter()
        .map(|(name, record)| format!("{name} {record:?}"))
        .collect();
    format!("{}\n{end:?}", lines.join("\n"))
}

/// The subject of a record, and the record unless it says that the subject was removed.
fn named(record: BackupRecord) -> (String, Option<BackupRecord>) {
    match &record {
        BackupRecord::Session(session) => (format!("session {:?}", session.id), Some(record)),
        BackupRecord::NoSession(id) => (format!("session {id:?}"), None),
        BackupRecord::ApiKey(key) => (format!("key {:?}", key.id), Some(record)),
        BackupRecord::NoApiKey(id) => (format!("key {id:?}"), None),
        BackupRecord::Client {
            realm,
            client,
            is_disabled,
        } => {
            let name = format!("client {realm:?} {client:?}");
            (name, is_disabled.then_some(record))
        }
        BackupRecord::SigningKey(key) => (format!("signing key {:?}", key.id), Some(record)),
        BackupRecord::NoSigningKey(id) => (format!("signing key {id:?}"), None),
        BackupRecord::Request(key, _) => (format!("request {key:?}"), Some(record)),
        BackupRecord::NoRequest(key) => (format!("request {key:?}"), None),
        BackupRecord::Policy { revision, .. } => (format!("policy {revision:?}"), Some(record)),
        BackupRecord::NoPolicy(revision) => (format!("policy {revision:?}"), None),
        BackupRecord::Event(event) => (format!("event {:?}", event.sequence), Some(record)),
        BackupRecord::NoEvent(sequence) => (format!("event {sequence:?}"), None),
        BackupRecord::Cutoff { event, .. } => {
            let name = format!("cutoff {:?}", CutoffKey::of(event).unwrap());
            (name, Some(record))
        }
        BackupRecord::NoCutoff(key) => (format!("cutoff {key:?}"), None),
        BackupRecord::Audit(bytes) => (format!("audit {:020}", bytes.position), Some(record)),
        BackupRecord::StalenessBound(realm, _) => (format!("bound {realm:?}"), Some(record)),
    }
}

/// One record of each kind.
fn beginning() -> Vec<Changes> {
    let sessions = (1..=SESSIONS).map(|number| Arc::new(session(number)));
    let revision = PolicyRevision::parse("8f31c2a08f31c2a0").unwrap();
    let files = vec![("policy.csv".to_owned(), vec![b'p'; 100_000])];
    let everything = Changes {
        sessions: sessions.collect(),
        api_keys: vec![api_key(1, "production"), api_key(2, "sandbox")],
        clients: vec![client(true, "client:shop")],
        signing_keys: vec![signing_key()],
        requests: vec![request(0)],
        policies: vec![(revision, files)],
        settings: vec![
            SettingChange::PolicyInForce(revision),
            SettingChange::PolicyReconciled(revision, at(1)),
            SettingChange::StalenessBound(realm("production"), std::time::Duration::from_secs(9)),
            SettingChange::Alive {
                now: at(2),
                settled: at(1),
            },
            SettingChange::BackedUp(LastBackup {
                at: at(1),
                position: Sequence(0),
            }),
        ],
        audit: vec![audit_record(0, session(1).id)],
        events: vec![subject_revoked("user:bob", 50, 500)],
        ..Changes::default()
    };
    vec![everything]
}

fn client(is_disabled: bool, name: &str) -> ClientChange {
    ClientChange {
        realm: realm("production"),
        client: ClientName::parse(name).unwrap(),
        is_disabled,
    }
}

fn signing_key() -> SigningKey {
    SigningKey {
        sealed_with: "k4.lid.x".to_owned(),
        sealed_at: at(0),
        id: KeyId::parse(&format!("k4.pid.{}", "A".repeat(44))).unwrap(),
        realm: realm("production"),
        public: "public".to_owned(),
        sealed_secret: "sealed".to_owned(),
        status: KeyStatus::Active,
        published_at: at(0),
        not_before: at(0),
        not_after: None,
        token_ttl_max: Seconds(60),
    }
}

fn request(number: u32) -> (RequestKey, RequestRecord) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let key = RequestKey {
        realm: realm("production"),
        client: ClientName::parse("client:cms").unwrap(),
        request: RequestId::from_bytes(id),
    };
    let record = RequestRecord {
        digest: [1; 32],
        session: session(1).id,
        expires_at: at(i64::from(number)),
    };
    (key, record)
}

/// The unit `number` of a writer. Each has one event and one audit record, so that the log orders all its changes.
fn unit(writer: u32, number: u32) -> Changes {
    let old = session(1 + (number * WRITERS + writer) % SESSIONS);
    let new = session(SESSIONS + 1 + number * WRITERS + writer);
    let mut changes = Changes {
        audit: vec![audit_record(i64::from(number), old.id)],
        ..Changes::default()
    };
    match number % 5 {
        0 => changes.sessions.push(Arc::new(new)),
        1 => changes.sessions.push(Arc::new(rotated(&old, at(5)))),
        2 => changes.requests.push(request(number)),
        3 => changes
            .clients
            .push(client(number.is_multiple_of(2), "client:shop")),
        _ => changes
            .api_keys
            .push(api_key(u64::from(10 + number), "production")),
    }
    changes.events.push(match number % 3 {
        0 => session_revoked(&old, 50),
        1 => subject_revoked(&format!("user:{writer}"), 60, 600),
        _ => event(70, 700, EventBody::RealmRevoked),
    });
    changes
}

/// The committed changes, each with its event's position.
type Ledger = Mutex<Vec<(Sequence, Changes)>>;

/// Writers that write until they are stopped, and note what was committed.
struct Writers {
    ledger: Arc<Ledger>,
    written: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    async fn start(store: &Shared) -> Self {
        let ledger = Arc::new(Ledger::default());
        for changes in beginning() {
            let position = write(store, changes.clone()).await.last().unwrap();
            ledger.lock().push((position, changes));
        }
        let (written, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (store, ledger) = (Arc::clone(store), Arc::clone(&ledger));
            let (written, is_over) = (Arc::clone(&written), Arc::clone(&is_over));
            tasks.push(tokio::spawn(async move {
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let changes = unit(writer, number);
                    let position = write(&store, changes.clone()).await.last().unwrap();
                    ledger.lock().push((position, changes));
                    written.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        Self {
            ledger,
            tasks,
            written,
            is_over,
        }
    }

    /// Lets a backup continue no faster than the writers.
    fn keep_up(&self) -> impl FnMut(usize) + Send + 'static {
        let written = Arc::clone(&self.written);
        move |shown| {
            while written.load(Ordering::SeqCst) < shown / RECORDS_FOR_A_UNIT && shown < 4000 {
                thread::yield_now();
            }
        }
    }

    async fn stop(self) -> Vec<(Sequence, Changes)> {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let mut ledger = std::mem::take(&mut *self.ledger.lock());
        ledger.sort_by_key(|(position, _)| *position);
        ledger
    }
}

/// A store in memory with what was committed up to a position.
async fn model(ledger: &[(Sequence, Changes)], through: Sequence) -> Shared {
    let model: Shared = Arc::new(MemoryStore::new());
    for (_, changes) in ledger.iter().filter(|(position, _)| *position <= through) {
        write(&model, changes.clone()).await;
    }
    model
}

fn same(one: &str, other: &str) {
    let difference = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(difference, None);
    assert_eq!(one.lines().count(), other.lines().count());
}

/// A backup that is made while others write is exactly what was committed up to its position.
pub async fn a_backup_is_one_position(store: &Shared, restore: &Restore) {
    let writers = Writers::start(store).await;
    let backup = back_up(store, writers.keep_up()).await.unwrap();
    let ledger = writers.stop().await;
    let position = backup.1.last;
    let behind = ledger.iter().filter(|(at, _)| *at > position).count();
    let log = backup.1.log;
    assert_eq!(log, store.log().id());
    let restored = restore(backup);
    assert_eq!(restored.store.log().id(), log);
    let model = model(&ledger, position).await;
    same(&content(&restored.store).await, &content(&model).await);
    let reads = || Reads::default().sessions((1..100).map(|number| session(number).id));
    let ended = restored.store.read(reads()).await.unwrap();
    assert_eq!(ended.sessions, model.read(reads()).await.unwrap().sessions);
    assert_eq!(restored.store.log().committed(), position);
    assert_eq!(behind + usize::try_from(position.0).unwrap(), ledger.len());
}

/// What is removed meanwhile is not restored, and what is moved is not lost.
pub async fn a_backup_beside_a_purge_is_one_position(store: &Shared, restore: &Restore) {
    let before = PurgeBefore {
        horizon: at(300),
        audit: at(0),
    };
    let writers = Writers::start(store).await;
    let purging = tokio::spawn({
        let (store, is_over) = (Arc::clone(store), Arc::clone(&writers.is_over));
        async move {
            while !is_over.load(Ordering::SeqCst) {
                store.purge(before, 20).await.unwrap();
            }
        }
    });
    let backup = back_up(store, writers.keep_up()).await.unwrap();
    let ledger = writers.stop().await;
    purging.await.unwrap();
    let position = backup.1.last;
    let restored = restore(backup);
    let model = model(&ledger, position).await;
    for store in [&restored.store, &model] {
        while store.purge(before, 1000).await.unwrap().more {}
    }
    same(&content(&restored.store).await, &content(&model).await);
}

/// The receiver of the records may break off, and then another backup can be made.
pub async fn a_backup_can_be_broken_off(store: &Shared, _: &Restore) {
    for changes in beginning() {
        write(store, changes).await;
    }
    let mut left = 10;
    let visit = move |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let broken = store.back_up(Box::new(visit)).await;
    assert!(matches!(broken, Err(BackupError::BrokenOff)), "{broken:?}");
    assert!(store.health().takes_writes);
    let (records, _) = back_up(store, |_| ()).await.unwrap();
    assert!(records.len() > SESSIONS as usize);
}

/// A backup of an empty store is an empty store.
pub async fn a_backup_of_an_empty_store_is_one(store: &Shared, restore: &Restore) {
    let backup = back_up(store, |_| ()).await.unwrap();
    assert_eq!((backup.0.len(), backup.1.last), (0, Sequence(0)));
    let restored = restore(backup);
    same(&content(&restored.store).await, &content(store).await);
}

/// Makes one test of each check of backups. The arguments are an expression that opens an empty store, and a function
/// that makes a store from a backup.
#[macro_export]
macro_rules! backups {
    (each #[$attribute:meta]; $open:expr, $restore:expr) => {
        $crate::backups!(@all [#[$attribute]] $open, $restore;
            a_backup_is_one_position,
            a_backup_beside_a_purge_is_one_position,
            a_backup_can_be_broken_off,
            a_backup_of_an_empty_store_is_one,
        );
    };
    (@all $attributes:tt $open:expr, $restore:expr; $($check:ident),* $(,)?) => {
        $($crate::backups!(@one $attributes $open, $restore, $check);)*
    };
    ($open:expr, $restore:expr) => {
        $crate::backups!(each #[cfg(test)]; $open, $restore);
    };
    (@one [$($attributes:tt)*] $open:expr, $restore:expr, $check:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attributes)*
        async fn $check() {
            let opened: $crate::Opened = $open;
            $crate::backup::$check(&opened.store, &$restore).await;
        }
    };
}
