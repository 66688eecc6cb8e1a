//! What every backend must do. Each check runs against each backend; a new one adds a line to `suite`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod fixture;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Duration,
};

use fixture::{
    api_key, api_key_id, append, at, audit_record, event, events_after, put, realm, rotated, sequences,
    session, session_revoked, subject_revoked, with_subject, write,
};
use tempfile::TempDir;
use tessera_core::{
    ClientName, Event, EventBody, KeyId, KeyStatus, LEEWAY_MAX, Label, PolicyRevision, RequestId,
    RevokeReason, Sequence, Session, SessionId, SigningKey, Subject, Timestamp,
};
use tessera_store::{
    MemoryStore, PageRequest, PolicyFiles, PurgeReport, RequestKey, RequestRecord, SessionIndex, SledOptions,
    SledStore, Store, StoreError, StoreExt,
};

type Shared = Arc<dyn Store>;

/// A store, and what must live as long as it.
struct Opened {
    store: Shared,
    _directory: Option<TempDir>,
}

fn open_memory() -> Opened {
    Opened {
        store: Arc::new(MemoryStore::new()),
        _directory: None,
    }
}

fn open_sled() -> Opened {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
    Opened {
        store: Arc::new(store),
        _directory: Some(directory),
    }
}

/// Makes one test of each check and backend.
macro_rules! suite {
    ($($check:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(&super::open_memory().store).await;
            })*
        }

        mod sled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(&super::open_sled().store).await;
            })*
        }
    };
}

suite![
    a_job_that_fails_leaves_nothing,
    a_job_that_panics_leaves_nothing_and_the_store_lives_on,
    a_job_sees_its_own_writes_and_others_see_them_after_it,
    indexes_list_sessions_in_order_and_only_theirs,
    pages_end_where_the_items_end,
    all_sessions_are_visited_in_order,
    a_visit_ends_where_its_visitor_breaks_off,
    a_visitor_that_panics_harms_nobody_else,
    policies_are_kept_whole,
    the_last_staleness_bound_of_a_realm_is_kept,
    a_purge_removes_policies_that_were_replaced,
    an_index_follows_a_session_that_changes,
    a_name_that_begins_like_another_is_another,
    concurrent_updates_of_a_session_are_one_after_the_other,
    events_are_gapless_and_can_be_resumed,
    concurrent_events_are_gapless,
    watchers_are_woken_only_for_what_can_be_read,
    revocations_are_folded_in,
    a_cutoff_is_known_within_its_own_job,
    a_cutoff_outlives_its_event,
    a_later_cutoff_never_shortens_an_earlier_one,
    requests_are_remembered_and_replaced,
    api_keys_are_listed_by_realm,
    api_keys_are_removed,
    clients_are_disabled_and_enabled,
    signing_keys_are_listed_oldest_first,
    the_sessions_of_a_client_are_counted,
    audit_records_are_in_the_commit_of_what_they_record,
    a_purge_removes_sessions_that_are_dead_and_no_others,
    a_purge_follows_a_session_that_was_refreshed,
    a_purge_removes_the_oldest_events_only,
    an_event_dated_years_ahead_does_not_keep_those_behind_it,
    a_revocation_outlives_a_token_that_was_issued_by_a_clock_ahead,
    a_purge_removes_requests_and_audit_records,
    a_purge_stops_at_its_limit_and_goes_on,
    a_purge_says_how_far_it_came_and_where_the_log_begins,
    a_store_that_is_closed_answers_so,
];

// === jobs ===

async fn a_job_that_fails_leaves_nothing(store: &Shared) {
    let one = session(1);
    let ended = subject_revoked("user:ann", 50, 500);
    let committed = append(store, &subject_revoked("user:bob", 50, 500)).await;
    let copy = one.clone();
    let failed: Result<(), _> = store
        .transact(move |transaction| {
            transaction.put_session(&copy)?;
            transaction.append(ended.clone())?;
            transaction.audit(&audit_record(0, copy.id))?;
            transaction.put_api_key(&api_key(1, "production"))?;
            assert!(transaction.session(copy.id)?.is_some());
            Err(StoreError::EventsForgotten)
        })
        .await;
    assert!(matches!(failed, Err(StoreError::EventsForgotten)));

    assert_eq!(store.session(one.id).await.unwrap(), None);
    assert!(
        list(store, SessionIndex::Realm(realm("production")))
            .await
            .is_empty()
    );
    assert_eq!(store.api_key(&api_key_id(1)).await.unwrap(), None);
    assert!(store.audit_after(0, 10).await.unwrap().is_empty());
    assert_eq!(revoked(store, &one), None);
    assert_eq!(*store.committed().borrow(), committed);
    // The sequence that the failed job had is given to the next.
    assert_eq!(append(store, &session_revoked(&one, 50)).await, committed.next());
}

async fn a_job_that_panics_leaves_nothing_and_the_store_lives_on(store: &Shared) {
    let one = session(1);
    let copy = one.clone();
    let failed: Result<(), _> = store
        .transact(move |transaction| {
            transaction.put_session(&copy)?;
            panic!("a defect of the caller");
        })
        .await;
    assert!(
        matches!(failed, Err(StoreError::Failed { detail }) if detail.contains("a defect of the caller"))
    );
    assert_eq!(store.session(one.id).await.unwrap(), None);
    assert!(store.is_healthy());
    put(store, &one).await;
    assert_eq!(store.session(one.id).await.unwrap(), Some(one));
}

