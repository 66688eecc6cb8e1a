//! A database that lacks something, at a start and while a node serves: connections, disk space, time, features of
//! PostgreSQL.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_core::Sequence;
use tessera_store::{Changes, Store, StoreError};
use tessera_store_conformance::fixture::{append, events_after, sequences, session, session_revoked};
use tessera_store_postgres::{OpenError, PostgresOptions};
use tokio::time::sleep;

use super::{
    cluster::{fresh, open, refused},
    proxy::Proxy,
    server::{Server, unprivileged},
};

type Shared = Arc<dyn Store>;

fn appending() -> Changes {
    Changes {
        events: vec![session_revoked(&session(1), 900)],
        ..Changes::default()
    }
}

/// An ordinary user, with a schema.
fn of_someone(server: &Server) -> PostgresOptions {
    server.sql("CREATE ROLE someone LOGIN");
    server.sql("GRANT CREATE ON DATABASE postgres TO someone");
    PostgresOptions::new(&server.url().replace("user=postgres", "user=someone"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn without_a_free_connection_a_node_waits() {
    let server = Server::start("");
    let options = of_someone(&server);
    let store: Shared = Arc::new(open(options.clone()).await);
    append(&store, &session_revoked(&session(1), 900)).await;
    server.sql("ALTER ROLE someone CONNECTION LIMIT 0");
    let error = refused(options).await;
    assert!(error.to_string().contains("max_connections"), "{error}");
    // Once its connections are lost, nothing is answered until others are available.
    let theirs = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tessera'";
    server.sql(theirs);
    let writing = Arc::clone(&store);
    let writing = tokio::spawn(async move { writing.write(appending()).await });
    while !matches!(store.catch_up().await, Err(StoreError::Unavailable { .. })) {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!writing.is_finished());
    server.sql("ALTER ROLE someone CONNECTION LIMIT -1");
    writing.await.unwrap().unwrap();
    let events = events_after(&store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2]);
}

/// A file system of a few megabytes. `None`, with a message, if it may not be made here.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("mode=0777,size={size}"), "tmpfs"]);
        if mount.arg(place.path()).status().unwrap().success() {
            return Some(Self(place));
        }
        let is_required = std::env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
        assert!(!is_required, "nobody may mount a small disk here");
        eprintln!("nobody may mount a small disk here: nothing is tested");
        None
    }

    fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]);
        assert!(mount.arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL, and may mount"]
async fn on_a_full_disk_nothing_is_answered_and_nothing_lost() {
    let Some(disk) = Disk::new("16m") else { return };
    let server = Server::start("");
    let place = disk.0.path().join("small");
    let made = unprivileged("mkdir").arg(&place).status().unwrap();
    assert!(made.success());
    server.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    server.sql("CREATE DATABASE small TABLESPACE small");
    let options = PostgresOptions::new(&server.url().replace("dbname=postgres", "dbname=small"));
    let store: Shared = Arc::new(open(options.clone()).await);
    append(&store, &session_revoked(&session(1), 900)).await;
    let mut sessions = 0;
    let full = loop {
        let more = (sessions..sessions + 500).map(|number| Arc::new(session(number)));
        let changes = Changes {
            sessions: more.collect(),
            ..Changes::default()
        };
        match store.write(changes).await {
            Ok(_) => sessions += 500,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&full, StoreError::Unavailable { detail } if detail.contains("53100")),
        "{full}"
    );
    // Acknowledged writes are there, and a start reports the problem.
    for number in [0, sessions - 1] {
        assert!(store.session(session(number).id).await.unwrap().is_some());
    }
    assert!(store.session(session(sessions).id).await.unwrap().is_none());
    let mut another = options;
    another.schema = "another".to_owned();
    let error = refused(another).await;
    assert!(error.to_string().contains("disk is full"), "{error}");
    disk.resize("64m");
    append(&store, &session_revoked(&session(1), 900)).await;
    let events = events_after(&store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2]);
}

/// A statement that takes longer than its caller waits is ended, and releases the lock: others continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_statement_that_takes_too_long_ends_before_it_is_given_up() {
    let server = Server::start("");
    let options = fresh(&server);
    let schema = options.schema.clone();
    let one: Shared = Arc::new(open(options.clone()).await);
    let two: Shared = Arc::new(open(options).await);
    server.sql(&format!(
        "CREATE SEQUENCE {schema}.slept; CREATE FUNCTION {schema}.sleep() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF nextval(''{schema}.slept'') = 1 THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END'; \
         CREATE TRIGGER sleep BEFORE INSERT ON {schema}.event FOR EACH ROW EXECUTE FUNCTION {schema}.sleep()"
    ));
    let begun = Instant::now();
    let sleeping = Arc::clone(&one);
    let sleeping = tokio::spawn(async move { sleeping.write(appending()).await });
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "0" {
        sleep(Duration::from_millis(20)).await;
    }
    append(&two, &session_revoked(&session(2), 900)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // It is done once, and not in doubt: it was retried.
    sleeping.await.unwrap().unwrap();
    two.catch_up().await.unwrap();
    let events = events_after(&two, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2]);
}

/// A database that is only similar to PostgreSQL is refused, and the error names it.
#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn another_database_is_refused() {
    let change = "allow_system_table_mods = on\n";
    let named = Server::start(change);
    named.sql("ALTER FUNCTION pg_catalog.version() RENAME TO version_of_postgres");
    named.sql("CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql AS $$ SELECT 'CockroachDB CCL v23.1.0 (x86_64-linux, built)' $$");
    let error = refused(fresh(&named)).await;
    assert!(
        matches!(&error, OpenError::OtherServer { found } if found == "CockroachDB CCL v23.1.0"),
        "{error}"
    );
    let without_locks = Server::start(change);
    without_locks.sql("ALTER FUNCTION pg_catalog.pg_try_advisory_xact_lock(bigint) RENAME TO no_lock");
    let error = refused(fresh(&without_locks)).await;
    assert!(error.to_string().contains("It lacks what is needed"), "{error}");
    // CockroachDB answers every caller that it has the lock.
    without_locks.sql("CREATE FUNCTION pg_catalog.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$");
    let error = refused(fresh(&without_locks)).await;
    assert!(matches!(error, OpenError::NoLock), "{error}");
}

/// A frozen server accepts connections, and answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PostgreSQL"]
async fn a_start_waits_for_no_server_that_is_frozen() {
    let server = Server::start("");
    let options = fresh(&server);
    open(options.clone()).await.close().await.unwrap();
    // During a start: from some statement on nothing is answered.
    let statements = ["pg_backend_pid", "SELECT version", "synchronous_standby_names"];
    let starts = statements.map(|statement| {
        let proxy = Proxy::silent_after(server.socket(), statement);
        let mut options = PostgresOptions::new(&proxy.url());
        options.schema = fresh(&server).schema;
        tokio::spawn(async move {
            let begun = Instant::now();
            let error = refused(options).await;
            drop(proxy);
            (statement, error, begun.elapsed())
        })
    });
    for start in starts {
        let (statement, error, took) = start.await.unwrap();
        assert!(
            error.to_string().contains("did not answer within 8 s"),
            "{statement}: {error}"
        );
        assert!(took < Duration::from_secs(15), "{statement}: {took:?}");
    }
    server.signal("STOP");
    let error = refused(options).await;
    server.signal("CONT");
    assert!(
        error.to_string().contains("no connection was made within 5 s"),
        "{error}"
    );
}
