//! Unexpected behaviour of PostgreSQL: each case would lose or duplicate something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use tessera_core::Sequence;
use tessera_store::{AuditQuery, Changes, Decision, Placed, Reads, Snapshot, Store, StoreError};
use tessera_store_conformance::fixture::{
    append, at, audit_record, events_after, put, rotated, sequences, session, session_revoked,
};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    cluster::{fresh, open, shared},
    proxy::{Cut, Proxy},
    server::Server,
};

fn appending() -> Changes {
    Changes {
        events: vec![session_revoked(&session(1), 900)],
        audit: vec![audit_record(1, session(1).id)],
        ..Changes::default()
    }
}

/// Waits until a statement of the administrator returns the expected result.
async fn until(server: &Server, statement: &str, wanted: impl Fn(&str) -> bool) -> String {
    loop {
        let found = server.sql(statement);
        if wanted(&found) {
            return found;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

const WAIT_FOR_STANDBYS: &str = "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query NOT LIKE '%node AS n%'";

type Writing = JoinHandle<Result<Placed, StoreError>>;

/// Two nodes: one waits for a standby that does not exist, and meanwhile the other one does not get the lock.
struct Blocked {
    one: Arc<dyn Store>,
    two: Arc<dyn Store>,
    writing: Writing,
    behind: Writing,
    /// What waits for the standby.
    pid: String,
}

impl Blocked {
    async fn at(server: &Server) -> Self {
        let options = fresh(server);
        let (one, two) = (open(options.clone()).await, open(options).await);
        let (one, two): (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(one), Arc::new(two));
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        server.sql("SELECT pg_reload_conf()");
        let write = |node: &Arc<dyn Store>| {
            let node = Arc::clone(node);
            tokio::spawn(async move { node.write(appending()).await })
        };
        let writing = write(&one);
        let pid = until(server, WAIT_FOR_STANDBYS, |pids| !pids.is_empty()).await;
        let behind = write(&two);
        let locks = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
        until(server, locks, |count| count != "0").await;
        Self {
            one,
            two,
            writing,
            behind,
            pid,
        }
    }
}

/// A commit that waits for a standby can be cancelled. Then `COMMIT` succeeds, with a warning, the lock is free, and
/// others see a write that may be lost. The write is not acknowledged before a later commit is on the standby, and
/// counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_commit_whose_wait_for_the_standby_was_cancelled_is_not_answered() {
    let server = Server::start("");
    let Blocked {
        one,
        two,
        writing,
        behind,
        pid,
    } = Blocked::at(&server).await;
    for pid in pid.split_whitespace() {
        server.sql(&format!("SELECT pg_cancel_backend({pid})"));
    }
    // It is visible now, and on no standby: a later commit waits again.
    until(&server, WAIT_FOR_STANDBYS, |pids| !pids.is_empty() && pids != pid).await;
    assert!(!writing.is_finished() && !behind.is_finished());
    // A verifier whose cursor is after it would be ahead of the log if it is lost.
    for node in [&one, &two] {
        assert_eq!(node.log().committed(), Sequence(0), "it is shown to nobody");
        // A receiver would have a record of an event that did not happen.
        assert_eq!(node.log().audit_head().borrow().position, 0);
        let page = node.audit_page(AuditQuery::after(0, 10)).await.unwrap();
        assert_eq!((page.entries.len(), page.through), (0, 0));
    }
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    let places = [writing.await.unwrap().unwrap(), behind.await.unwrap().unwrap()];
    assert_ne!(places[0], places[1]);
    let events = events_after(&one, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2], "each counts once");
    assert_eq!(one.log().audit_head().borrow().position, 2);
}

/// A unit waits for the lock, and its caller leaves and repeats the call at another node. Once it gets the lock, it does
/// not run: its caller has gone on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_unit_whose_caller_left_while_it_waited_for_the_lock_does_not_run() {
    let server = Server::start("");
    let Blocked {
        two, writing, behind, ..
    } = Blocked::at(&server).await;
    behind.abort();
    assert!(behind.await.unwrap_err().is_cancelled());
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    writing.await.unwrap().unwrap();
    two.write(appending()).await.unwrap();
    let events = events_after(&two, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2]);
}

/// A `COMMIT` that was sent with the other statements commits although a required row was not changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nothing_is_committed_where_a_row_is_not_written() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    let store: Arc<dyn Store> = Arc::new(open(options).await);
    put(&store, &session(1)).await;
    shared().sql(&format!(
        "CREATE FUNCTION {schema}.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER skip BEFORE UPDATE ON {schema}.session FOR EACH ROW EXECUTE FUNCTION {schema}.skip()"
    ));
    let decide = |state: &Snapshot| {
        let old = state.session(session(1).id).unwrap();
        let changes = Changes {
            sessions: vec![Arc::new(rotated(&old.session, at(5)))],
            ..appending()
        };
        Decision::Commit(changes, ())
    };
    let result = store
        .commit(Reads::default().session(session(1).id), decide)
        .await;
    assert!(
        matches!(&result, Err(StoreError::Failed { detail }) if detail.contains("session")),
        "{result:?}"
    );
    assert!(events_after(&store, Sequence(0)).await.unwrap().is_empty());
    // The store keeps working.
    assert_eq!(
        append(&store, &session_revoked(&session(1), 900)).await,
        Sequence(1)
    );
}

