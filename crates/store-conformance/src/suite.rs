//! What every backend must do. Each check is given an empty store of its own.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Duration,
};

use tessera_core::{
    ApiKey, ClientName, Event, EventBody, KeyId, KeyStatus, LEEWAY_MAX, Label, PolicyRevision, RequestId,
    RevokeReason, Seconds, Sequence, Session, SessionId, SigningKey, Subject, Timestamp,
};
use tessera_store::{
    AuditHead, AuditQuery, Changes, ClientChange, ClientState, Decision, PageRequest, PolicyFiles, Priority,
    PurgeBefore, PurgeReport, Reads, RequestKey, RequestRecord, SessionIndex, SettingChange, Settings,
    Snapshot, Store, StoreError,
};

use crate::fixture::{
    api_key, api_key_id, append, at, audit_record, event, events_after, purge_before, put, realm, rotated,
    sequences, session, session_revoked, stored, subject_revoked, with_subject, write,
};

type Shared = Arc<dyn Store>;

// === units of work ===

pub async fn a_unit_that_is_aborted_leaves_nothing(store: &Shared) {
    let one = session(1);
    let committed = append(store, &subject_revoked("user:bob", 50, 500)).await;
    let aborted = store.commit(Reads::default().session(one.id), |state: &Snapshot| {
        assert_eq!(state.head(), Sequence(1));
        Decision::Abort("no")
    });
    let (answer, placed) = aborted.await.unwrap();
    assert_eq!((answer, placed.last()), ("no", None));
    assert_eq!(stored(store, one.id).await, None);
    assert!(store.audit(0, 10).await.unwrap().is_empty());
    assert_eq!(store.log().committed(), committed);
    assert_eq!(append(store, &session_revoked(&one, 50)).await, committed.next());
}

pub async fn a_unit_is_committed_as_a_whole(store: &Shared) {
    let one = session(1);
    let placed = write(
        store,
        Changes {
            sessions: vec![Arc::new(one.clone())],
            api_keys: vec![api_key(1, "production")],
            audit: vec![audit_record(0, one.id)],
            events: vec![session_revoked(&one, 50), subject_revoked("user:bob", 50, 500)],
            ..Changes::default()
        },
    );
    assert_eq!(placed.await.events, 1..3);
    assert_eq!(stored(store, one.id).await, Some(one.clone()));
    assert_eq!(
        list(store, SessionIndex::Realm(realm("production"))).await,
        [one.id]
    );
    assert_eq!(
        store.api_key(&api_key_id(1)).await.unwrap(),
        Some(Arc::new(api_key(1, "production")))
    );
    assert_eq!(store.audit(0, 10).await.unwrap(), [(1, audit_record(0, one.id))]);
    assert_eq!(store.log().committed(), Sequence(2));
}

pub async fn a_decision_that_panics_leaves_nothing_and_the_store_lives_on(store: &Shared) {
    let one = session(1);
    let decide = |_: &Snapshot| -> Decision<()> { panic!("a defect of the caller") };
    let failed = store.commit(Reads::default().session(one.id), decide).await;
    assert!(
        matches!(failed, Err(StoreError::Failed { detail }) if detail.contains("a defect of the caller"))
    );
    assert!(store.health().takes_writes);
    put(store, &one).await;
    assert_eq!(stored(store, one.id).await, Some(one));
}

pub async fn a_unit_sees_what_it_names_and_all_that_was_committed_before(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    append(store, &session_revoked(&one, 9)).await;
    let reads = Reads::default().session(one.id).session(session(2).id);
    let commit = store.commit(reads, |state: &Snapshot| {
        let (one, two, three) = (session(1).id, session(2).id, session(3).id);
        assert_eq!(state.head(), Sequence(1));
        assert!(state.session(two).is_none() && state.session(three).is_none());
        assert!(state.has_looked_for(two) && !state.has_looked_for(three));
        let rotated = rotated(&state.session(one).unwrap().session, at(5));
        let changes = Changes {
            sessions: vec![Arc::new(rotated)],
            ..Changes::default()
        };
        Decision::Commit(changes, ())
    });
    commit.await.unwrap();
    let reads = Reads::default().session(one.id);
    let seen = store.commit(reads, move |state: &Snapshot| {
        Decision::Abort(state.session(one.id).unwrap().session.generation())
    });
    assert_eq!(seen.await.unwrap().0, 2);
}

/// What an idempotent request made is known only once its record was read.
pub async fn a_unit_may_read_more(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    let decide = move |state: &Snapshot| match state.session(one.id) {
        None => Decision::ReadMore(Reads::default().session(one.id)),
        Some(stored) => Decision::Abort(stored.session.generation()),
    };
    let (generation, _) = store.commit(Reads::default(), decide).await.unwrap();
    assert_eq!(generation, 1);
    let endless = |_: &Snapshot| -> Decision<()> { Decision::ReadMore(Reads::default()) };
    let failed = store.commit(Reads::default(), endless).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })));
    assert!(store.health().takes_writes);
}