async fn a_job_sees_its_own_writes_and_others_see_them_after_it(store: &Shared) {
    let one = session(1);
    let copy = one.clone();
    write(store, move |transaction| {
        assert_eq!(transaction.session(copy.id).unwrap(), None);
        transaction.put_session(&copy).unwrap();
        assert_eq!(transaction.session(copy.id).unwrap().as_ref(), Some(&copy));
        transaction.put_session(&rotated(&copy, at(5))).unwrap();
        assert_eq!(transaction.session(copy.id).unwrap().unwrap().generation(), 2);
        assert_eq!(transaction.last_sequence(), Sequence(0));
        transaction.append(session_revoked(&copy, 9)).unwrap();
        assert_eq!(transaction.last_sequence(), Sequence(1));
    })
    .await;
    assert_eq!(store.session(one.id).await.unwrap(), Some(rotated(&one, at(5))));
    let seen = write(store, move |transaction| {
        transaction.session(one.id).unwrap().unwrap().generation()
    })
    .await;
    assert_eq!(seen, 2);
}

// === sessions ===

async fn list(store: &Shared, index: SessionIndex) -> Vec<SessionId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .sessions(index.clone(), PageRequest { after, limit: 2 })
            .await
            .unwrap();
        assert!(page.items.len() <= 2);
        ids.extend(page.items.iter().map(|session| session.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
        assert_eq!(after, ids.last().copied());
    }
}

async fn indexes_list_sessions_in_order_and_only_theirs(store: &Shared) {
    let mut sessions: Vec<_> = (1..=5).map(session).collect();
    sessions[1].subject = Subject::parse("user:bob").unwrap();
    sessions[2].client = ClientName::parse("client:app").unwrap();
    sessions[3].realm = realm("sandbox");
    sessions[4].labels = vec![
        Label::parse("device:8").unwrap(),
        Label::parse("device:8").unwrap(),
    ];
    sessions[4].api_key = api_key_id(2);
    for session in sessions.iter().rev() {
        put(store, session).await;
    }
    let production = || realm("production");
    let expect = async |index, numbers: &[usize]| {
        let ids: Vec<_> = numbers.iter().map(|number| sessions[number - 1].id).collect();
        assert_eq!(list(store, index).await, ids);
    };
    expect(SessionIndex::Realm(production()), &[1, 2, 3, 5]).await;
    expect(SessionIndex::Realm(realm("sandbox")), &[4]).await;
    expect(SessionIndex::Realm(realm("none")), &[]).await;
    expect(
        SessionIndex::Subject(production(), Subject::parse("user:ann").unwrap()),
        &[1, 3, 5],
    )
    .await;
    expect(
        SessionIndex::Subject(production(), Subject::parse("user:bob").unwrap()),
        &[2],
    )
    .await;
    expect(
        SessionIndex::Client(production(), ClientName::parse("client:cms").unwrap()),
        &[1, 2, 5],
    )
    .await;
    expect(
        SessionIndex::Client(realm("sandbox"), ClientName::parse("client:cms").unwrap()),
        &[4],
    )
    .await;
    expect(
        SessionIndex::Label(production(), Label::parse("device:7").unwrap()),
        &[1, 2, 3],
    )
    .await;
    expect(
        SessionIndex::Label(production(), Label::parse("device:8").unwrap()),
        &[5],
    )
    .await;
    expect(SessionIndex::ApiKey(production(), api_key_id(1)), &[1, 2, 3]).await;
    expect(SessionIndex::ApiKey(production(), api_key_id(2)), &[5]).await;
}

