//! Background units: they are committed with others, or alone once they have waited long enough.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tempfile::TempDir;
use tessera_store::{Changes, Decision, Placed, Priority, Reads, Snapshot, Store, StoreError};
use tessera_store_conformance::fixture::{put, session, stored};
use tessera_store_sled::{SledOptions, SledStore};

const EVER: Priority = Priority::Background {
    max_delay: Duration::from_secs(3600),
};
const NOT_AT_ALL: Priority = Priority::Background {
    max_delay: Duration::ZERO,
};

fn open(directory: &TempDir) -> Arc<dyn Store> {
    let store = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
    Arc::new(store)
}

/// Begins session 1.
async fn begin(store: &Arc<dyn Store>, priority: Priority) -> Result<((), Placed), StoreError> {
    let decide = |_: &Snapshot| {
        let changes = Changes {
            sessions: vec![Arc::new(session(1))],
            ..Changes::default()
        };
        Decision::Commit(changes, ())
    };
    store.commit_with(priority, Reads::default(), decide).await
}

#[tokio::test]
async fn one_that_waits_for_ever_goes_with_the_next_of_others() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut behind = pin!(begin(&store, EVER));
    let poll = behind.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    assert_eq!(stored(&store, session(1).id).await, None);

    put(&store, &session(2)).await;
    behind.await.unwrap();
    assert_eq!(stored(&store, session(1).id).await, Some(session(1)));
}

#[tokio::test]
async fn one_that_has_waited_long_enough_goes_alone() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    begin(&store, NOT_AT_ALL).await.unwrap();
    assert_eq!(stored(&store, session(1).id).await, Some(session(1)));
}

#[tokio::test]
async fn one_that_is_aborted_writes_nothing_and_harms_no_other() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let behind = store.commit_with(EVER, Reads::default(), |_: &Snapshot| Decision::Abort(7));
    let other = session(2);
    let (aborted, ()) = tokio::join!(biased; behind, put(&store, &other));
    assert_eq!(aborted.unwrap(), (7, Placed::default()));
    assert_eq!(stored(&store, session(1).id).await, None);
    assert_eq!(stored(&store, session(2).id).await, Some(session(2)));
}

#[tokio::test]
async fn one_that_waits_when_the_store_closes_is_the_last() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (answer, closed) = tokio::join!(biased; begin(&store, EVER), store.close());
    answer.unwrap();
    closed.unwrap();
    let again = open(&directory);
    assert_eq!(stored(&again, session(1).id).await, Some(session(1)));

    for priority in [NOT_AT_ALL, EVER] {
        let late = begin(&store, priority).await;
        assert!(matches!(late, Err(StoreError::Closed)));
    }
}
