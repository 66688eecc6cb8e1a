//! A directory that was restored from a copy begins a new log.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, sync::Arc};

use tempfile::TempDir;
use tessera_core::Sequence;
use tessera_store::{Store, StoreError};
use tessera_store_conformance::fixture::{
    append, at, purge_before, put, sequences, session, stored, subject_revoked,
};
use tessera_store_sled::{SledOptions, SledStore};

type Shared = Arc<dyn Store>;

fn open(path: &Path) -> Shared {
    Arc::new(SledStore::open(path, SledOptions::default()).unwrap())
}

fn open_restored(path: &Path) -> Shared {
    Arc::new(SledStore::open_restored(path, SledOptions::default()).unwrap())
}

async fn places(store: &Shared, after: Sequence) -> Vec<u64> {
    sequences(&store.events(after, 10).await.unwrap().events)
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
    let log = before.log().id();
    before.close().await.unwrap();
    drop(before);

    let store = open_restored(directory.path());
    let first = append(&store, &subject_revoked("user:ann", 600, 600)).await;
    assert!(first > Sequence(u64::from(u32::MAX)), "{first:?}");
    store.close().await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_ne!(store.log().id(), log);
    assert_eq!(store.log().committed(), first);
    let floor = store.log().floor();
    assert_eq!(floor.next(), first);
    assert_eq!(places(&store, floor).await, [first.0]);
    assert!(matches!(
        store.events(Sequence(0), 2).await,
        Err(StoreError::EventsForgotten)
    ));
    assert_eq!(stored(&store, session(1).id).await, Some(session(1)));
}

#[tokio::test]
async fn nothing_is_changed_before_its_first_group() {
    let directory = begun().await;
    let restored = open_restored(directory.path());
    let new = restored.log().id();
    restored.close().await.unwrap();
    drop(restored);

    let store = open(directory.path());
    assert_ne!(store.log().id(), new);
    assert_eq!(places(&store, Sequence(0)).await, [1, 2, 3]);
}

#[tokio::test]
async fn the_events_before_it_are_swept_and_its_own_are_not() {
    let directory = begun().await;
    let store = open_restored(directory.path());
    let first = append(&store, &subject_revoked("user:ann", 5000, 5000)).await;
    let floor = store.log().floor();
    let purged = purge_before(&store, at(1000), at(0), 100).await;
    assert_eq!(purged.events, 3);
    store.close().await.unwrap();
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.log().floor(), floor);
    assert_eq!(places(&store, floor).await, [first.0]);
}