/// Those that are shown, when the visitor breaks off at `last`.
async fn visited(store: &Shared, last: usize) -> Vec<Session> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    let see = move |session: &Session| {
        let mut seen = seen.lock().unwrap();
        seen.push(session.clone());
        if seen.len() == last {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    store.visit_sessions(Box::new(see)).await.unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

async fn all_sessions_are_visited_in_order(store: &Shared) {
    assert_eq!(visited(store, usize::MAX).await, []);
    // More than any backend reads at once.
    let mut sessions: Vec<_> = (1..=600).map(session).collect();
    sessions[1].realm = realm("sandbox");
    for session in sessions.iter().rev() {
        put(store, session).await;
    }
    assert_eq!(visited(store, usize::MAX).await, sessions);
}

async fn a_visit_ends_where_its_visitor_breaks_off(store: &Shared) {
    let sessions: Vec<_> = (1..=4).map(session).collect();
    for session in &sessions {
        put(store, session).await;
    }
    assert_eq!(visited(store, 2).await, sessions[..2]);
}

async fn a_visitor_that_panics_harms_nobody_else(store: &Shared) {
    put(store, &session(1)).await;
    let visit = store.visit_sessions(Box::new(|_| panic!("a flaw of the visitor")));
    assert!(matches!(visit.await, Err(StoreError::Failed { .. })));
    assert!(store.is_healthy());
    assert_eq!(visited(store, 1).await, [session(1)]);
}

// === policies ===

fn revision(number: u8) -> PolicyRevision {
    PolicyRevision::parse(&format!("{number:016x}")).unwrap()
}

/// Files that are larger than one row should be.
fn policy_files(number: u8) -> PolicyFiles {
    vec![
        ("catalogue.toml".to_owned(), vec![number; 100_000]),
        ("policy.csv".to_owned(), vec![number]),
    ]
}

/// Keeps a policy, and reconciles it.
async fn reconcile(store: &Shared, number: u8, second: i64) {
    write(store, move |tx| {
        tx.put_policy(&revision(number), &policy_files(number)).unwrap();
        tx.put_reconciled_policy(&revision(number), at(second)).unwrap();
    })
    .await;
}

async fn policies_are_kept_whole(store: &Shared) {
    assert_eq!(store.reconciled_policy().await.unwrap(), None);
    assert_eq!(store.policy(&revision(1)).await.unwrap(), None);
    write(store, |tx| {
        tx.put_policy(&revision(1), &policy_files(1)).unwrap();
        // Kept already: nothing changes.
        tx.put_policy(&revision(1), &Vec::new()).unwrap();
    })
    .await;
    assert_eq!(store.policy(&revision(1)).await.unwrap(), Some(policy_files(1)));
    assert_eq!(store.reconciled_policy().await.unwrap(), None);
    reconcile(store, 1, 10).await;
    reconcile(store, 2, 20).await;
    assert_eq!(store.reconciled_policy().await.unwrap(), Some(revision(2)));
    assert_eq!(store.policy(&revision(1)).await.unwrap(), Some(policy_files(1)));
    assert_eq!(store.policy(&revision(2)).await.unwrap(), Some(policy_files(2)));
}

async fn the_last_staleness_bound_of_a_realm_is_kept(store: &Shared) {
    let (production, sandbox) = (realm("production"), realm("sandbox"));
    assert_eq!(store.staleness_bounds().await.unwrap(), BTreeMap::new());
    for (of, seconds) in [
        (&production, 5),
        (&sandbox, 7),
        (&production, 60),
        (&production, 3),
    ] {
        let of = of.clone();
        write(store, move |tx| {
            tx.put_staleness_bound(&of, Duration::from_secs(seconds)).unwrap();
        })
        .await;
    }
    let kept = [(production, 3), (sandbox, 7)].map(|(of, seconds)| (of, Duration::from_secs(seconds)));
    assert_eq!(store.staleness_bounds().await.unwrap(), BTreeMap::from(kept));
}

async fn a_purge_removes_policies_that_were_replaced(store: &Shared) {
    for (number, second) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
        reconcile(store, number, second).await;
    }
    let kept = async || {
        let mut kept = Vec::new();
        for number in 1..=3 {
            if let Some(files) = store.policy(&revision(number)).await.unwrap() {
                assert_eq!(files, policy_files(number));
                kept.push(number);
            }
        }
        kept
    };
    // The second was replaced at 30, the first at 20 and, in force again, at 40.
    let report = store.purge(at(100), at(30), 1000).await.unwrap();
    assert_eq!(report.records, 0);
    let report = store.purge(at(100), at(31), 1000).await.unwrap();
    assert_eq!(report.records, 1);
    assert_eq!(kept().await, [1, 3]);
    store.purge(at(1000), at(1000), 1000).await.unwrap();
    assert_eq!(kept().await, [3]);
    assert_eq!(store.reconciled_policy().await.unwrap(), Some(revision(3)));
    reconcile(store, 1, 50).await;
    assert_eq!(kept().await, [1, 3]);
}

async fn pages_end_where_the_items_end(store: &Shared) {
    let sessions: Vec<_> = (1..=4).map(session).collect();
    for session in &sessions {
        put(store, session).await;
    }
    let page = async |after: Option<usize>, limit| {
        let after = after.map(|number| sessions[number - 1].id);
        let page = store
            .sessions(
                SessionIndex::Realm(realm("production")),
                PageRequest { after, limit },
            )
            .await
            .unwrap();
        let number = |id| sessions.iter().position(|session| session.id == id).unwrap() + 1;
        (
            page.items
                .iter()
                .map(|session| number(session.id))
                .collect::<Vec<_>>(),
            page.next.map(number),
        )
    };
    assert_eq!(page(None, 3).await, (vec![1, 2, 3], Some(3)));
    assert_eq!(page(Some(3), 3).await, (vec![4], None));
    assert_eq!(page(None, 4).await, (vec![1, 2, 3, 4], None));
    assert_eq!(page(Some(2), 2).await, (vec![3, 4], None));
    assert_eq!(page(Some(4), 2).await, (vec![], None));
    assert_eq!(page(None, usize::MAX).await, (vec![1, 2, 3, 4], None));
    assert_eq!(page(None, 0).await, (vec![], None));
}

async fn an_index_follows_a_session_that_changes(store: &Shared) {
    let before = session(1);
    put(store, &before).await;
    let after = Session {
        labels: vec![Label::parse("device:9").unwrap()],
        ..with_subject(1, "user:eve")
    };
    put(store, &after).await;
    let subject = |name| SessionIndex::Subject(realm("production"), Subject::parse(name).unwrap());
    let label = |name| SessionIndex::Label(realm("production"), Label::parse(name).unwrap());
    for (index, count) in [
        (subject("user:ann"), 0),
        (subject("user:eve"), 1),
        (label("stream:ls_42"), 0),
        (label("device:7"), 0),
        (label("device:9"), 1),
    ] {
        assert_eq!(list(store, index.clone()).await.len(), count, "{index:?}");
    }
}

async fn a_name_that_begins_like_another_is_another(store: &Shared) {
    put(store, &with_subject(1, "user:ann")).await;
    put(store, &with_subject(2, "user:anna")).await;
    put(
        store,
        &Session {
            realm: realm("prod"),
            ..with_subject(3, "user:ann")
        },
    )
    .await;
    let count = async |realm_name, subject| {
        let index = SessionIndex::Subject(realm(realm_name), Subject::parse(subject).unwrap());
        list(store, index).await.len()
    };
    assert_eq!(count("production", "user:ann").await, 1);
    assert_eq!(count("production", "user:anna").await, 1);
    assert_eq!(count("prod", "user:ann").await, 1);
    assert_eq!(count("production", "user:an").await, 0);
    assert_eq!(list(store, SessionIndex::Realm(realm("prod"))).await.len(), 1);
}

async fn concurrent_updates_of_a_session_are_one_after_the_other(store: &Shared) {
    const CALLERS: u64 = 50;
    let one = session(1);
    put(store, &one).await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (store, id) = (Arc::clone(store), one.id);
        callers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            // Each generation is offered by all; exactly one may take it.
            for generation in 1..=5 {
                let taken = store
                    .transact(move |transaction| {
                        let session = transaction.session(id)?.unwrap();
                        if session.generation() != generation {
                            return Ok(false);
                        }
                        transaction.put_session(&rotated(&session, at(1)))?;
                        transaction.append(session_revoked(&session, 9))?;
                        Ok(true)
                    })
                    .await
                    .unwrap();
                if taken {
                    won.push(generation);
                }
            }
            won
        }));
    }
    let mut won = Vec::new();
    for caller in callers {
        won.extend(caller.await.unwrap());
    }
    won.sort_unstable();
    assert_eq!(won, [1, 2, 3, 4, 5]);
    assert_eq!(store.session(one.id).await.unwrap().unwrap().generation(), 6);
    assert_eq!(
        sequences(&events_after(store, Sequence(0)).await.unwrap()),
        [1, 2, 3, 4, 5]
    );
}