/// Alone it is not kept waiting for longer than it said; and it is what others are.
pub async fn a_unit_in_the_background_is_committed(store: &Shared) {
    let background = Priority::Background {
        max_delay: Duration::from_millis(1),
    };
    let begin = |_: &Snapshot| {
        let changes = Changes {
            sessions: vec![Arc::new(session(1))],
            ..Changes::default()
        };
        Decision::Commit(changes, ())
    };
    store
        .commit_with(background, Reads::default(), begin)
        .await
        .unwrap();
    assert_eq!(stored(store, session(1).id).await, Some(session(1)));
    let behind = Priority::Background {
        max_delay: Duration::from_secs(3600),
    };
    let other = store.commit_with(behind, Reads::default(), |state: &Snapshot| {
        Decision::Abort(state.head())
    });
    let mut other = std::pin::pin!(other);
    let two = session(2);
    loop {
        // One that goes with another's commit: whichever comes after it was handed over.
        tokio::select! {
            biased;
            head = &mut other => {
                head.unwrap();
                break;
            }
            () = put(store, &two) => {}
        }
    }
}

pub async fn a_session_is_joined_with_what_ended_it(store: &Shared) {
    let (ann, bob) = (session(1), with_subject(2, "user:bob"));
    let sandbox = Session {
        credential: api_key_id(2).into(),
        ..session(3)
    };
    for session in [&ann, &bob, &sandbox] {
        put(store, session).await;
    }
    let ended = async |of: &Session| {
        let read = store.session(of.id).await.unwrap().unwrap().ended;
        let id = of.id;
        let decide = move |state: &Snapshot| Decision::Abort(state.session(id).unwrap().ended);
        let (decided, _) = store.commit(Reads::default().session(id), decide).await.unwrap();
        let index = SessionIndex::Credential(of.realm.clone(), of.credential.clone());
        let page = PageRequest {
            after: None,
            limit: 9,
        };
        let listed = store.sessions(index, page).await.unwrap().items;
        let listed = listed
            .iter()
            .find(|stored| stored.session.id == id)
            .unwrap()
            .ended;
        assert_eq!((read, listed), (decided, decided));
        decided
    };
    assert_eq!(ended(&ann).await, None);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    let revoked = ApiKey {
        revoked_at: Some(at(3)),
        ..api_key(2, "production")
    };
    write(
        store,
        Changes {
            api_keys: vec![api_key(1, "production"), revoked],
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(ended(&ann).await, Some(RevokeReason::Subject));
    assert_eq!(ended(&bob).await, None);
    let other = Session {
        subject: Subject::parse("user:eve").unwrap(),
        ..sandbox
    };
    put(store, &other).await;
    assert_eq!(ended(&other).await, Some(RevokeReason::ApiKey));
}

/// A grant by another policy must not be committed.
pub async fn the_policy_in_force_is_what_was_committed_last(store: &Shared) {
    let in_force = async || {
        let decide = |state: &Snapshot| Decision::Abort(state.policy_in_force().cloned());
        let (decided, _) = store.commit(Reads::default(), decide).await.unwrap();
        let read = store.read(Reads::default()).await.unwrap();
        assert_eq!(read.policy_in_force(), decided.as_ref());
        decided
    };
    assert_eq!(in_force().await, None);
    for number in [1, 2, 1] {
        set(store, SettingChange::PolicyInForce(revision(number))).await;
        assert_eq!(in_force().await, Some(revision(number)));
    }
}

pub async fn times_are_committed(store: &Shared) {
    let now = at(100);
    set(store, SettingChange::Alive { now, settled: at(90) }).await;
    write(
        store,
        Changes {
            audit: vec![audit_record(110, session(1).id)],
            ..Changes::default()
        },
    )
    .await;
    let started = SettingChange::Started {
        now: at(130),
        settled: at(95),
    };
    set(store, started).await;
    let times = store.log().times();
    assert_eq!(times, store.read(Reads::default()).await.unwrap().times);
    assert_eq!((times.alive, times.settled), (Some(at(130)), Some(at(95))));
    assert_eq!(times.away_millis(at(100), at(200)), 20_000);
}

async fn set(store: &Shared, setting: SettingChange) {
    let changes = Changes {
        settings: vec![setting],
        ..Changes::default()
    };
    write(store, changes).await;
}

async fn settings(store: &Shared) -> Settings {
    let state = store.read(Reads::default().settings()).await.unwrap();
    state.settings.unwrap()
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
        ids.extend(page.items.iter().map(|stored| stored.session.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
        assert_eq!(after, ids.last().copied());
    }
}

pub async fn indexes_list_sessions_in_order_and_only_theirs(store: &Shared) {
    let mut sessions: Vec<_> = (1..=5).map(session).collect();
    sessions[1].subject = Subject::parse("user:bob").unwrap();
    sessions[2].client = ClientName::parse("client:app").unwrap();
    sessions[3].realm = realm("sandbox");
    sessions[4].labels = vec![
        Label::parse("device:8").unwrap(),
        Label::parse("device:8").unwrap(),
    ];
    sessions[4].credential = api_key_id(2).into();
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
    expect(
        SessionIndex::Credential(production(), api_key_id(1).into()),
        &[1, 2, 3],
    )
    .await;
    expect(SessionIndex::Credential(production(), api_key_id(2).into()), &[5]).await;
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
    store.walk_sessions(Box::new(see)).await.unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

pub async fn all_sessions_are_visited_in_order(store: &Shared) {
    assert_eq!(visited(store, usize::MAX).await, []);
    // More than any backend reads at once.
    let mut sessions: Vec<_> = (1..=600).map(session).collect();
    sessions[1].realm = realm("sandbox");
    for session in sessions.iter().rev() {
        put(store, session).await;
    }
    assert_eq!(visited(store, usize::MAX).await, sessions);
}

pub async fn a_visit_ends_where_its_visitor_breaks_off(store: &Shared) {
    let sessions: Vec<_> = (1..=4).map(session).collect();
    for session in &sessions {
        put(store, session).await;
    }
    assert_eq!(visited(store, 2).await, sessions[..2]);
}

pub async fn a_visitor_that_panics_harms_nobody_else(store: &Shared) {
    put(store, &session(1)).await;
    let visit = store.walk_sessions(Box::new(|_| panic!("a flaw of the visitor")));
    assert!(matches!(visit.await, Err(StoreError::Failed { .. })));
    assert!(store.health().takes_writes);
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
    let changes = Changes {
        policies: vec![(revision(number), policy_files(number))],
        settings: vec![SettingChange::PolicyReconciled(revision(number), at(second))],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub async fn policies_are_kept_whole(store: &Shared) {
    assert_eq!(settings(store).await.policy_reconciled, None);
    assert_eq!(store.policy_files(&revision(1)).await.unwrap(), None);
    // Kept already, the second time: nothing changes.
    let twice = Changes {
        policies: vec![(revision(1), policy_files(1)), (revision(1), Vec::new())],
        ..Changes::default()
    };
    write(store, twice).await;
    assert_eq!(
        store.policy_files(&revision(1)).await.unwrap(),
        Some(policy_files(1))
    );
    assert_eq!(settings(store).await.policy_reconciled, None);
    reconcile(store, 1, 10).await;
    reconcile(store, 2, 20).await;
    assert_eq!(settings(store).await.policy_reconciled, Some(revision(2)));
    assert_eq!(
        store.policy_files(&revision(1)).await.unwrap(),
        Some(policy_files(1))
    );
    assert_eq!(
        store.policy_files(&revision(2)).await.unwrap(),
        Some(policy_files(2))
    );
}

pub async fn the_last_staleness_bound_of_a_realm_is_kept(store: &Shared) {
    let (production, sandbox) = (realm("production"), realm("sandbox"));
    assert_eq!(settings(store).await.staleness_bounds, BTreeMap::new());
    for (of, seconds) in [
        (&production, 5),
        (&sandbox, 7),
        (&production, 60),
        (&production, 3),
    ] {
        let bound = Duration::from_secs(seconds);
        set(store, SettingChange::StalenessBound(of.clone(), bound)).await;
    }
    let kept = [(production, 3), (sandbox, 7)].map(|(of, seconds)| (of, Duration::from_secs(seconds)));
    assert_eq!(settings(store).await.staleness_bounds, BTreeMap::from(kept));
}

pub async fn the_position_of_an_audit_sink_is_kept(store: &Shared) {
    assert_eq!(settings(store).await.audit_sinks, BTreeMap::new());
    for (name, position) in [("siem", 5), ("file", 7), ("siem", 9)] {
        set(store, SettingChange::AuditSink(name.to_owned(), position)).await;
    }
    let kept = [("siem".to_owned(), 9), ("file".to_owned(), 7)];
    assert_eq!(settings(store).await.audit_sinks, BTreeMap::from(kept));
}

pub async fn a_purge_removes_policies_that_were_replaced(store: &Shared) {
    for (number, second) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
        reconcile(store, number, second).await;
    }
    let kept = async || {
        let mut kept = Vec::new();
        for number in 1..=3 {
            if let Some(files) = store.policy_files(&revision(number)).await.unwrap() {
                assert_eq!(files, policy_files(number));
                kept.push(number);
            }
        }
        kept
    };
    // The second was replaced at 30, the first at 20 and, in force again, at 40.
    let report = purge_before(store, at(100), at(30), 1000).await;
    assert_eq!(report.records, 0);
    let report = purge_before(store, at(100), at(31), 1000).await;
    assert_eq!(report.records, 1);
    assert_eq!(kept().await, [1, 3]);
    purge_before(store, at(1000), at(1000), 1000).await;
    assert_eq!(kept().await, [3]);
    assert_eq!(settings(store).await.policy_reconciled, Some(revision(3)));
    reconcile(store, 1, 50).await;
    assert_eq!(kept().await, [1, 3]);
}

pub async fn pages_end_where_the_items_end(store: &Shared) {
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
                .map(|stored| number(stored.session.id))
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

pub async fn an_index_follows_a_session_that_changes(store: &Shared) {
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

pub async fn a_name_that_begins_like_another_is_another(store: &Shared) {
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

pub async fn concurrent_updates_of_a_session_are_one_after_the_other(store: &Shared) {
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
                let take = move |state: &Snapshot| {
                    let session = &state.session(id).unwrap().session;
                    if session.generation() != generation {
                        return Decision::Abort(false);
                    }
                    let changes = Changes {
                        sessions: vec![Arc::new(rotated(session, at(1)))],
                        events: vec![session_revoked(session, 9)],
                        ..Changes::default()
                    };
                    Decision::Commit(changes, true)
                };
                let taken = store.commit(Reads::default().session(id), take).await;
                if taken.unwrap().0 {
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
    assert_eq!(stored(store, one.id).await.unwrap().generation(), 6);
    assert_eq!(
        sequences(&events_after(store, Sequence(0)).await.unwrap()),
        [1, 2, 3, 4, 5]
    );
}

// === the log ===

pub async fn events_are_gapless_and_can_be_resumed(store: &Shared) {
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
    let batch = store.events(Sequence(4), 2).await.unwrap();
    assert_eq!(sequences(&batch.events), [5, 6]);
    assert_eq!(batch.committed, Sequence(7));
    for after in [7, 8, u64::MAX] {
        let batch = store.events(Sequence(after), 2).await.unwrap();
        assert!(batch.events.is_empty());
        assert_eq!(batch.committed, Sequence(7));
    }
    assert!(store.events(Sequence(0), 0).await.unwrap().events.is_empty());
}

pub async fn concurrent_events_are_gapless(store: &Shared) {
    let new = session_revoked(&session(1), 9);
    let callers: Vec<_> = (0..100)
        .map(|number| {
            let (store, new) = (Arc::clone(store), new.clone());
            tokio::spawn(async move {
                let decide = move |_: &Snapshot| {
                    // Every third is aborted.
                    if number % 3 == 0 {
                        return Decision::Abort(());
                    }
                    let changes = Changes {
                        events: vec![new.clone()],
                        ..Changes::default()
                    };
                    Decision::Commit(changes, ())
                };
                let ((), placed) = store.commit(Reads::default(), decide).await.unwrap();
                placed.last()
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

pub async fn watchers_are_woken_only_for_what_can_be_read(store: &Shared) {
    let mut committed = store.log().subscribe();
    let watcher = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let (mut woken, mut seen) = (Sequence(0), Sequence(0));
            while seen < Sequence(40) {
                committed.changed().await.unwrap();
                let reached = *committed.borrow_and_update();
                assert!(reached > woken, "woken without an event");
                woken = reached;
                let batch = store.events(seen, 100).await.unwrap();
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
    store.log().revocations().read().revokes_session(session)
}

pub async fn revocations_are_folded_in(store: &Shared) {
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
    let revocations = store.log().revocations().read();
    assert_eq!(revocations.len(), 4);
    assert_eq!(revocations.through(), Sequence(4));
}

pub async fn a_cutoff_is_known_to_the_next_unit(store: &Shared) {
    let ann = session(1);
    put(store, &ann).await;
    let known = async || {
        let decide = |state: &Snapshot| Decision::Abort(state.session(session(1).id).unwrap().ended);
        let known = store
            .commit(Reads::default().session(session(1).id), decide)
            .await;
        known.unwrap().0
    };
    assert_eq!(known().await, None);
    let label = ann.labels[1].clone();
    append(store, &event(50, 500, EventBody::LabelRevoked { label })).await;
    assert_eq!(known().await, Some(RevokeReason::Label));
}

async fn purge(store: &Shared, second: i64) -> PurgeReport {
    purge_before(store, at(second), Timestamp::EPOCH, 1000).await
}

/// A purge when no verifier accepts any more what was over before `second`.
async fn purge_after_leeway(store: &Shared, second: i64) -> PurgeReport {
    purge(store, second + i64::from(LEEWAY_MAX.0)).await
}

pub async fn a_cutoff_outlives_its_event(store: &Shared) {
    let ann = session(1);
    append(store, &subject_revoked("user:ann", 50, 500)).await;
    assert_eq!(purge(store, 51).await.events, 1);
    assert!(matches!(
        store.events(Sequence(0), 1).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 500).await;
    assert_eq!(revoked(store, &ann), Some(RevokeReason::Subject));
    purge(store, 501).await;
    assert_eq!(revoked(store, &ann), None);
}

pub async fn a_later_cutoff_never_shortens_an_earlier_one(store: &Shared) {
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

async fn put_request(store: &Shared, request: (RequestKey, RequestRecord)) {
    let changes = Changes {
        requests: vec![request],
        ..Changes::default()
    };
    write(store, changes).await;
}

async fn remembered(store: &Shared, key: &RequestKey) -> Option<RequestRecord> {
    let reads = Reads::default().request(key.clone());
    let state = store.read(reads.clone()).await.unwrap();
    let decide = |state: &Snapshot| Decision::Abort(state.request().cloned());
    let (decided, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(state.request(), decided.as_ref());
    decided
}

pub async fn requests_are_remembered_and_replaced(store: &Shared) {
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

async fn put_api_key(store: &Shared, key: ApiKey) {
    let changes = Changes {
        api_keys: vec![key],
        ..Changes::default()
    };
    write(store, changes).await;
}

async fn put_audit(store: &Shared, second: i64) {
    let changes = Changes {
        audit: vec![audit_record(second, session(1).id)],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub async fn api_keys_are_listed_by_realm(store: &Shared) {
    for key in [
        api_key(3, "production"),
        api_key(1, "production"),
        api_key(2, "sandbox"),
    ] {
        put_api_key(store, key).await;
    }
    let revoked = ApiKey {
        revoked_at: Some(at(1)),
        ..api_key(1, "production")
    };
    let reads = Reads::default().api_key(api_key_id(1));
    let decide = |state: &Snapshot| Decision::Abort(state.api_key(&api_key_id(1)).cloned());
    let (before, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(before, Some(api_key(1, "production")));
    // Read before the change and after it: a backend that keeps what was read must not give it again.
    let read = store.api_key(&api_key_id(1)).await.unwrap();
    assert_eq!(read.as_deref(), before.as_ref());
    put_api_key(store, revoked.clone()).await;
    assert_eq!(
        store.api_key(&api_key_id(1)).await.unwrap(),
        Some(Arc::new(revoked.clone()))
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

pub async fn api_keys_are_found_by_their_maker(store: &Shared) {
    let made = |number, maker| ApiKey {
        made_with: Some(api_key_id(maker)),
        ..api_key(number, "production")
    };
    for key in [api_key(1, "production"), made(2, 1), made(3, 1), made(4, 2)] {
        put_api_key(store, key).await;
    }
    let found = async || {
        let reads = Reads::default().made_with([1, 2, 3].map(api_key_id));
        let read = store.read(reads.clone()).await.unwrap();
        let decide = |state: &Snapshot| Decision::Abort(state.made.clone());
        let (decided, _) = store.commit(reads, decide).await.unwrap();
        assert_eq!(read.made, decided);
        assert!(read.made_with(&api_key_id(4)).is_none());
        [1, 2, 3].map(|maker| {
            let made = read.made_with(&api_key_id(maker)).unwrap();
            made.iter().map(|key| key.id.clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(
        found().await,
        [vec![api_key_id(2), api_key_id(3)], vec![api_key_id(4)], vec![]]
    );
    let removed = Changes {
        removed_api_keys: vec![made(2, 1)],
        ..Changes::default()
    };
    write(store, removed).await;
    assert_eq!(found().await, [vec![api_key_id(3)], vec![api_key_id(4)], vec![]]);
}

pub async fn api_keys_are_removed(store: &Shared) {
    for number in [1, 2] {
        let key = api_key(number, "production");
        put_api_key(store, key).await;
    }
    write(
        store,
        Changes {
            removed_api_keys: vec![api_key(1, "production")],
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(store.api_key(&api_key_id(1)).await.unwrap(), None);
    let page = PageRequest {
        after: None,
        limit: 10,
    };
    let left = store.api_keys(&realm("production"), page).await.unwrap();
    assert_eq!(left.items, [api_key(2, "production")]);
}

pub async fn clients_are_disabled_and_enabled(store: &Shared) {
    let client = |name: &str| ClientName::parse(name).unwrap();
    for (name, is_disabled) in [("client:app", true), ("client:shop", true), ("client:app", false)] {
        let change = ClientChange {
            realm: realm("production"),
            client: client(name),
            is_disabled,
        };
        write(
            store,
            Changes {
                clients: vec![change],
                ..Changes::default()
            },
        )
        .await;
        assert_eq!(
            client_state(store, "production", name).await.is_disabled,
            is_disabled
        );
    }
    let left = settings(store).await.disabled_clients;
    assert_eq!(left, [(realm("production"), client("client:shop"))]);
    assert!(client_state(store, "production", "client:shop").await.is_disabled);
    assert!(!client_state(store, "sandbox", "client:shop").await.is_disabled);
    assert!(!client_state(store, "production", "client:app").await.is_disabled);
}

async fn client_state(store: &Shared, of: &str, name: &str) -> ClientState {
    let (realm, client) = (realm(of), ClientName::parse(name).unwrap());
    let reads = Reads::default().client(realm.clone(), client.clone());
    let read = store.read(reads.clone()).await.unwrap().client(&realm, &client);
    let decide = move |state: &Snapshot| Decision::Abort(state.client(&realm, &client));
    let (decided, _) = store.commit(reads, decide).await.unwrap();
    assert_eq!(read, decided);
    decided
}

pub async fn signing_keys_are_listed_oldest_first(store: &Shared) {
    let key = |name: &str, second| SigningKey {
        id: KeyId::parse(&format!("k4.pid.{}", name.repeat(44))).unwrap(),
        realm: realm("production"),
        public: "k4.public.x".to_owned(),
        sealed_secret: "sealed".to_owned(),
        sealed_with: "k4.lid.x".to_owned(),
        sealed_at: at(second),
        status: KeyStatus::Published,
        published_at: at(second),
        not_before: at(second),
        not_after: None,
        token_ttl_max: Seconds::DAY,
    };
    for key in [key("b", 1), key("a", 3), key("c", 2)] {
        put_signing_key(store, key).await;
    }
    let active = SigningKey {
        status: KeyStatus::Active,
        ..key("c", 2)
    };
    put_signing_key(store, active.clone()).await;
    assert_eq!(
        store.signing_keys().await.unwrap(),
        [key("b", 1), active.clone(), key("a", 3)]
    );
    let removed = Changes {
        removed_signing_keys: vec![active.id.clone()],
        ..Changes::default()
    };
    write(store, removed).await;
    assert_eq!(store.signing_keys().await.unwrap(), [key("b", 1), key("a", 3)]);
}

async fn put_signing_key(store: &Shared, key: SigningKey) {
    let changes = Changes {
        signing_keys: vec![key],
        ..Changes::default()
    };
    write(store, changes).await;
}

pub async fn the_sessions_of_a_client_are_counted(store: &Shared) {
    async fn count(store: &Shared) -> u64 {
        client_state(store, "production", "client:cms").await.sessions
    }
    async fn count_of(store: &Shared, realm: &str) -> u64 {
        let realm = realm.parse().unwrap();
        store.session_count(&realm).await.unwrap()
    }
    assert_eq!(count(store).await, 0);
    let (one, two) = (session(1), session(2));
    let sessions = [one.clone(), two, rotated(&one, at(5))].map(Arc::new);
    write(
        store,
        Changes {
            sessions: sessions.into(),
            ..Changes::default()
        },
    )
    .await;
    assert_eq!(count(store).await, 2);
    let other = Session {
        client: "client:other".parse::<ClientName>().unwrap(),
        ..session(3)
    };
    put(store, &other).await;
    assert_eq!(count(store).await, 2, "another client's does not count");
    assert_eq!(count_of(store, "production").await, 3, "in the realm it does");
    assert_eq!(count_of(store, "prod").await, 0);
    assert_eq!(count_of(store, "sandbox").await, 0);
    put(store, &rotated(&session(1), at(9))).await;
    put(store, &session(2).revoked(RevokeReason::Requested, at(50))).await;
    assert_eq!(count(store).await, 2, "ended ones count until they are removed");
    while purge_before(store, at(130), at(0), 1).await.more {}
    assert_eq!(count(store).await, 1);
    while purge_before(store, at(5000), at(0), 1).await.more {}
    assert_eq!(count(store).await, 0);
}

pub async fn each_group_that_is_durable_is_told(store: &Shared) {
    type Told = Arc<Mutex<Vec<(usize, bool, usize)>>>;
    let told = Told::default();
    let seen = Arc::clone(&told);
    store.observe_commits(Arc::new(move |group| {
        let is_within = group.synced <= group.took;
        let events = group.events.len();
        seen.lock().unwrap().push((group.units, is_within, events));
    }));
    put(store, &session(1)).await;
    let decide = |_: &Snapshot| Decision::Abort(());
    store.commit(Reads::default(), decide).await.unwrap();
    append(store, &subject_revoked("user:bob", 50, 500)).await;
    assert_eq!(*told.lock().unwrap(), [(1, true, 0), (1, true, 1)]);
}

pub async fn audit_records_are_in_the_commit_of_what_they_record(store: &Shared) {
    let one = session(1);
    write(
        store,
        Changes {
            sessions: vec![Arc::new(one.clone())],
            audit: (1..=3).map(|second| audit_record(second, one.id)).collect(),
            ..Changes::default()
        },
    )
    .await;
    let all = store.audit(0, 10).await.unwrap();
    assert_eq!(
        all,
        [1, 2, 3].map(|second| (second as u64, audit_record(second, one.id)))
    );
    assert_eq!(store.audit(1, 1).await.unwrap(), all[1..2]);
    assert!(store.audit(3, 10).await.unwrap().is_empty());
    assert!(store.audit(u64::MAX, 10).await.unwrap().is_empty());
}

pub async fn each_audit_record_is_linked_to_those_before_it(store: &Shared) {
    let mut head = store.audit_head();
    assert_eq!(*head.borrow(), AuditHead::EMPTY);
    for second in 1..=5 {
        put_audit(store, second).await;
        assert!(head.has_changed().unwrap(), "whoever waits is woken");
        head.mark_unchanged();
    }
    let page = store.audit_page(AuditQuery::after(0, 10)).await.unwrap();
    let mut expected = AuditHead::EMPTY;
    for entry in &page.entries {
        let (next, encoded) = expected.append(&entry.record).unwrap();
        assert_eq!(
            (entry.position, entry.previous, entry.link(), &entry.encoded),
            (next.position, expected.link, next.link, &encoded)
        );
        expected = next;
    }
    assert_eq!((*head.borrow(), page.through), (expected, 5));
}

pub async fn a_part_of_the_audit_trail_is_looked_at(store: &Shared) {
    // The clock is set back in between.
    for second in [10, 20, 30, 15, 40] {
        put_audit(store, second).await;
    }
    let all = AuditQuery::after(0, 100);
    let found = async |query: AuditQuery| {
        let page = store.audit_page(query).await.unwrap();
        let positions = page.entries.iter().map(|entry| entry.position);
        (positions.collect::<Vec<_>>(), page.through)
    };
    assert_eq!(
        found(AuditQuery {
            from: at(15),
            until: at(30),
            ..all
        })
        .await,
        (vec![2, 3, 4], 5)
    );
    assert_eq!(
        found(AuditQuery {
            after: 1,
            through: 3,
            ..all
        })
        .await,
        (vec![2, 3], 3)
    );
    assert_eq!(
        found(AuditQuery {
            limit: 2,
            from: at(20),
            ..all
        })
        .await,
        (vec![2], 2)
    );
    assert_eq!(
        found(AuditQuery {
            after: 2,
            limit: 0,
            ..all
        })
        .await,
        (vec![], 2)
    );
    assert_eq!(found(AuditQuery { after: 9, ..all }).await, (vec![], 5));
    assert_eq!(found(AuditQuery { from: at(41), ..all }).await, (vec![], 5));
}

// === purging ===

pub async fn a_purge_removes_sessions_that_are_dead_and_no_others(store: &Shared) {
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
        SessionIndex::Credential(realm("production"), idle.credential.clone()),
    ] {
        assert!(list(store, index).await.is_empty());
    }
    assert_eq!(purge(store, 9999).await, PurgeReport::default());
}

pub async fn a_purge_follows_a_session_that_was_refreshed(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    let refreshed = rotated(&one, at(90));
    put(store, &refreshed).await;
    // Alive until 190, a tombstone until 200 and the leeway, although it would have been gone after 111.
    assert_eq!(purge_after_leeway(store, 150).await.sessions, 0);
    assert_eq!(stored(store, one.id).await, Some(refreshed.clone()));
    assert_eq!(purge_after_leeway(store, 200).await.sessions, 0);
    // Revoked, it goes earlier than the purge that looked at it last expected.
    put(store, &refreshed.revoked(RevokeReason::Reuse, at(160))).await;
    assert_eq!(purge_after_leeway(store, 170).await.sessions, 0);
    assert_eq!(purge_after_leeway(store, 171).await.sessions, 1);
}

pub async fn a_purge_removes_the_oldest_events_only(store: &Shared) {
    let one = session(1);
    for until in [10, 20, 100, 30, 200] {
        append(store, &session_revoked(&one, until)).await;
    }
    assert_eq!(purge(store, 10).await.events, 0);
    // The fourth is dead, too, but behind one that matters: the log has no gap.
    assert_eq!(purge(store, 50).await.events, 2);
    assert!(matches!(
        store.events(Sequence(1), 9).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(
        sequences(&store.events(Sequence(2), 9).await.unwrap().events),
        [3, 4, 5]
    );
    assert_eq!(purge(store, 101).await.events, 2);
    assert_eq!(purge(store, 999).await.events, 1);
    assert!(store.events(Sequence(5), 9).await.unwrap().events.is_empty());
    assert_eq!(append(store, &session_revoked(&one, 2000)).await, Sequence(6));
    assert_eq!(
        sequences(&store.events(Sequence(5), 9).await.unwrap().events),
        [6]
    );
}

pub async fn an_event_dated_years_ahead_does_not_keep_those_behind_it(store: &Shared) {
    let years = 10 * 365 * 24 * 3600;
    append(store, &session_revoked(&session(1), years)).await;
    append(store, &subject_revoked("user:bob", years, years)).await;
    for until in [10, 20, 100] {
        append(store, &session_revoked(&session(2), until)).await;
    }
    assert_eq!(purge(store, 50).await.events, 2);
    assert_eq!(store.log().floor(), Sequence(4));
    assert_eq!(sequences(&events_after(store, Sequence(4)).await.unwrap()), [5]);
    // Whoever begins to follow learns of them all the same.
    let left = store.events_below_floor().await.unwrap();
    assert_eq!(sequences(&left), [1, 2]);
    assert_eq!(purge(store, 101).await.events, 1);
    assert_eq!(purge(store, years + 1).await.events, 2);
    assert!(store.events_below_floor().await.unwrap().is_empty());
    assert_eq!(store.log().floor(), Sequence(5));
}

pub async fn a_revocation_outlives_a_token_that_was_issued_by_a_clock_ahead(store: &Shared) {
    let two_hours = 2 * 3600;
    put_audit(store, two_hours).await;
    // The clock is right again. What is revoked now ends tokens that live two hours longer.
    append(store, &subject_revoked("user:ann", 100, 200)).await;
    append(store, &session_revoked(&session(1), 100)).await;
    let until = |event: &Event| event.relevant_until;
    let events = events_after(store, Sequence(0)).await.unwrap();
    assert!(events.iter().all(|event| until(event) == at(100 + two_hours)));
    assert_eq!(purge(store, 1000).await.events, 0);
    let revoked = |store: &Shared| {
        let revocations = store.log().revocations().read();
        revocations.revokes_session(&session(1)).is_some()
    };
    assert_eq!(purge(store, 100 + two_hours).await.events, 0);
    assert!(revoked(store));
    assert_eq!(purge(store, 101 + two_hours).await.events, 2);
    assert!(revoked(store), "its session lives longer");
    purge(store, 201 + two_hours).await;
    assert!(!revoked(store));
}

pub async fn a_purge_removes_requests_and_audit_records(store: &Shared) {
    let (first, second) = (request(1, 100), request(2, 200));
    put_request(store, first.clone()).await;
    put_request(store, second.clone()).await;
    // Given another time, it is kept until that.
    put_request(store, request(1, 150)).await;
    for second in [10, 20, 30] {
        put_audit(store, second).await;
    }
    let report = purge_before(store, at(120), at(20), 1000).await;
    assert_eq!(
        report,
        PurgeReport {
            records: 1,
            ..PurgeReport::default()
        }
    );
    assert!(remembered(store, &first.0).await.is_some());
    let report = purge_before(store, at(151), at(31), 1000).await;
    assert_eq!(
        report,
        PurgeReport {
            records: 3,
            ..PurgeReport::default()
        }
    );
    assert_eq!(remembered(store, &first.0).await, None);
    assert_eq!(remembered(store, &second.0).await, Some(second.1));
    assert!(store.audit(0, 10).await.unwrap().is_empty());
    put_audit(store, 40).await;
    assert_eq!(store.audit(0, 10).await.unwrap()[0].0, 4);
}

pub async fn a_purge_says_how_far_it_came_and_where_the_log_begins(store: &Shared) {
    assert_eq!(
        (store.log().purged_through(), store.log().floor()),
        (None, Sequence(0))
    );
    purge(store, 20).await;
    assert_eq!(store.log().purged_through(), Some(at(20)));
    for until in [30, 9000] {
        append(store, &session_revoked(&session(1), until)).await;
    }
    purge(store, 31).await;
    assert_eq!(
        (store.log().purged_through(), store.log().floor()),
        (Some(at(31)), Sequence(1))
    );
    // It never goes back, whatever a clock says.
    purge(store, 25).await;
    assert_eq!(store.log().purged_through(), Some(at(31)));
    purge(store, 31 + 3600).await;
    assert_eq!(store.log().purged_through(), Some(at(31 + 3600)));
}

pub async fn a_purge_stops_at_its_limit_and_goes_on(store: &Shared) {
    for number in 1..=300 {
        put(store, &session(number)).await;
    }
    let report = purge_before(store, at(9999), Timestamp::EPOCH, 7).await;
    assert_eq!(
        report,
        PurgeReport {
            sessions: 7,
            more: true,
            ..PurgeReport::default()
        }
    );
    let report = purge_before(store, at(9999), Timestamp::EPOCH, 280).await;
    assert_eq!(
        report,
        PurgeReport {
            sessions: 280,
            more: true,
            ..PurgeReport::default()
        }
    );
    let report = purge_before(store, at(9999), Timestamp::EPOCH, 13).await;
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

pub async fn a_store_that_is_closed_answers_so(store: &Shared) {
    let one = session(1);
    put(store, &one).await;
    append(store, &session_revoked(&one, 9)).await;
    let waiting: Vec<_> = (2..30)
        .map(|number| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let begun = Changes {
                    sessions: vec![Arc::new(session(number))],
                    ..Changes::default()
                };
                let result = store.write(begun).await;
                assert!(matches!(result, Ok(_) | Err(StoreError::Closed)), "{result:?}");
            })
        })
        .collect();
    store.close().await.unwrap();
    for caller in waiting {
        caller.await.unwrap();
    }
    let closed =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Closed)), "{result:?}");
    closed(store.write(Changes::default()).await.map(drop));
    closed(store.session(one.id).await.map(drop));
    closed(store.api_key(&api_key_id(1)).await.map(drop));
    closed(store.signing_keys().await.map(drop));
    closed(store.events(Sequence(0), 1).await.map(drop));
    closed(store.audit(0, 1).await.map(drop));
    let before = PurgeBefore {
        horizon: at(0),
        audit: at(0),
    };
    closed(store.purge(before, 1).await.map(drop));
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
    assert!(!store.health().takes_writes);
}
