//! Units of work: all or nothing, durable before they are answered.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tessera_core::{Sequence, SessionId};
use tessera_store::{
    Changes, Decision, PageRequest, Priority, PurgeBefore, Reads, SessionIndex, SettingChange, Snapshot,
    StoreError,
};

use super::state::{Shared, list, set};
use crate::fixture::{
    api_key, api_key_id, append, at, audit_record, put, realm, rotated, session, session_revoked, stored,
    subject_revoked, write,
};

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

/// The session of an idempotent request is known only after its record was read.
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

/// A unit alone waits no longer than its delay, and then it is committed like others.
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
        // It is committed with another unit: with any unit that is sent after it.
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

pub async fn each_group_that_is_durable_is_told(store: &Shared) {
    type Told = Arc<Mutex<Vec<(usize, bool, usize)>>>;
    let told = Told::default();
    let seen = Arc::clone(&told);
    store.log().observe_commits(Arc::new(move |group| {
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
    each_call_is_refused(store, one.id).await;
    assert!(!store.health().takes_writes);
}

/// Checks that a closed store answers every call with [`StoreError::Closed`].
async fn each_call_is_refused(store: &Shared, session: SessionId) {
    let closed =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Closed)), "{result:?}");
    closed(store.write(Changes::default()).await.map(drop));
    closed(store.session(session).await.map(drop));
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
                &all,
                PageRequest {
                    after: None,
                    limit: 1,
                },
            )
            .await
            .map(drop),
    );
    closed(store.close().await);
}