// === the log ===

async fn events_are_gapless_and_can_be_resumed(store: &Shared) {
    assert!(events_after(store, Sequence(0)).await.unwrap().is_empty());
    let policy = PolicyRevision::parse("8f31c2a08f31c2a0").unwrap();
    let new = event(9, 9, EventBody::PolicyApplied { policy });
    for number in 1..=7 {
        assert_eq!(append(store, &new).await, Sequence(number));
    }
    let all = events_after(store, Sequence(0)).await.unwrap();
    assert_eq!(sequences(&all), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all[0].body, new.body);
    assert_eq!(all[0].note, new.note);
    assert_eq!(all[0].relevant_until, new.tokens_until.plus(LEEWAY_MAX));
    let batch = store.events_after(Sequence(4), 2).await.unwrap();
    assert_eq!(sequences(&batch.events), [5, 6]);
    assert_eq!(batch.committed, Sequence(7));
    for after in [7, 8, u64::MAX] {
        let batch = store.events_after(Sequence(after), 2).await.unwrap();
        assert!(batch.events.is_empty());
        assert_eq!(batch.committed, Sequence(7));
    }
    assert!(
        store
            .events_after(Sequence(0), 0)
            .await
            .unwrap()
            .events
            .is_empty()
    );
}

async fn concurrent_events_are_gapless(store: &Shared) {
    let new = session_revoked(&session(1), 9);
    let callers: Vec<_> = (0..100)
        .map(|number| {
            let (store, new) = (Arc::clone(store), new.clone());
            tokio::spawn(async move {
                let result = store
                    .transact(move |transaction| {
                        let place = transaction.append(new.clone())?;
                        // Every third fails after it had its place.
                        if number % 3 == 0 {
                            Err(StoreError::Closed)
                        } else {
                            Ok(place)
                        }
                    })
                    .await;
                result.ok()
            })
        })
        .collect();
    let mut places = Vec::new();
    for caller in callers {
        places.extend(caller.await.unwrap());
    }
    places.sort_unstable();
    assert_eq!(places, (1..=66).map(Sequence).collect::<Vec<_>>());
    assert_eq!(
        sequences(&events_after(store, Sequence(0)).await.unwrap()),
        (1..=66).collect::<Vec<_>>()
    );
}

async fn watchers_are_woken_only_for_what_can_be_read(store: &Shared) {
    let mut committed = store.committed();
    let watcher = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let (mut woken, mut seen) = (Sequence(0), Sequence(0));
            while seen < Sequence(40) {
                committed.changed().await.unwrap();
                let reached = *committed.borrow_and_update();
                assert!(reached > woken, "woken without an event");
                woken = reached;
                let batch = store.events_after(seen, 100).await.unwrap();
                // A commit between the wake and the read was read already;
                // its own wake then finds nothing new.
                if let Some(last) = batch.events.last() {
                    assert_eq!(batch.events[0].sequence, seen.next());
                    seen = last.sequence;
                }
                assert!(seen >= reached, "woken before it could be read");
            }
        })
    };
    let one = session(1);
    for _ in 0..40 {
        append(store, &session_revoked(&one, 9)).await;
        // A commit without events wakes nobody.
        put(store, &one).await;
    }
    watcher.await.unwrap();
}