/// A node that is frozen with the lock keeps it until the server ends its session; its work is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_that_is_frozen_with_the_lock_holds_others_up_for_two_seconds() {
    let options = fresh(shared());
    let one: Arc<dyn Store> = Arc::new(open(options.clone()).await);
    let two: Arc<dyn Store> = Arc::new(open(options).await);
    let (thaw, frozen) = mpsc::channel::<()>();
    let (tell, has_lock) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let freezing = Arc::clone(&one);
    let freezing = tokio::spawn(async move {
        let decide = move |_: &Snapshot| {
            if let Some(tell) = tell.take() {
                tell.send(()).unwrap();
                let _ = frozen.recv();
            }
            Decision::Commit(appending(), ())
        };
        freezing.commit(Reads::default(), decide).await
    });
    has_lock.await.unwrap();
    assert_eq!(
        append(&two, &session_revoked(&session(2), 900)).await,
        Sequence(1)
    );
    assert!(!freezing.is_finished());
    thaw.send(()).unwrap();
    let ((), placed) = freezing.await.unwrap().unwrap();
    assert_eq!(placed.last(), Some(Sequence(2)));
}

/// A statement that takes the lock and reads sees the state from before it got the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn two_nodes_lose_no_change_of_each_other() {
    let options = fresh(shared());
    let one: Arc<dyn Store> = Arc::new(open(options.clone()).await);
    let two: Arc<dyn Store> = Arc::new(open(options).await);
    put(&one, &session(1)).await;
    let count = |state: &Snapshot| {
        let old = state.session(session(1).id).unwrap();
        let mut next = old.session.as_ref().clone();
        next.rev = next.rev.next();
        let changes = Changes {
            sessions: vec![Arc::new(next)],
            ..appending()
        };
        Decision::Commit(changes, ())
    };
    let mut callers = Vec::new();
    for store in [&one, &two] {
        for _ in 0..100 {
            let store = Arc::clone(store);
            callers.push(tokio::spawn(async move {
                let reads = Reads::default().session(session(1).id);
                store.commit(reads, count).await.unwrap().1.last().unwrap().0
            }));
        }
    }
    let mut places = Vec::new();
    for caller in callers {
        places.push(caller.await.unwrap());
    }
    places.sort_unstable();
    assert_eq!(places, (1..=200).collect::<Vec<_>>());
    for store in [&one, &two] {
        let stored = store.session(session(1).id).await.unwrap().unwrap();
        assert_eq!(
            stored.session.rev,
            session(1).rev.0.checked_add(200).map(Sequence).unwrap()
        );
    }
}

/// Old versions of a row that every commit changes stay while a reader uses an old state, and each look-up passes all
/// of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn an_old_snapshot_makes_no_commit_slower() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    let store: Arc<dyn Store> = Arc::new(open(options).await);
    let mut reading = shared().psql();
    let mut reading = reading
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = reading.stdin.take().unwrap();
    let old = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {schema}.event;\n");
    std::io::Write::write_all(&mut input, old.as_bytes()).unwrap();
    until(shared(), "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'psql'", |count| count == "1").await;
    for _ in 0..500 {
        append(&store, &session_revoked(&session(1), 900)).await;
    }
    let plan = shared().sql(&format!(
        "SET search_path = {schema}; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) \
         SELECT number, seq FROM commit_group ORDER BY number DESC LIMIT 1"
    ));
    drop(input);
    reading.wait().unwrap();
    let pages: u64 = plan
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"Shared Hit Blocks\": "))
        .map(|pages| pages.trim_end_matches(',').parse::<u64>().unwrap())
        .next()
        .unwrap();
    assert!(pages < 10, "{pages} pages were looked at: {plan}");
}

async fn through_a_cut(cut: Cut) {
    let proxy = Proxy::before(shared().socket());
    let mut options = tessera_store_postgres::PostgresOptions::new(&proxy.url());
    options.schema = fresh(shared()).schema;
    let store: Arc<dyn Store> = Arc::new(open(options).await);
    let arm = proxy.cutter(cut);
    let is_armed = AtomicBool::new(false);
    let decide = move |_: &Snapshot| {
        if !is_armed.swap(true, Ordering::SeqCst) {
            arm();
        }
        Decision::Commit(appending(), ())
    };
    let ((), placed) = store.commit(Reads::default(), decide).await.unwrap();
    assert!(proxy.has_cut());
    assert_eq!(placed.last(), Some(Sequence(1)));
    let events = events_after(&store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1], "it counts once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_was_committed_when_the_connection_broke_is_not_done_again() {
    through_a_cut(Cut::AfterTheCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_was_not_committed_when_the_connection_broke_is_done() {
    through_a_cut(Cut::BeforeTheEvent).await;
}

/// A node looks for partitions every 20 s: it can write more than one of them in that time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn the_audit_trail_may_outgrow_its_partitions_between_two_looks() {
    let store: Arc<dyn Store> = Arc::new(open(fresh(shared())).await);
    // More than all partitions that are made in advance.
    let many = 1_000;
    for _ in 0..450 {
        let changes = Changes {
            audit: vec![audit_record(1, session(1).id); many],
            ..Changes::default()
        };
        store.write(changes).await.unwrap();
    }
    assert_eq!(store.log().audit_head().borrow().position, 450_000);
}
