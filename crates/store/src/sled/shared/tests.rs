//! Who gives way to the writer, and when.

use std::{future::ready, thread};

use tempfile::TempDir;

use super::super::{SledOptions, SledStore};
use crate::{store::Store, store::StoreExt};

use super::*;

const EVER: Duration = Duration::from_secs(3600);

fn open() -> (TempDir, Arc<SledStore>) {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
    (directory, Arc::new(store))
}

#[tokio::test]
async fn one_gives_way_while_somebody_waits_for_the_writer() {
    let (_directory, store) = open();
    store.shared.give_way(EVER);
    store.shared.set_awaited(true);
    store.shared.give_way(Duration::ZERO);

    let shared = Arc::clone(&store.shared);
    let giving = thread::spawn(move || shared.give_way(EVER));
    store.shared.set_awaited(false);
    giving.join().unwrap();
}

#[tokio::test]
async fn somebody_waits_for_jobs_but_not_for_those_that_are_alone_and_patient() {
    let (_directory, sled) = open();
    let shared = Arc::clone(&sled.shared);
    let is_awaited = move || *shared.is_awaited.lock().unwrap();
    let store: Arc<dyn Store> = sled;
    let asked = is_awaited.clone();
    assert!(store.transact(move |_| Ok(asked())).await.unwrap());
    let asked = is_awaited.clone();
    let patient = store.transact_patiently(Box::pin(ready(())), move |_| Ok(asked()));
    assert!(!patient.await.unwrap());
    assert!(!is_awaited());
}
