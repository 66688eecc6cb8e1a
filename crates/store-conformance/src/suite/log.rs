//! The log of events: without gaps, and as short as possible.

use std::sync::Arc;

use tessera_core::{EventBody, LEEWAY_MAX, PolicyRevision, Sequence, Timestamp};
use tessera_store::{Changes, Decision, PurgeReport, Reads, Snapshot, StoreError};

use super::state::{Shared, purge};
use crate::fixture::{
    append, at, event, events_after, purge_before, put, sequences, session, session_revoked, subject_revoked,
};

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
                    // Every third unit is aborted.
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
        // A commit without events wakes no receiver.
        put(store, &one).await;
    }
    watcher.await.unwrap();
}

pub async fn a_purge_removes_the_oldest_events_only(store: &Shared) {
    let one = session(1);
    for until in [10, 20, 100, 30, 200] {
        append(store, &session_revoked(&one, until)).await;
    }
    assert_eq!(purge(store, 10).await.events, 0);
    // The fourth is expired too, but after one that still matters: the log has no gap.
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
    // A follower that begins now still gets them.
    let left = store.events_below_floor().await.unwrap();
    assert_eq!(sequences(&left), [1, 2]);
    let decide = |state: &Snapshot| Decision::Abort(state.events_below_floor.clone());
    let reads = Reads::default().events_below_floor();
    assert_eq!(store.commit(reads, decide).await.unwrap().0, left);
    assert_eq!(purge(store, 101).await.events, 1);
    assert_eq!(purge(store, years + 1).await.events, 2);
    assert!(store.events_below_floor().await.unwrap().is_empty());
    assert_eq!(store.log().floor(), Sequence(5));
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
    // It never goes back, whatever the clock says.
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