// === revocations ===

fn revoked(store: &Shared, session: &Session) -> Option<RevokeReason> {
    store.revocations().read().unwrap().revokes_session(session)
}

async fn revocations_are_folded_in(store: &Shared) {
    let (ann, bob) = (session(1), with_subject(2, "user:bob"));
    assert_eq!(revoked(store, &ann), None);
    let place = append(store, &subject_revoked("user:ann", 50, 500)).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    assert_eq!(revoked(store, &bob), None);
    assert_eq!(
        revoked(
            store,
            &Session {
                rev: place,
                ..ann.clone()
            }
        ),
        None
    );
    assert_eq!(
        revoked(
            store,
            &Session {
                realm: realm("sandbox"),
                ..ann.clone()
            }
        ),
        None
    );
    append(
        store,
        &event(
            50,
            500,
            EventBody::ClientRevoked {
                client: ann.client.clone(),
            },
        ),
    )
    .await;
    assert_eq!(revoked(store, &bob), Some(RevokeReason::Client));
    append(store, &event(50, 500, EventBody::RealmRevoked)).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Realm));
    append(store, &session_revoked(&ann, 50)).await;
    let revocations = store.revocations().read().unwrap();
    assert_eq!(revocations.len(), 4);
    assert_eq!(revocations.through(), Sequence(4));
}

async fn a_cutoff_is_known_within_its_own_job(store: &Shared) {
    let ann = session(1);
    let known = write(store, move |transaction| {
        let before = transaction.revokes_session(&ann);
        let label = ann.labels[1].clone();
        transaction
            .append(event(50, 500, EventBody::LabelRevoked { label }))
            .unwrap();
        (before, transaction.revokes_session(&ann))
    })
    .await;
    assert_eq!(known, (None, Some(RevokeReason::Label)));
    let known = write(store, |transaction| transaction.revokes_session(&session(2))).await;
    assert_eq!(known, Some(RevokeReason::Label));
}

async fn purge(store: &Shared, second: i64) -> PurgeReport {
    store.purge(at(second), Timestamp::EPOCH, 1000).await.unwrap()
}

/// A purge when no verifier accepts any more what was over before `second`.
async fn purge_after_leeway(store: &Shared, second: i64) -> PurgeReport {
    purge(store, second + i64::from(LEEWAY_MAX.0)).await
}

async fn a_cutoff_outlives_its_event(store: &Shared) {
    let ann = session(1);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    assert_eq!(purge(store, 51).await.events, 1);
    assert!(matches!(
        store.events_after(Sequence(0), 1).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 500).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 501).await;
    assert_eq!(revoked(store, &ann), None);
}

async fn a_later_cutoff_never_shortens_an_earlier_one(store: &Shared) {
    let ann = session(1);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    append(store, &subject_revoked("user:ann", 60, 100)).await;
    purge(store, 499).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 501).await;
    assert_eq!(revoked(store, &ann), None);
}

// === the rest ===

fn request(number: u8, expires: i64) -> (RequestKey, RequestRecord) {
    let key = RequestKey {
        realm: realm("production"),
        client: ClientName::parse("client:cms").unwrap(),
        request: RequestId::from_bytes([number; 16]),
    };
    (
        key,
        RequestRecord {
            digest: [number; 32],
            session: session(1).id,
            expires_at: at(expires),
        },
    )
}

async fn put_request(store: &Shared, (key, record): (RequestKey, RequestRecord)) {
    write(store, move |transaction| {
        transaction.put_request(&key, &record).unwrap();
    })
    .await;
}

async fn remembered(store: &Shared, key: &RequestKey) -> Option<RequestRecord> {
    let key = key.clone();
    write(store, move |transaction| transaction.request(&key).unwrap()).await
}

async fn requests_are_remembered_and_replaced(store: &Shared) {
    let (key, record) = request(1, 600);
    assert_eq!(remembered(store, &key).await, None);
    put_request(store, (key.clone(), record.clone())).await;
    assert_eq!(remembered(store, &key).await, Some(record.clone()));
    let other = RequestKey {
        client: ClientName::parse("client:app").unwrap(),
        ..key.clone()
    };
    assert_eq!(remembered(store, &other).await, None);
    let replaced = RequestRecord {
        digest: [9; 32],
        ..record
    };
    put_request(store, (key.clone(), replaced.clone())).await;
    assert_eq!(remembered(store, &key).await, Some(replaced));
}

