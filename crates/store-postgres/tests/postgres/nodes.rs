//! Several nodes over one database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_core::{RevokeReason, Sequence, SubscriberName};
use tessera_store::{
    AuditQuery, Changes, NodeReport, PageRequest, Reads, SessionIndex, SettingChange, Store, StoreError,
    SubscriberKey, SubscriberState,
};
use tessera_store_conformance::fixture::{
    api_key, api_key_id, append, audit_record, events_after, put, realm, sequences, session, session_revoked,
    subject_revoked, write,
};
use tokio::time::sleep;

use super::cluster::{both, fresh, open, shared};
use super::server::Server;

type Shared = Arc<dyn Store>;

async fn two_nodes() -> (Shared, Shared) {
    let options = fresh(shared());
    (
        Arc::new(open(options.clone()).await),
        Arc::new(open(options).await),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_one_node_answered_each_other_node_knows() {
    let (one, two) = two_nodes().await;
    for number in 1..=20 {
        put(&one, &session(number)).await;
        let ended = append(&one, &session_revoked(&session(number), 900)).await;
        two.catch_up().await.unwrap();
        assert_eq!(two.log().committed(), ended);
        let reads = Reads::default().session(session(number).id);
        assert!(
            two.read(reads)
                .await
                .unwrap()
                .session(session(number).id)
                .is_some()
        );
    }
    append(&one, &subject_revoked(session(1).subject.as_str(), 900, 900)).await;
    let stored = two.session(session(1).id).await.unwrap().unwrap();
    assert_eq!(stored.ended, Some(RevokeReason::Subject));
    let page = PageRequest {
        after: None,
        limit: 30,
    };
    let listed = two
        .sessions(&SessionIndex::Realm(realm("production")), page)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 20);
    assert!(
        listed
            .items
            .iter()
            .all(|stored| stored.ended == Some(RevokeReason::Subject))
    );
    let events = events_after(&two, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), (1..=21).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_is_woken_by_another() {
    let (one, two) = two_nodes().await;
    let (mut committed, mut audit) = (two.log().subscribe(), two.log().audit_head());
    append(&one, &session_revoked(&session(1), 900)).await;
    committed.changed().await.unwrap();
    assert_eq!(*committed.borrow_and_update(), Sequence(1));
    let recorded = Changes {
        audit: vec![audit_record(0, session(1).id)],
        ..Changes::default()
    };
    write(&one, recorded).await;
    audit.changed().await.unwrap();
    assert_eq!(audit.borrow_and_update().position, 1);
    assert_eq!(
        two.audit_page(AuditQuery::after(0, 9))
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn keys_and_the_policy_are_those_of_all_nodes() {
    let (one, two) = two_nodes().await;
    let policy = tessera_core::PolicyRevision::parse("8f31c2a08f31c2a0").unwrap();
    let changes = Changes {
        api_keys: vec![api_key(1, "production")],
        settings: vec![SettingChange::PolicyInForce(policy)],
        policies: vec![(policy, vec![("policy.csv".to_owned(), vec![1])])],
        ..Changes::default()
    };
    write(&one, changes).await;
    assert!(two.api_key(&api_key_id(1)).await.unwrap().is_some());
    let seen = two.read(Reads::default().settings()).await.unwrap();
    assert_eq!(seen.policy_in_force(), Some(&policy));
    assert!(two.policy_files(&policy).await.unwrap().is_some());
    let removed = Changes {
        removed_api_keys: vec![api_key(1, "production")],
        ..Changes::default()
    };
    write(&two, removed).await;
    assert!(one.api_key(&api_key_id(1)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_went_back_is_not_served() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    let store: Shared = Arc::new(open(options).await);
    for _ in 0..3 {
        append(&store, &session_revoked(&session(1), 900)).await;
    }
    assert!(store.health().takes_writes);
    shared().sql(&format!(
        "DELETE FROM {schema}.commit_group WHERE number > 2; DELETE FROM {schema}.event WHERE seq > 2"
    ));
    let read = store.read(Reads::default().session(session(1).id)).await;
    assert!(matches!(read, Err(StoreError::WentBack { .. })), "{read:?}");
    let written = store.write(Changes::default()).await;
    assert!(matches!(written, Err(StoreError::WentBack { .. })), "{written:?}");
    assert!(matches!(store.catch_up().await, Err(StoreError::WentBack { .. })));
    assert!(!store.health().takes_writes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn another_log_is_not_served() {
    let options = fresh(shared());
    let schema = options.schema.clone();
    let store: Shared = Arc::new(open(options).await);
    append(&store, &session_revoked(&session(1), 900)).await;
    shared().sql(&format!("UPDATE {schema}.meta SET log_id = gen_random_uuid()"));
    let caught_up = store.catch_up().await;
    assert!(
        matches!(caught_up, Err(StoreError::WentBack { .. })),
        "{caught_up:?}"
    );
}

/// A server that does not answer may no longer be the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nothing_is_answered_once_commits_do_not_succeed() {
    let server = Server::start("");
    let store: Shared = Arc::new(open(fresh(&server)).await);
    put(&store, &session(1)).await;
    // Reads work, and no commit does.
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.sql("SELECT pg_reload_conf()");
    while store.health().takes_writes {
        sleep(Duration::from_millis(50)).await;
    }
    let read = store.session(session(1).id).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    let caught_up = store.catch_up().await;
    assert!(
        matches!(caught_up, Err(StoreError::Unavailable { .. })),
        "{caught_up:?}"
    );
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    while !store.health().takes_writes {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(store.session(session(1).id).await.unwrap().is_some());
}

/// The primary is lost with its disk, and its standby has everything that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_failover_loses_nothing_that_was_acknowledged() {
    let primary = Server::start("");
    let standby = primary.standby("other");
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'other'");
    primary.sql("SELECT pg_reload_conf()");
    let store: Shared = Arc::new(open(both(&primary, &standby)).await);
    let mut acknowledged = 0;
    for number in 1..=40 {
        if number == 20 {
            primary.signal("KILL");
            standby.promote();
        }
        let changes = Changes {
            events: vec![session_revoked(&session(number), 900)],
            ..Changes::default()
        };
        match store.write(changes).await {
            Ok(placed) => {
                acknowledged += 1;
                assert_eq!(placed.last(), Some(Sequence(acknowledged)));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let events = events_after(&store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), (1..=40).collect::<Vec<_>>());
}

/// Another server has other settings: with the durability `quorum`, a server without a standby answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_failover_to_a_server_that_promises_less_is_waited_out() {
    let primary = Server::start("");
    let standby = primary.standby("other");
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'other'");
    primary.sql("SELECT pg_reload_conf()");
    let mut options = both(&primary, &standby);
    options.durability = tessera_store_postgres::Durability::Quorum;
    options.commit_timeout = Duration::from_secs(4);
    let store: Shared = Arc::new(open(options).await);
    append(&store, &session_revoked(&session(1), 900)).await;
    primary.signal("KILL");
    standby.promote();
    let refused = store.write(Changes {
        events: vec![session_revoked(&session(2), 900)],
        ..Changes::default()
    });
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unavailable { detail } if detail.contains("synchronous_standby_names")),
        "{refused}"
    );
    assert!(!store.health().takes_writes);
    let _third = standby.standby("third");
    standby.sql("ALTER SYSTEM SET synchronous_standby_names = 'third'");
    standby.sql("SELECT pg_reload_conf()");
    append(&store, &session_revoked(&session(3), 900)).await;
    let events = events_after(&store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&events), [1, 2], "what was refused is not there");
}

/// The old primary still runs, cut off from its standbys, when another server replaces it. A heartbeat that the new
/// primary committed proves nothing about reads from a connection to the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_primary_that_was_replaced_and_runs_on_answers_nobody() {
    let primary = Server::start("");
    let standby = primary.standby("other");
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'other'");
    primary.sql("SELECT pg_reload_conf()");
    // New connections try the standby first, which will be the new primary.
    let options = both(&standby, &primary);
    let mut elsewhere = fresh(&standby);
    elsewhere.schema = options.schema.clone();
    let store: Shared = Arc::new(open(options).await);
    put(&store, &session(1)).await;
    standby.sql("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
    standby.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    standby.sql("SELECT pg_reload_conf()");
    while primary.sql("SELECT count(*) FROM pg_stat_replication") != "0" {
        sleep(Duration::from_millis(20)).await;
    }
    // No standby is promoted before the node's last proof has expired.
    while store.session(session(1).id).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    standby.promote();
    let other: Shared = Arc::new(open(elsewhere).await);
    append(&other, &subject_revoked(session(1).subject.as_str(), 900, 900)).await;
    let began = Instant::now();
    loop {
        match store.session(session(1).id).await {
            Ok(found) => {
                assert!(
                    found.unwrap().ended.is_some(),
                    "it was revoked at the other primary"
                );
                break;
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it answers nothing any more"
        );
    }
}

/// A call that waits until all required subscribers know something includes those of other nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_knows_how_far_the_subscribers_of_another_are() {
    let mut options = fresh(shared());
    let schema = options.schema.clone();
    options.node = "one".to_owned();
    let one: Shared = Arc::new(open(options.clone()).await);
    options.node = "two".to_owned();
    let two: Shared = Arc::new(open(options).await);
    let others = one.other_nodes().await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!((others[0].name.as_str(), others[0].realms.len()), ("two", 0));
    let bound = Duration::from_secs(20);
    let joined = Changes {
        settings: vec![SettingChange::StalenessBound(realm("production"), bound)],
        ..Changes::default()
    };
    write(&two, joined).await;
    let ended = append(&one, &session_revoked(&session(1), 900)).await;
    let reached = async || one.other_nodes().await.unwrap()[0].has_reached(&realm("production"), ended);
    assert!(!reached().await);
    let report = NodeReport {
        subscribers: vec![SubscriberState {
            key: SubscriberKey {
                realm: realm("production"),
                client: session(1).client,
                name: SubscriberName::parse("gateway").unwrap(),
            },
            acknowledged: ended,
            silent_for: Duration::from_secs(1),
            acknowledged_before: Duration::from_secs(1),
            bound,
            is_open: true,
        }],
        sinks: ["archive".to_owned()].into(),
        ..NodeReport::default()
    };
    let nodes = two.nodes().unwrap();
    nodes
        .tell([(realm("production"), ended)].into(), Some(report.clone()))
        .await
        .unwrap();
    assert!(reached().await);
    let other = one.other_nodes().await.unwrap().remove(0);
    assert_eq!(other.report.sinks, report.sinks);
    let told = &other.report.subscribers[0];
    assert_eq!((&told.key, told.is_open), (&report.subscribers[0].key, true));
    assert!(told.silent_for >= Duration::from_secs(1), "as of now");
    assert_eq!((one.nodes().unwrap().name(), nodes.name()), ("one", "two"));
    assert!(!other.is_older && two.other_nodes().await.unwrap()[0].is_older);
    // A node of a later version may use another format: its verifiers are still waited for.
    shared().sql(&format!(
        "UPDATE {schema}.node SET report = 'else' WHERE name = 'two'"
    ));
    assert_eq!(one.other_nodes().await.unwrap()[0].report, NodeReport::default());
    assert!(reached().await);
    // A restarted node uses the longest bound of all.
    let settings = one
        .read(Reads::default().settings())
        .await
        .unwrap()
        .settings
        .unwrap();
    assert_eq!(settings.staleness_bounds.get(&realm("production")), Some(&bound));
}

/// A node that is stopped cleanly is no longer listed, unless its subscribers may keep answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_that_ends_leaves() {
    let (one, two) = two_nodes().await;
    assert_eq!(one.other_nodes().await.unwrap().len(), 1);
    two.close().await.unwrap();
    assert_eq!(one.other_nodes().await.unwrap(), []);
    let (one, two) = two_nodes().await;
    let bound = SettingChange::StalenessBound(realm("production"), Duration::from_secs(20));
    let joined = Changes {
        settings: vec![bound],
        ..Changes::default()
    };
    write(&two, joined).await;
    two.close().await.unwrap();
    assert_eq!(one.other_nodes().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn one_node_is_alone_at_a_time() {
    let (one, two) = two_nodes().await;
    let alone = one.alone().await.unwrap();
    let other = Arc::clone(&two);
    let waiting = tokio::spawn(async move { other.alone().await });
    let locks = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%advisory_lock(%'";
    while shared().sql(locks) == "0" {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!waiting.is_finished());
    // Others may write meanwhile.
    append(&two, &session_revoked(&session(1), 900)).await;
    drop(alone);
    waiting.await.unwrap().unwrap();
}

/// Callers that wait share a trip to the database, and only the one that asks for a damaged row is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_row_that_cannot_be_read_harms_only_those_who_ask_for_it() {
    let server = shared();
    let options = fresh(server);
    let schema = options.schema.clone();
    let store: Arc<dyn Store> = Arc::new(open(options).await);
    for number in 1..=20 {
        put(&store, &session(number)).await;
    }
    let damage = format!(
        "UPDATE {schema}.session SET body = '\\xff' WHERE id = '{}'",
        session(7).id
    );
    server.sql(&damage);
    let mut reading = tokio::task::JoinSet::new();
    for number in (1..=20).cycle().take(400) {
        let store = Arc::clone(&store);
        reading.spawn(async move {
            let id = session(number).id;
            (number, store.read(Reads::default().session(id)).await)
        });
    }
    while let Some(read) = reading.join_next().await {
        let (number, read) = read.unwrap();
        let is_damaged = matches!(read, Err(StoreError::Damaged { .. }));
        assert_eq!(is_damaged, number == 7, "{number}");
        if number != 7 {
            assert!(read.unwrap().session(session(number).id).is_some());
        }
    }
}
