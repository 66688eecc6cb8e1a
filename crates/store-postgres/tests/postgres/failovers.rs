//! All failures, while three nodes write: three servers, one of which is lost again and again, waits for standbys that
//! are cancelled, sessions that are ended, servers that freeze, nodes that restart. A ledger outside records what was
//! acknowledged.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tessera_core::{EventBody, Sequence, SessionId};
use tessera_store::{Changes, Decision, Reads, Snapshot, Store, StoreError};
use tessera_store_conformance::fixture::{
    events_after, put, sequences, session_revoked, subject_revoked, with_subject,
};
use tessera_store_postgres::{Durability, PostgresOptions};
use tokio::time::sleep;

use super::{
    cluster::{open, runtime},
    servers::Servers,
};

type Shared = Arc<dyn Store>;

const SESSIONS: u32 = 24;
const CLIENTS: u32 = 6;

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    rotations: Mutex<HashSet<(SessionId, Sequence)>>,
    revocations: AtomicU64,
    refused: AtomicU64,
    /// Nodes that ended by themselves.
    restarts: AtomicU64,
    /// Violations.
    faults: Mutex<Vec<String>>,
}

impl Ledger {
    fn rotated(&self, session: SessionId, rev: Sequence) {
        if !self.rotations.lock().insert((session, rev)) {
            self.faults
                .lock()
                .push(format!("{session} was rotated to {} twice", rev.0));
        }
    }
}

fn subject_of(number: u32) -> String {
    format!("user:{number}")
}

/// One rotation: the session's `rev` counts them, and each is an event.
async fn rotate(store: &Shared, number: u32) -> Result<Sequence, StoreError> {
    let id = with_subject(number, &subject_of(number)).id;
    let decide = move |state: &Snapshot| {
        let Some(stored) = state.session(id) else {
            return Decision::Abort(Sequence(0));
        };
        let mut next = stored.session.as_ref().clone();
        next.rev = next.rev.next();
        let rev = next.rev;
        let changes = Changes {
            events: vec![session_revoked(&next, 900)],
            sessions: vec![Arc::new(next)],
            ..Changes::default()
        };
        Decision::Commit(changes, rev)
    };
    Ok(store.commit(Reads::default().session(id), decide).await?.0)
}

/// After the answer to a revocation, another node must find it, or not answer.
async fn revoke(nodes: &[Shared], number: u32, ledger: &Ledger) {
    let subject = format!("user:once-{number}");
    let one = with_subject(1_000_000 + number, &subject);
    let (here, there) = (&nodes[number as usize % 3], &nodes[(number as usize + 1) % 3]);
    let begun = Changes {
        sessions: vec![Arc::new(one.clone())],
        ..Changes::default()
    };
    let revoked = Changes {
        events: vec![subject_revoked(&subject, 900, 900)],
        ..Changes::default()
    };
    if here.write(begun).await.is_err() || here.write(revoked).await.is_err() {
        ledger.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    ledger.revocations.fetch_add(1, Ordering::Relaxed);
    match there.session(one.id).await {
        Ok(Some(stored)) if stored.ended.is_some() => {}
        Ok(found) => ledger.faults.lock().push(format!(
            "{subject} was revoked, and another node says {:?}",
            found.map(|stored| stored.ended)
        )),
        Err(_) => drop(ledger.refused.fetch_add(1, Ordering::Relaxed)),
    }
}

async fn node(url: &str, schema: &str) -> Shared {
    let mut options = PostgresOptions::new(url);
    options.schema = schema.to_owned();
    options.durability = Durability::Quorum;
    Arc::new(open(options).await)
}

/// Calls the nodes until the end.
async fn call(client: u32, nodes: Arc<RwLock<Vec<Shared>>>, ledger: Arc<Ledger>, is_over: Arc<AtomicBool>) {
    let mut number = client;
    while !is_over.load(Ordering::Relaxed) {
        let of_now = nodes.read().clone();
        number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345) >> 1;
        let session = number % SESSIONS;
        match rotate(&of_now[(number / SESSIONS) as usize % 3], session).await {
            Ok(rev) => ledger.rotated(with_subject(session, &subject_of(session)).id, rev),
            Err(_) => {
                ledger.refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(10)).await;
            }
        }
        if client == 0 {
            revoke(&of_now, number, &ledger).await;
        }
    }
}

