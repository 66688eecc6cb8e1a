//! Refused starts, and their messages.

use std::sync::Arc;

use tessera_store::{Store, StoreError};
use tessera_store_conformance::fixture::{append, session, session_revoked};
use tessera_store_postgres::{Durability, Migrate, OpenError, PostgresOptions, PostgresStore};

use super::cluster::{fresh, open, refused, runtime, shared};
use super::server::{PrivateFile, Server};

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn tables_of_others_are_left_alone() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    shared().sql(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders (id int)"
    ));
    let error = refused(options).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let tables = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'");
    assert_eq!(shared().sql(&tables), "1");
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_schema_is_made_once_and_only_where_that_is_wanted() {
    let mut options = fresh(shared());
    options.migrate = Migrate::Refuse;
    let error = refused(options.clone()).await;
    assert!(
        matches!(error, OpenError::OlderSchema { found: 0, .. }),
        "{error}"
    );
    options.migrate = Migrate::Auto;
    let first = open(options.clone()).await;
    options.migrate = Migrate::Refuse;
    let second = open(options).await;
    use tessera_store::StoreReader;
    assert_eq!(first.log().id(), second.log().id());
    first.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_schema_of_another_version_is_refused() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    open(options.clone()).await.close().await.unwrap();
    shared().sql(&format!("UPDATE {schema}.migration SET digest = 'other'"));
    let error = refused(options.clone()).await;
    assert!(
        matches!(error, OpenError::OtherMigration { version: 1, .. }),
        "{error}"
    );
    shared().sql(&format!(
        "INSERT INTO {schema}.migration (version, digest) VALUES (99, 'newer')"
    ));
    let error = refused(options).await;
    assert!(matches!(error, OpenError::NewerSchema { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_only_reads_is_refused() {
    shared().sql("CREATE DATABASE readonly");
    shared().sql("ALTER DATABASE readonly SET default_transaction_read_only = on");
    let error = refused(PostgresOptions::new(
        &shared().url().replace("dbname=postgres", "dbname=readonly"),
    ))
    .await;
    assert!(matches!(error, OpenError::ReadOnly), "{error}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_loses_what_it_acknowledged_is_refused() {
    let mut options = fresh(shared());
    options.durability = Durability::Quorum;
    let error = refused(options).await;
    assert!(error.to_string().contains("synchronous_standby_names"), "{error}");
    let fast = Server::start("fsync = off");
    let mut options = fresh(&fast);
    let error = refused(options.clone()).await;
    assert!(error.to_string().contains("fsync"), "{error}");
    options.durability = Durability::Managed;
    open(options).await.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn what_cannot_be_reached_is_said_without_the_password() {
    let wrong = [
        "host=/nonexistent user=postgres password=canary-7f3a dbname=postgres".to_owned(),
        "postgresql://postgres:canary-7f3a@127.0.0.1:1/postgres".to_owned(),
        "postgresql://postgres:canary-7f3a@127.0.0.1:notaport/postgres".to_owned(),
        shared()
            .url()
            .replace("dbname=postgres", "dbname=missing password=canary-7f3a"),
        shared()
            .url()
            .replace("user=postgres", "user=nobody password=canary-7f3a"),
    ];
    for url in wrong {
        let options = PostgresOptions::new(&url);
        assert!(!format!("{options:?}").contains("canary"));
        let error = refused(options).await;
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(
            matches!(error, OpenError::Away { .. } | OpenError::Setting { .. }),
            "{text}"
        );
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL"]
async fn a_schema_with_a_name_that_is_none_is_refused() {
    for name in ["", "Tessera", "a b", "x; DROP TABLE y", "pg_x", "1a"] {
        let mut options = fresh(shared());
        options.schema = name.to_owned();
        let error = refused(options).await;
        assert!(
            matches!(
                error,
                OpenError::Setting {
                    setting: "schema",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_log_with_a_gap_is_refused_and_served_no_further() {
    for (missing, is_refused) in [("seq = 2", true), ("seq = 3", true), ("seq = 4", false)] {
        let options = fresh(shared());
        let schema = options.schema.clone();
        let store: Arc<dyn Store> = Arc::new(open(options.clone()).await);
        for _ in 0..3 {
            append(&store, &session_revoked(&session(1), 900)).await;
        }
        store.close().await.unwrap();
        shared().sql(&format!("DELETE FROM {schema}.event WHERE {missing}"));
        let opened = runtime().spawn(PostgresStore::open(options)).await.unwrap();
        let is_damaged = matches!(&opened, Err(OpenError::Store(StoreError::Damaged { .. })));
        assert_eq!(is_damaged, is_refused, "{missing}");
    }
    let options = fresh(shared());
    let schema = options.schema.clone();
    let store: Arc<dyn Store> = Arc::new(open(options).await);
    append(&store, &session_revoked(&session(1), 900)).await;
    // A group that claims an event which does not exist.
    shared().sql(&format!(
        "INSERT INTO {schema}.commit_group SELECT number + 1, gen_random_uuid(), node, at, seq + 1, floor, \
         audit_position, audit_link, audit_first, purged, policy, times FROM {schema}.commit_group \
         ORDER BY number DESC LIMIT 1"
    ));
    assert!(matches!(store.catch_up().await, Err(StoreError::WentBack { .. })));
    assert!(store.health().is_over());
}

/// TLS is used by default, and the certificate must be of a trusted authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_server_elsewhere_is_reached_by_tls_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.7".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    let hba = "local all all trust\nhost all all 127.0.0.0/8 trust\n";
    let files = [&certificate, &made.signing_key.serialize_pem(), hba].map(PrivateFile::with);
    let [crt, key, hba] = files.each_ref().map(|file| file.0.display());
    let reachable = format!("listen_addresses = '127.0.0.7'\nhba_file = '{hba}'\n");
    let url = "host=127.0.0.7 user=postgres dbname=postgres";
    {
        let _plain = Server::start(&reachable);
        let error = refused(PostgresOptions::new(url)).await;
        assert!(error.to_string().contains("sslmode=disable"), "{error}");
    }
    let tls = format!("{reachable}ssl = on\nssl_cert_file = '{crt}'\nssl_key_file = '{key}'\n");
    let _server = Server::start(&tls);
    let mut options = PostgresOptions::new(url);
    let error = refused(options.clone()).await;
    assert!(error.to_string().contains("and `ca`"), "{error}");
    options.roots = Some(certificate.into_bytes());
    open(options.clone()).await.close().await.unwrap();
    options.roots = Some(b"no certificate".to_vec());
    let error = refused(options).await;
    assert!(matches!(error, OpenError::Setting { .. }), "{error}");
}
