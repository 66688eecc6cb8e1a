//! PgBouncer before the database: refused if it shares connections between transactions, otherwise used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_core::Sequence;
use tessera_store::Store;
use tessera_store_conformance::fixture::{append, session, session_revoked};
use tessera_store_postgres::{OpenError, PostgresOptions};
use tokio::time::sleep;

use super::{
    cluster::{fresh, open, refused, shared},
    server::{directory, unprivileged},
};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A pooler before the server that most tests share.
struct Pooler {
    directory: PathBuf,
    running: Child,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Pooler {
    /// `None` after printing how to get it. With `TESSERA_PEERS=required` it must be installed.
    async fn start(mode: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            let is_required = std::env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
            assert!(!is_required, "no PgBouncer: install Debian's `pgbouncer`");
            eprintln!("no PgBouncer: install Debian's `pgbouncer`; nothing is tested");
            return None;
        }
        let directory = directory();
        let (server, place) = (shared().place().display(), directory.display());
        let settings = format!(
            "[databases]\npostgres = host={server} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 5432\n\
             unix_socket_dir = {place}\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 30\n"
        );
        let configuration = directory.join("pgbouncer.ini");
        let write = "printf '%s' \"$1\" >\"$2\"";
        let written = unprivileged("sh")
            .args(["-c", write, "sh", &settings])
            .arg(&configuration)
            .status()
            .unwrap();
        assert!(written.success());
        let running = unprivileged(PROGRAM)
            .arg("-q")
            .arg(&configuration)
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !directory.join(".s.PGSQL.5432").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "PgBouncer starts");
            sleep(Duration::from_millis(20)).await;
        }
        Some(Self { directory, running })
    }

    /// Options that connect to it.
    fn options(&self) -> PostgresOptions {
        let mut options = PostgresOptions::new(&format!(
            "host={} user=postgres dbname=postgres",
            self.directory.display()
        ));
        options.schema = fresh(shared()).schema;
        options
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and PgBouncer"]
async fn a_pooler_that_shares_connections_is_refused() {
    let Some(pooler) = Pooler::start("transaction").await else {
        return;
    };
    for _ in 0..10 {
        let error = refused(pooler.options()).await;
        assert!(matches!(error, OpenError::Pooled), "{error}");
    }
    let Some(pooler) = Pooler::start("statement").await else {
        return;
    };
    let error = refused(pooler.options()).await;
    assert!(
        error.to_string().contains("one connection for each session"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and PgBouncer"]
async fn a_pooler_that_keeps_connections_is_used() {
    let Some(pooler) = Pooler::start("session").await else {
        return;
    };
    let options = pooler.options();
    let one: Arc<dyn Store> = Arc::new(open(options.clone()).await);
    let two: Arc<dyn Store> = Arc::new(open(options).await);
    for (store, sequence) in [(&one, 1), (&two, 2), (&one, 3)] {
        let placed = append(store, &session_revoked(&session(1), 900)).await;
        assert_eq!(placed, Sequence(sequence));
    }
    // A listener is notified there, too.
    let mut grown = two.log().subscribe();
    while *grown.borrow_and_update() < Sequence(3) {
        grown.changed().await.unwrap();
    }
}