/// Runs clients of three nodes through this many failovers.
async fn survive(failovers: u32) {
    let names = tempfile::tempdir().unwrap();
    let mut servers = Servers::start();
    let url = servers.url(names.path());
    let schema = "failovers";
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&url, schema).await);
    }
    for number in 0..SESSIONS {
        put(&nodes[0], &with_subject(number, &subject_of(number))).await;
    }
    let nodes = Arc::new(RwLock::new(nodes));
    let (ledger, is_over) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let clients = (0..CLIENTS).map(|client| {
        let (nodes, ledger, is_over) = (Arc::clone(&nodes), Arc::clone(&ledger), Arc::clone(&is_over));
        runtime().spawn(call(client, nodes, ledger, is_over))
    });
    let clients: Vec<_> = clients.collect();
    for turn in 0..failovers {
        sleep(Duration::from_millis(300)).await;
        servers.disturb(turn).await;
        let before = ledger.rotations.lock().len();
        servers.fail_over(names.path());
        let began = Instant::now();
        while ledger.rotations.lock().len() == before {
            // A node that has seen writes which were never acknowledged ends, and its supervisor restarts it.
            for number in 0..3 {
                let is_over = nodes.read()[number].health().is_over();
                if is_over {
                    let new = node(&url, schema).await;
                    nodes.write()[number] = new;
                    ledger.restarts.fetch_add(1, Ordering::Relaxed);
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing is acknowledged any more"
            );
            sleep(Duration::from_millis(20)).await;
        }
        if turn % 3 == 2 {
            // A node ends, and another one replaces it.
            let new = node(&url, schema).await;
            let old = std::mem::replace(&mut nodes.write()[turn as usize % 3], new);
            drop(old.close().await);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let last = Arc::clone(&nodes.read()[0]);
    check(&last, &ledger).await;
    println!(
        "{failovers} failovers: {} rotations and {} revocations acknowledged, {} not answered, {} nodes ended",
        ledger.rotations.lock().len(),
        ledger.revocations.load(Ordering::Relaxed),
        ledger.refused.load(Ordering::Relaxed),
        ledger.restarts.load(Ordering::Relaxed)
    );
}

/// Compares the stored state with what was acknowledged.
async fn check(store: &Shared, ledger: &Ledger) {
    // Another node may have committed last.
    store.catch_up().await.unwrap();
    let events = events_after(store, Sequence(0)).await.unwrap();
    let all: Vec<_> = (1..=events.len() as u64).collect();
    assert_eq!(sequences(&events), all, "the log has no gap");
    let mut rotations: BTreeMap<SessionId, u64> = BTreeMap::new();
    for event in &events {
        if let EventBody::SessionRevoked { session, .. } = &event.body {
            *rotations.entry(*session).or_default() += 1;
        }
    }
    let acknowledged = ledger.rotations.lock().clone();
    for number in 0..SESSIONS {
        let begun = with_subject(number, &subject_of(number));
        let stored = store.session(begun.id).await.unwrap().unwrap();
        let kept = stored.session.rev.0 - begun.rev.0;
        assert_eq!(
            kept,
            rotations.get(&begun.id).copied().unwrap_or_default(),
            "each is one event"
        );
        let of_session = acknowledged.iter().filter(|(id, _)| *id == begun.id);
        let last = of_session.map(|(_, rev)| rev.0 - begun.rev.0).max();
        assert!(
            last.unwrap_or_default() <= kept,
            "an acknowledged rotation is lost"
        );
    }
    assert_eq!(*ledger.faults.lock(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nothing_is_lost_or_doubled_by_failovers() {
    survive(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: TESSERA_FAILOVERS=200, needs PostgreSQL"]
async fn nothing_is_lost_or_doubled_by_many_failovers() {
    if let Some(failovers) = env::var("TESSERA_FAILOVERS")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        survive(failovers).await;
    }
}