async fn api_keys_are_listed_by_realm(store: &Shared) {
    for key in [
        api_key(3, "production"),
        api_key(1, "production"),
        api_key(2, "sandbox"),
    ] {
        write(store, move |transaction| transaction.put_api_key(&key).unwrap()).await;
    }
    let revoked = tessera_core::ApiKey {
        revoked_at: Some(at(1)),
        ..api_key(1, "production")
    };
    let copy = revoked.clone();
    write(store, move |transaction| {
        assert_eq!(
            transaction.api_key(&copy.id).unwrap(),
            Some(api_key(1, "production"))
        );
        transaction.put_api_key(&copy).unwrap();
    })
    .await;
    assert_eq!(
        store.api_key(&api_key_id(1)).await.unwrap(),
        Some(revoked.clone())
    );
    let page = async |realm_name, after, limit| {
        store
            .api_keys(&realm(realm_name), PageRequest { after, limit })
            .await
            .unwrap()
    };
    let first = page("production", None, 1).await;
    assert_eq!(
        (first.items, first.next.clone()),
        (vec![revoked], Some(api_key_id(1)))
    );
    let second = page("production", first.next, 1).await;
    assert_eq!(
        (second.items, second.next),
        (vec![api_key(3, "production")], None)
    );
    assert_eq!(page("sandbox", None, 10).await.items, [api_key(2, "sandbox")]);
    assert!(page("none", None, 10).await.items.is_empty());
}

async fn api_keys_are_removed(store: &Shared) {
    for number in [1, 2] {
        let key = api_key(number, "production");
        write(store, move |transaction| transaction.put_api_key(&key).unwrap()).await;
    }
    let dead = api_key(1, "production");
    write(store, move |transaction| {
        transaction.remove_api_key(&dead).unwrap();
        assert_eq!(transaction.api_key(&dead.id).unwrap(), None);
    })
    .await;
    assert_eq!(store.api_key(&api_key_id(1)).await.unwrap(), None);
    let page = PageRequest {
        after: None,
        limit: 10,
    };
    let left = store.api_keys(&realm("production"), page).await.unwrap();
    assert_eq!(left.items, [api_key(2, "production")]);
}

async fn clients_are_disabled_and_enabled(store: &Shared) {
    let client = |name: &str| ClientName::parse(name).unwrap();
    for (name, is_disabled) in [("client:app", true), ("client:shop", true), ("client:app", false)] {
        write(store, move |transaction| {
            let (realm, client) = (realm("production"), client(name));
            transaction.put_disabled(&realm, &client, is_disabled).unwrap();
            assert_eq!(transaction.is_disabled(&realm, &client).unwrap(), is_disabled);
        })
        .await;
    }
    let left = store.disabled_clients().await.unwrap();
    assert_eq!(left, [(realm("production"), client("client:shop"))]);
    write(store, move |transaction| {
        let is_disabled = |transaction: &mut dyn tessera_store::Transaction, of: &str, name: &str| {
            transaction.is_disabled(&realm(of), &client(name)).unwrap()
        };
        assert!(is_disabled(transaction, "production", "client:shop"));
        assert!(!is_disabled(transaction, "sandbox", "client:shop"));
        assert!(!is_disabled(transaction, "production", "client:app"));
    })
    .await;
}

async fn signing_keys_are_listed_oldest_first(store: &Shared) {
    let key = |name: &str, second| SigningKey {
        id: KeyId::parse(&format!("k4.pid.{}", name.repeat(44))).unwrap(),
        realm: realm("production"),
        public: "k4.public.x".to_owned(),
        sealed_secret: "sealed".to_owned(),
        status: KeyStatus::Published,
        not_before: at(second),
        not_after: None,
    };
    for key in [key("b", 1), key("a", 3), key("c", 2)] {
        write(store, move |transaction| {
            transaction.put_signing_key(&key).unwrap();
        })
        .await;
    }
    let active = SigningKey {
        status: KeyStatus::Active,
        ..key("c", 2)
    };
    let copy = active.clone();
    write(store, move |transaction| {
        transaction.put_signing_key(&copy).unwrap();
    })
    .await;
    assert_eq!(
        store.signing_keys().await.unwrap(),
        [key("b", 1), active, key("a", 3)]
    );
}

async fn the_sessions_of_a_client_are_counted(store: &Shared) {
    async fn count(store: &Shared) -> u64 {
        let one = session(1);
        store
            .transact(move |transaction| transaction.sessions_of(&one.realm, &one.client))
            .await
            .unwrap()
    }
    assert_eq!(count(store).await, 0);
    let seen = write(store, |transaction| {
        let (one, two) = (session(1), session(2));
        transaction.put_session(&one).unwrap();
        transaction.put_session(&two).unwrap();
        transaction.put_session(&rotated(&one, at(5))).unwrap();
        transaction.sessions_of(&one.realm, &one.client).unwrap()
    })
    .await;
    assert_eq!((seen, count(store).await), (2, 2));
    let other = Session {
        client: "client:other".parse::<ClientName>().unwrap(),
        ..session(3)
    };
    put(store, &other).await;
    assert_eq!(count(store).await, 2, "another client's does not count");
    put(store, &rotated(&session(1), at(9))).await;
    put(store, &session(2).revoked(RevokeReason::Requested, at(50))).await;
    assert_eq!(count(store).await, 2, "ended ones count until they are removed");
    while store.purge(at(130), at(0), 1).await.unwrap().more {}
    assert_eq!(count(store).await, 1);
    while store.purge(at(5000), at(0), 1).await.unwrap().more {}
    assert_eq!(count(store).await, 0);
}

