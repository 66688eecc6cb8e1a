//! Acknowledged means durable: over restarts, and over kill -9 at any moment.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tessera_proto::v1::revoke_request::Target;
use tonic::Code;

use crate::support::{Authority, Client, access, reason, refresh, viewer};

// Several threads: the client must see that the server stops while this test waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::dev_on(directory.path());
    let (ready, client) = (authority.ready.clone(), authority.client("production").await);
    let (alive, dead) = (
        client.issue(viewer("user:ann")).await.unwrap(),
        client.issue(viewer("user:bob")).await.unwrap(),
    );
    let first = refresh(alive.tokens.as_ref());
    let second = refresh(client.refresh(&first).await.unwrap().tokens.as_ref());
    let revoked = client
        .revoke(Target::Subject("user:bob".to_owned()))
        .await
        .unwrap();
    assert!(authority.stop().success());

    let authority = Authority::dev_on(directory.path());
    assert_eq!(
        authority.ready["realms"], ready["realms"],
        "the same realms, issuers and API keys"
    );
    let client = authority.client("production").await;
    // They were signed before, by the same key.
    assert!(client.introspect(&access(alive.tokens.as_ref())).await.active);
    assert!(!client.introspect(&access(dead.tokens.as_ref())).await.active);
    let refused = client.refresh(&refresh(dead.tokens.as_ref())).await.unwrap_err();
    assert_eq!(reason(&refused), "SESSION_REVOKED");
    // The answer to the last refresh was lost with the connection: the same successor, from the ratchet.
    let again = client.refresh(&first).await.unwrap();
    assert!(again.replayed && refresh(again.tokens.as_ref()) == second);
    assert_eq!(client.refresh(&second).await.unwrap().generation, 3);
    // The log continues at its last position.
    let later = client
        .revoke(Target::Subject("user:bob".to_owned()))
        .await
        .unwrap();
    assert_ne!(later.cursor, revoked.cursor);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_made_only_where_none_can_be_shown() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::dev_on(directory.path());
    let key = authority.api_key("production");
    let client = authority.client("production").await;
    let id = key["tsk_production_".len()..][..16].to_owned();
    client.revoke(Target::ApiKeyId(id)).await.unwrap();
    authority.stop();
    let authority = Authority::dev_on(directory.path());
    assert_ne!(authority.api_key("production"), key);
    authority
        .client("production")
        .await
        .issue(viewer("user:ann"))
        .await
        .unwrap();
}

/// A client's knowledge of one of its sessions: only what was acknowledged.
#[derive(Clone)]
struct Entry {
    session: String,
    token: String,
    generation: u64,
    /// A call on this session has no answer: its effect may or may not have happened.
    in_doubt: Option<Doubt>,
    is_revoked: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Doubt {
    Refresh,
    Revoke,
}

type Ledger = Arc<Mutex<Vec<Entry>>>;

/// Issues, refreshes and revokes until a call fails because the authority is gone.
async fn work(client: Client, ledger: Ledger, done: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(issued) = client.issue(viewer("user:ann")).await else {
            return;
        };
        let entry = Entry {
            session: issued.session_id.clone(),
            token: refresh(issued.tokens.as_ref()),
            generation: 1,
            in_doubt: None,
            is_revoked: false,
        };
        let place = {
            let mut ledger = ledger.lock().unwrap();
            ledger.push(entry);
            ledger.len() - 1
        };
        done.fetch_add(1, Ordering::SeqCst);
        for _ in 0..3 {
            if !refresh_once(&client, &ledger, place).await {
                return;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
        turn += 1;
        if turn % 3 == 0 && !revoke_once(&client, &ledger, place).await {
            return;
        }
    }
}

async fn refresh_once(client: &Client, ledger: &Ledger, place: usize) -> bool {
    let token = {
        let mut ledger = ledger.lock().unwrap();
        ledger[place].in_doubt = Some(Doubt::Refresh);
        ledger[place].token.clone()
    };
    match client.refresh(&token).await {
        Ok(answer) => {
            let entry = &mut ledger.lock().unwrap()[place];
            assert_eq!(
                (answer.generation, answer.replayed),
                (entry.generation + 1, false),
                "a double rotation"
            );
            entry.token = refresh(answer.tokens.as_ref());
            entry.generation = answer.generation;
            entry.in_doubt = None;
            true
        }
        Err(status) => {
            assert!(
                matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
                ),
                "{status}"
            );
            false
        }
    }
}

async fn revoke_once(client: &Client, ledger: &Ledger, place: usize) -> bool {
    let session = {
        let mut ledger = ledger.lock().unwrap();
        ledger[place].in_doubt = Some(Doubt::Revoke);
        ledger[place].session.clone()
    };
    let answer = client.revoke(Target::SessionId(session)).await;
    if answer.is_ok() {
        let entry = &mut ledger.lock().unwrap()[place];
        entry.in_doubt = None;
        entry.is_revoked = true;
    }
    answer.is_ok()
}

/// Checks every entry against the restarted authority. Returns how many were checked.
async fn check(client: &Client, ledger: &Ledger) -> usize {
    let entries = ledger.lock().unwrap().clone();
    for entry in &entries {
        let answer = client.refresh(&entry.token).await;
        match (&answer, entry.is_revoked, entry.in_doubt) {
            (Err(status), true, _) | (Err(status), false, Some(Doubt::Revoke)) => {
                assert_eq!(reason(status), "SESSION_REVOKED");
            }
            (Ok(answer), false, doubt) => {
                assert_eq!(
                    answer.generation,
                    entry.generation + 1,
                    "an acknowledged rotation was lost"
                );
                // Without a call in doubt this token can't have been spent.
                assert!(
                    !answer.replayed || doubt == Some(Doubt::Refresh),
                    "spent by nobody"
                );
            }
            (answer, ..) => panic!("{}: {answer:?}", entry.session),
        }
    }
    entries.len()
}

async fn kill_and_compare(data: &Path, rounds: usize) -> (usize, usize) {
    let (mut operations, mut sessions) = (0, 0);
    for round in 0..rounds {
        let authority = Authority::dev_on(data);
        let client = authority.client("production").await;
        let (ledger, done) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..16)
            .map(|_| tokio::spawn(work(client.clone(), ledger.clone(), done.clone(), stop.clone())))
            .collect();
        // The moment is a number of operations, so that it falls anywhere within a group of commits.
        let moment = 40 + (round * 97) % 160;
        while done.load(Ordering::SeqCst) < moment {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        authority.kill();
        stop.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.unwrap();
        }
        operations += done.load(Ordering::SeqCst);
        let authority = Authority::dev_on(data);
        sessions += check(&authority.client("production").await, &ledger).await;
        // Half of the rounds begin after a clean stop, half after a kill.
        if round % 2 == 0 {
            assert!(authority.stop().success());
        } else {
            authority.kill();
        }
    }
    (operations, sessions)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (operations, sessions) = kill_and_compare(directory.path(), 4).await;
    assert!(
        operations > 160 && sessions > 40,
        "{operations} operations, {sessions} sessions"
    );
}

/// The long form: `cargo test --release -p tessera-proto --test it -- --ignored --nocapture kill_9`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: 200 kills"]
async fn kill_9_two_hundred_times() {
    let directory = tempfile::tempdir().unwrap();
    let (operations, sessions) = kill_and_compare(directory.path(), 200).await;
    println!(
        "200 kills: {operations} acknowledged operations on {sessions} sessions, 0 lost, 0 double rotations"
    );
}
