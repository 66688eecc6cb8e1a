//! Backups of the store on sled: one at a time, and none that outlasts the store.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc},
};

use tempfile::TempDir;
use tessera_store::{BackupError, Store, StoreError};
use tessera_store_conformance::fixture::{put, session};
use tessera_store_sled::{SledOptions, SledStore};

type Shared = Arc<dyn Store>;

fn open(directory: &TempDir) -> Shared {
    Arc::new(SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap())
}

/// A backup that waits at its first record, a signal that it does, and a handle that releases it.
fn held(
    store: &Shared,
) -> (
    tokio::task::JoinHandle<Result<(), BackupError>>,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (waits, waiting) = mpsc::channel();
    let (go, going) = mpsc::channel::<()>();
    let visit = move |_| {
        waits.send(()).unwrap();
        // After an error it continues without a limit.
        let _ = going.recv();
        ControlFlow::Continue(())
    };
    let store = Arc::clone(store);
    let task = tokio::spawn(async move { store.back_up(Box::new(visit)).await.map(drop) });
    (task, waiting, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_backup_is_made_at_a_time() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, &session(1)).await;
    let (first, waiting, go) = held(&store);
    waiting.recv().unwrap();
    let second = store.back_up(Box::new(|_| ControlFlow::Continue(()))).await;
    assert!(matches!(second, Err(BackupError::Busy)), "{second:?}");
    drop(go);
    first.await.unwrap().unwrap();
    store
        .back_up(Box::new(|_| ControlFlow::Continue(())))
        .await
        .unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_closed_ends_its_backup_and_waits_for_none() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, &session(1)).await;
    let (backup, waiting, go) = held(&store);
    waiting.recv().unwrap();
    store.close().await.unwrap();
    drop(go);
    let ended = backup.await.unwrap();
    assert!(
        matches!(ended, Err(BackupError::Store(StoreError::Closed))),
        "{ended:?}"
    );
    drop(store);
    open(&directory).close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_a_backup_waits_for_whoever_takes_it() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, &session(1)).await;
    let (backup, waiting, go) = held(&store);
    waiting.recv().unwrap();
    put(&store, &session(2)).await;
    drop(go);
    backup.await.unwrap().unwrap();
    store.close().await.unwrap();
}