async fn audit_records_are_in_the_commit_of_what_they_record(store: &Shared) {
    let one = session(1);
    let copy = one.clone();
    write(store, move |transaction| {
        transaction.put_session(&copy).unwrap();
        for second in 1..=3 {
            transaction.audit(&audit_record(second, copy.id)).unwrap();
        }
    })
    .await;
    let all = store.audit_after(0, 10).await.unwrap();
    assert_eq!(
        all,
        [1, 2, 3].map(|second| (second as u64, audit_record(second, one.id)))
    );
    assert_eq!(store.audit_after(1, 1).await.unwrap(), all[1..2]);
    assert!(store.audit_after(3, 10).await.unwrap().is_empty());
    assert!(store.audit_after(u64::MAX, 10).await.unwrap().is_empty());
}

// === purging ===

async fn a_purge_removes_sessions_that_are_dead_and_no_others(store: &Shared) {
    // Idle until second 101, a tombstone until 111; the revoked one until 60. Each for the leeway more.
    let (idle, ended) = (session(1), session(2).revoked(RevokeReason::Requested, at(50)));
    put(store, &idle).await;
    put(store, &session(2)).await;
    put(store, &ended).await;
    assert_eq!(purge_after_leeway(store, 60).await, PurgeReport::default());
    assert_eq!(
        purge_after_leeway(store, 61).await,
        PurgeReport {
            sessions: 1,
            ..PurgeReport::default()
        }
    );
    assert_eq!(store.session(ended.id).await.unwrap(), None);
    assert_eq!(
        list(store, SessionIndex::Realm(realm("production"))).await,
        [idle.id]
    );
    assert_eq!(purge_after_leeway(store, 111).await.sessions, 0);
    assert_eq!(purge_after_leeway(store, 112).await.sessions, 1);
    for index in [
        SessionIndex::Realm(realm("production")),
        SessionIndex::Label(realm("production"), idle.labels[0].clone()),
        SessionIndex::ApiKey(realm("production"), idle.api_key.clone()),
    ] {
        assert!(list(store, index).await.is_empty());
    }
    assert_eq!(purge(store, 9999).await, PurgeReport::default());
}

async fn a_purge_follows_a_session_that_was_refreshed(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    let refreshed = rotated(&one, at(90));
    put(store, &refreshed).await;
    // Alive until 190, a tombstone until 200 and the leeway, although it would have been gone after 111.
    assert_eq!(purge_after_leeway(store, 150).await.sessions, 0);
    assert_eq!(store.session(one.id).await.unwrap(), Some(refreshed.clone()));
    assert_eq!(purge_after_leeway(store, 200).await.sessions, 0);
    // Revoked, it goes earlier than the purge that looked at it last expected.
    put(store, &refreshed.revoked(RevokeReason::Reuse, at(160))).await;
    assert_eq!(purge_after_leeway(store, 170).await.sessions, 0);
    assert_eq!(purge_after_leeway(store, 171).await.sessions, 1);
}

