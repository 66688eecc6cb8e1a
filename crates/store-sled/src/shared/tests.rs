//! Tests of yielding to the writer.

use std::{sync::Arc, thread};

use tempfile::TempDir;

use tessera_store::{Decision, Priority, Reads, Store};

use crate::{SledOptions, SledStore};

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
async fn somebody_waits_for_the_foreground_and_not_for_what_is_alone_in_the_background() {
    let (_directory, sled) = open();
    let shared = Arc::clone(&sled.shared);
    let is_awaited = move || *shared.is_awaited.lock();
    let store: Arc<dyn Store> = sled;
    let commit = async |priority| {
        let asked = is_awaited.clone();
        let decide = move |_: &tessera_store::Snapshot| Decision::Abort(asked());
        let committed = store.commit_with(priority, Reads::default(), decide).await;
        committed.unwrap().0
    };
    assert!(commit(Priority::Foreground).await);
    let alone = Priority::Background {
        max_delay: Duration::ZERO,
    };
    assert!(!commit(alone).await);
    assert!(!is_awaited());
}
