//! Jobs that can wait: they go with those of others, or alone once their patience is over.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::{
    future::{pending, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use fixture::{put, session};
use tempfile::TempDir;
use tessera_store::{MemoryStore, SledOptions, SledStore, Store, StoreError, StoreExt};

fn open() -> (TempDir, Arc<dyn Store>) {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
    (directory, Arc::new(store))
}

#[tokio::test]
async fn one_that_waits_for_ever_goes_with_the_next_of_others() {
    let (_directory, store) = open();
    let patient = store.transact_patiently(Box::pin(pending()), |tx| tx.put_session(&session(1)));
    let mut patient = pin!(patient);
    let poll = patient.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    assert_eq!(store.session(session(1).id).await.unwrap(), None);

    put(&store, &session(2)).await;
    patient.await.unwrap();
    assert_eq!(store.session(session(1).id).await.unwrap(), Some(session(1)));
}

#[tokio::test]
async fn one_whose_patience_is_over_goes_alone() {
    let (_directory, sled) = open();
    for store in [sled, Arc::new(MemoryStore::new())] {
        let put = store.transact_patiently(Box::pin(ready(())), |tx| {
            tx.put_session(&session(1))?;
            Ok(7)
        });
        assert_eq!(put.await.unwrap(), 7);
        assert_eq!(store.session(session(1).id).await.unwrap(), Some(session(1)));
    }
}

#[tokio::test]
async fn one_that_fails_writes_nothing_and_harms_no_other() {
    let (_directory, store) = open();
    let patient = store.transact_patiently(Box::pin(pending()), |tx| -> Result<(), _> {
        tx.put_session(&session(1))?;
        Err(StoreError::EventsForgotten)
    });
    let other = session(2);
    let (failed, ()) = tokio::join!(biased; patient, put(&store, &other));
    assert!(matches!(failed, Err(StoreError::EventsForgotten)));
    assert_eq!(store.session(session(1).id).await.unwrap(), None);
    assert_eq!(store.session(session(2).id).await.unwrap(), Some(session(2)));
}

#[tokio::test]
async fn one_that_waits_when_the_store_closes_is_the_last() {
    let (directory, store) = open();
    let patient = store.transact_patiently(Box::pin(pending()), |tx| tx.put_session(&session(1)));
    let (answer, closed) = tokio::join!(biased; patient, store.close());
    answer.unwrap();
    closed.unwrap();
    let again = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
    assert_eq!(again.session(session(1).id).await.unwrap(), Some(session(1)));

    let late = store.transact_patiently(Box::pin(ready(())), |_| Ok(()));
    assert!(matches!(late.await, Err(StoreError::Closed)));
    let endless = store.transact_patiently(Box::pin(pending()), |_| Ok(()));
    assert!(matches!(endless.await, Err(StoreError::Closed)));
}