async fn a_purge_removes_the_oldest_events_only(store: &Shared) {
    let one = session(1);
    for until in [10, 20, 100, 30, 200] {
        append(store, &session_revoked(&one, until)).await;
    }
    assert_eq!(purge(store, 10).await.events, 0);
    // The fourth is dead, too, but behind one that matters: the log has no gap.
    assert_eq!(purge(store, 50).await.events, 2);
    assert!(matches!(
        store.events_after(Sequence(1), 9).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(
        sequences(&store.events_after(Sequence(2), 9).await.unwrap().events),
        [3, 4, 5]
    );
    assert_eq!(purge(store, 101).await.events, 2);
    assert_eq!(purge(store, 999).await.events, 1);
    assert!(
        store
            .events_after(Sequence(5), 9)
            .await
            .unwrap()
            .events
            .is_empty()
    );
    assert_eq!(append(store, &session_revoked(&one, 2000)).await, Sequence(6));
    assert_eq!(
        sequences(&store.events_after(Sequence(5), 9).await.unwrap().events),
        [6]
    );
}

async fn an_event_dated_years_ahead_does_not_keep_those_behind_it(store: &Shared) {
    let years = 10 * 365 * 24 * 3600;
    append(store, &session_revoked(&session(1), years)).await;
    append(store, &subject_revoked("user:bob", years, years)).await;
    for until in [10, 20, 100] {
        append(store, &session_revoked(&session(2), until)).await;
    }
    assert_eq!(purge(store, 50).await.events, 2);
    assert_eq!(store.events_floor(), Sequence(4));
    assert_eq!(sequences(&events_after(store, Sequence(4)).await.unwrap()), [5]);
    // Whoever begins to follow learns of them all the same.
    let left = store.events_left().await.unwrap();
    assert_eq!(sequences(&left), [1, 2]);
    assert_eq!(purge(store, 101).await.events, 1);
    assert_eq!(purge(store, years + 1).await.events, 2);
    assert!(store.events_left().await.unwrap().is_empty());
    assert_eq!(store.events_floor(), Sequence(5));
}

async fn a_revocation_outlives_a_token_that_was_issued_by_a_clock_ahead(store: &Shared) {
    let two_hours = 2 * 3600;
    write(store, move |transaction| {
        transaction
            .audit(&audit_record(two_hours, session(1).id))
            .unwrap();
    })
    .await;
    // The clock is right again. What is revoked now ends tokens that live two hours longer.
    append(store, &subject_revoked("user:ann", 100, 200)).await;
    append(store, &session_revoked(&session(1), 100)).await;
    let until = |event: &Event| event.relevant_until;
    let events = events_after(store, Sequence(0)).await.unwrap();
    assert!(events.iter().all(|event| until(event) == at(100 + two_hours)));
    assert_eq!(purge(store, 1000).await.events, 0);
    let revoked = |store: &Shared| {
        let revocations = store.revocations().read().unwrap();
        revocations.revokes_session(&session(1)).is_some()
    };
    assert_eq!(purge(store, 100 + two_hours).await.events, 0);
    assert!(revoked(store));
    assert_eq!(purge(store, 101 + two_hours).await.events, 2);
    assert!(revoked(store), "its session lives longer");
    purge(store, 201 + two_hours).await;
    assert!(!revoked(store));
}

async fn a_purge_removes_requests_and_audit_records(store: &Shared) {
    let (first, second) = (request(1, 100), request(2, 200));
    put_request(store, first.clone()).await;
    put_request(store, second.clone()).await;
    // Given another time, it is kept until that.
    put_request(store, request(1, 150)).await;
    for second in [10, 20, 30] {
        write(store, move |transaction| {
            transaction.audit(&audit_record(second, session(1).id)).unwrap();
        })
        .await;
    }
    let report = store.purge(at(120), at(20), 1000).await.unwrap();
    assert_eq!(
        report,
        PurgeReport {
            records: 1,
            ..PurgeReport::default()
        }
    );
    assert!(remembered(store, &first.0).await.is_some());
    let report = store.purge(at(151), at(31), 1000).await.unwrap();
    assert_eq!(
        report,
        PurgeReport {
            records: 3,
            ..PurgeReport::default()
        }
    );
    assert_eq!(remembered(store, &first.0).await, None);
    assert_eq!(remembered(store, &second.0).await, Some(second.1));
    assert!(store.audit_after(0, 10).await.unwrap().is_empty());
    write(store, move |transaction| {
        transaction.audit(&audit_record(40, session(1).id)).unwrap();
    })
    .await;
    assert_eq!(store.audit_after(0, 10).await.unwrap()[0].0, 4);
}

async fn a_purge_says_how_far_it_came_and_where_the_log_begins(store: &Shared) {
    assert_eq!(
        (store.purged_through(), store.events_floor()),
        (None, Sequence(0))
    );
    purge(store, 20).await;
    assert_eq!(store.purged_through(), Some(at(20)));
    for until in [30, 9000] {
        append(store, &session_revoked(&session(1), until)).await;
    }
    purge(store, 31).await;
    assert_eq!(
        (store.purged_through(), store.events_floor()),
        (Some(at(31)), Sequence(1))
    );
    // It never goes back, whatever a clock says.
    purge(store, 25).await;
    assert_eq!(store.purged_through(), Some(at(31)));
    purge(store, 31 + 3600).await;
    assert_eq!(store.purged_through(), Some(at(31 + 3600)));
}

async fn a_purge_stops_at_its_limit_and_goes_on(store: &Shared) {
    for number in 1..=300 {
        put(store, &session(number)).await;
    }
    let report = store.purge(at(9999), Timestamp::EPOCH, 7).await.unwrap();
    assert_eq!(
        report,
        PurgeReport {
            sessions: 7,
            more: true,
            ..PurgeReport::default()
        }
    );
    let report = store.purge(at(9999), Timestamp::EPOCH, 280).await.unwrap();
    assert_eq!(
        report,
        PurgeReport {
            sessions: 280,
            more: true,
            ..PurgeReport::default()
        }
    );
    let report = store.purge(at(9999), Timestamp::EPOCH, 13).await.unwrap();
    assert_eq!(
        report,
        PurgeReport {
            sessions: 13,
            more: false,
            ..PurgeReport::default()
        }
    );
}

// === the end ===

async fn a_store_that_is_closed_answers_so(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    append(store, &session_revoked(&one, 9)).await;
    let waiting: Vec<_> = (2..30)
        .map(|number| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let result = store
                    .transact(move |transaction| transaction.put_session(&session(number)))
                    .await;
                assert!(matches!(result, Ok(()) | Err(StoreError::Closed)), "{result:?}");
            })
        })
        .collect();
    store.close().await.unwrap();
    for caller in waiting {
        caller.await.unwrap();
    }
    let closed =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Closed)), "{result:?}");
    closed(store.transact(|_| Ok(())).await);
    closed(store.session(one.id).await.map(drop));
    closed(store.api_key(&api_key_id(1)).await.map(drop));
    closed(store.signing_keys().await.map(drop));
    closed(store.events_after(Sequence(0), 1).await.map(drop));
    closed(store.audit_after(0, 1).await.map(drop));
    closed(store.purge(at(0), at(0), 1).await.map(drop));
    closed(
        store
            .api_keys(
                &realm("production"),
                PageRequest {
                    after: None,
                    limit: 1,
                },
            )
            .await
            .map(drop),
    );
    let all = SessionIndex::Realm(realm("production"));
    closed(
        store
            .sessions(
                all,
                PageRequest {
                    after: None,
                    limit: 1,
                },
            )
            .await
            .map(drop),
    );
    closed(store.close().await);
    assert!(!store.is_healthy());
}
