//! A directory that was restored from a copy begins a log of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::{path::Path, sync::Arc};

use fixture::{append, at, put, sequences, session, subject_revoked};
use tempfile::TempDir;
use tessera_core::Sequence;
use tessera_store::{SledOptions, SledStore, Store, StoreError};

type Shared = Arc<dyn Store>;

fn open(path: &Path) -> Shared {
    Arc::new(SledStore::open(path, SledOptions::default()).unwrap())
}

fn open_restored(path: &Path) -> Shared {
    Arc::new(SledStore::open_restored(path, SledOptions::default()).unwrap())
}

async fn places(store: &Shared, after: Sequence) -> Vec<u64> {
    sequences(&store.events_after(after, 10).await.unwrap().events)
}

/// A directory with a session and three events that matter until second 500.
async fn begun() -> TempDir {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    put(&store, &session(1)).await;
    for subject in ["user:ann", "user:bob", "user:eve"] {
        append(&store, &subject_revoked(subject, 500, 500)).await;
    }
    store.close().await.unwrap();
    directory
}

#[tokio::test]
async fn its_places_are_after_all_of_the_log_before() {
    let directory = begun().await;
    let before = open(directory.path());
    let log = before.log_id();
    before.close().await.unwrap();
    drop(before);

    let store = open_restored(directory.path());
    let first = append(&store, &subject_revoked("user:ann", 600, 600)).await;
    assert!(first > Sequence(u64::from(u32::MAX)), "{first:?}");
    store.close().await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_ne!(store.log_id(), log);
    assert_eq!(*store.committed().borrow(), first);
    let floor = store.events_floor();
    assert_eq!(floor.next(), first);
    assert_eq!(places(&store, floor).await, [first.0]);
    assert!(matches!(
        store.events_after(Sequence(0), 2).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(store.session(session(1).id).await.unwrap(), Some(session(1)));
}

#[tokio::test]
async fn nothing_is_changed_before_its_first_group() {
    let directory = begun().await;
    let restored = open_restored(directory.path());
    let new = restored.log_id();
    restored.close().await.unwrap();
    drop(restored);

    let store = open(directory.path());
    assert_ne!(store.log_id(), new);
    assert_eq!(places(&store, Sequence(0)).await, [1, 2, 3]);
}

#[tokio::test]
async fn the_events_before_it_are_swept_and_its_own_are_not() {
    let directory = begun().await;
    let store = open_restored(directory.path());
    let first = append(&store, &subject_revoked("user:ann", 5000, 5000)).await;
    let floor = store.events_floor();
    let purged = store.purge(at(1000), at(0), 100).await.unwrap();
    assert_eq!(purged.events, 3);
    store.close().await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.events_floor(), floor);
    assert_eq!(places(&store, floor).await, [first.0]);
}
