//! The audit trail before its newest records: in files beside the rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use tessera_core::Timestamp;
use tessera_store::{AuditQuery, Changes, Store, StoreError};
use tessera_store_conformance::fixture::{at, audit_record, purge_before, put, session, write};
use tessera_store_sled::{SledOptions, SledStore};

/// The number of records that the rows keep.
const ROWS: u64 = 10;
const DAY: i64 = 24 * 60 * 60;

type Shared = Arc<dyn Store>;

fn open(path: &Path) -> Shared {
    let options = SledOptions {
        audit_rows_max: ROWS,
        ..SledOptions::default()
    };
    Arc::new(SledStore::open(path, options).unwrap())
}

/// Writes a record for each of the seconds.
async fn record(store: &Shared, seconds: impl IntoIterator<Item = i64>) {
    let records = seconds
        .into_iter()
        .map(|second| audit_record(second, session(1).id));
    let changes = Changes {
        audit: records.collect(),
        ..Changes::default()
    };
    write(store, changes).await;
}

async fn purge(store: &Shared, audit_before: Timestamp) {
    while purge_before(store, at(0), audit_before, 1000).await.more {}
}

/// The positions of the whole trail, after a check that each record is the one that was written there.
async fn trail(store: &Shared, second_of: impl Fn(u64) -> i64) -> Vec<u64> {
    let all = store.audit(0, usize::MAX).await.unwrap();
    for (position, record) in &all {
        assert_eq!(record.at, at(second_of(*position)), "{position}");
    }
    all.into_iter().map(|(position, _)| position).collect()
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path.join("audit"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_whole_wherever_its_records_are() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut store = open(path);
    for round in 0..3 {
        record(&store, round * 700..(round + 1) * 700).await;
        purge(&store, at(0)).await;
        store.close().await.unwrap();
        drop(store);
        store = open(path);
        let through = u64::try_from(round + 1).unwrap() * 700;
        let second_of = |position| i64::try_from(position).unwrap() - 1;
        assert_eq!(trail(&store, second_of).await, Vec::from_iter(1..=through));
        for after in [0, 1, 511, 512, 513, through - ROWS - 1, through - ROWS, through] {
            let found = store.audit(after, 3).await.unwrap();
            let found: Vec<_> = found.into_iter().map(|(position, _)| position).collect();
            assert_eq!(found, Vec::from_iter(after + 1..=through.min(after + 3)));
        }
    }
    assert_eq!(files(path).len(), 1);
}

/// Chunks without a record of the requested times are skipped; the result is the same as when each record is checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_trail_is_found_by_its_times() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    // A clock that is set back by an hour, twice.
    let second_of = |position: u64| i64::try_from(position - (position / 1000) * 900).unwrap() * 10;
    record(&store, (1..=3000).map(second_of)).await;
    purge(&store, at(0)).await;
    for (from, until) in [
        (0, 5),
        (10, 10),
        (900, 1000),
        (5000, 6000),
        (9990, 50_000),
        (90_000, 91_000),
    ] {
        let expected = (1..=3000).filter(|position| (from..=until).contains(&second_of(*position)));
        let (mut found, mut after, mut pages) = (Vec::new(), 0, 0);
        while after < 3000 {
            let query = AuditQuery {
                from: at(from),
                until: at(until),
                ..AuditQuery::after(after, 200)
            };
            let page = store.audit_page(query).await.unwrap();
            assert!(page.through > after, "{page:?}");
            found.extend(page.entries.iter().map(|entry| entry.position));
            (after, pages) = (page.through, pages + 1);
        }
        assert_eq!(found, Vec::from_iter(expected), "{from} to {until}");
        if found.is_empty() {
            assert_eq!(pages, 1, "{from} to {until}: each chunk was read");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_records_move_misses_none() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    record(&store, 0..5000).await;
    let purging = tokio::spawn({
        let store = Arc::clone(&store);
        async move { purge(&store, at(0)).await }
    });
    let mut reads = 0;
    while !purging.is_finished() || reads == 0 {
        let after = (reads * 97) % 5000;
        let found = store.audit(after, 600).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|(position, _)| position).collect();
        assert_eq!(found, Vec::from_iter(after + 1..=5000.min(after + 600)));
        reads += 1;
    }
    purging.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_is_too_old_goes_with_its_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    let second_of = |position: u64| i64::try_from((position - 1) / 100).unwrap() * DAY + 5;
    for day in 0..4 {
        record(&store, [day * DAY + 5; 100]).await;
        purge(&store, at(0)).await;
    }
    // A chunk may end a day after the one in which it began: it belongs to the earlier day.
    assert_eq!(trail(&store, second_of).await, Vec::from_iter(1..=400));
    let before = files(path).len();
    assert!(before > 2, "{before}");

    purge(&store, at(2 * DAY)).await;
    let kept = trail(&store, second_of).await;
    assert!(files(path).len() < before);
    assert!(kept.first() > Some(&1) && kept.contains(&201), "{kept:?}");
    assert_eq!(kept, Vec::from_iter(*kept.first().unwrap()..=400));

    // All of it, and later records.
    purge(&store, at(10 * DAY)).await;
    assert_eq!(trail(&store, second_of).await, Vec::<u64>::new());
    assert!(files(path).is_empty(), "{:?}", files(path));
    record(&store, [11 * DAY; 50]).await;
    purge(&store, at(10 * DAY)).await;
    assert_eq!(trail(&store, |_| 11 * DAY).await, Vec::from_iter(401..=450));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_a_file_is_told_and_ends_nothing_else() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    record(&store, 0..700).await;
    purge(&store, at(0)).await;
    let file = files(path).remove(0);
    let right = fs::read(&file).unwrap();
    for offset in [0, 20, 60, 100, right.len() / 2, right.len() - 1] {
        let mut wrong = right.clone();
        wrong[offset] ^= 1;
        fs::write(&file, wrong).unwrap();
        let answer = store.audit(0, usize::MAX).await;
        assert!(
            matches!(answer, Err(StoreError::Damaged { .. })),
            "{offset}: {answer:?}"
        );
    }
    fs::write(&file, &right[..right.len() / 2]).unwrap();
    assert!(store.audit(0, usize::MAX).await.is_err());
    // The records in the rows are there, and others can be written.
    assert_eq!(store.audit(690, 100).await.unwrap().len(), 10);
    record(&store, 700..800).await;
    assert!(store.health().takes_writes);

    // The file is readable again after it is restored.
    fs::write(&file, &right).unwrap();
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_lost_are_told_by_the_file_after_them() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    for day in 0..4 {
        record(&store, [day * DAY; 100]).await;
        purge(&store, at(0)).await;
    }
    let files = files(path);
    fs::remove_file(&files[1]).unwrap();
    let answer = store.audit(0, usize::MAX).await;
    assert!(format!("{answer:?}").contains("missing"), "{answer:?}");

    // A file that can't be continued is replaced by a new one.
    fs::remove_file(files.last().unwrap()).unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = open(path);
    record(&store, [3 * DAY; 100]).await;
    purge(&store, at(0)).await;
    assert_eq!(store.audit(400, usize::MAX).await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_old_records_keeps_new_ones_from_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    for day in 0..4 {
        record(&store, [day * DAY; 100]).await;
        purge(&store, at(0)).await;
    }
    let second = files(path).remove(1);
    let mut bytes = fs::read(&second).unwrap();
    bytes[0] ^= 1;
    fs::write(&second, bytes).unwrap();
    let before = files(path);

    record(&store, [4 * DAY; 100]).await;
    purge(&store, at(3 * DAY)).await;
    let found = store.audit(401, usize::MAX).await.unwrap();
    assert_eq!(found.len(), 99);
    // They have continued, and files that can't be checked are still there.
    let after = files(path);
    assert!(after.starts_with(&before[..2]), "{after:?}");
    assert!(after.len() > before.len(), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_behind_the_last_chunk_does_not_count() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    record(&store, 0..100).await;
    purge(&store, at(0)).await;
    store.close().await.unwrap();
    drop(store);
    // A chunk that was written and that the rows do not name: here half of one.
    let file = files(path).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_within(..bytes.len() / 2);
    fs::write(&file, bytes).unwrap();

    let store = open(path);
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), 100);
    record(&store, 100..200).await;
    purge(&store, at(0)).await;
    let second_of = |position| i64::try_from(position).unwrap() - 1;
    assert_eq!(trail(&store, second_of).await, Vec::from_iter(1..=200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_written_keep_nothing_else_from_going() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let store = open(path);
    let blocked = path.join("audit");
    fs::write(&blocked, "in the way").unwrap();
    record(&store, 0..100).await;
    put(&store, &session(1)).await;
    let report = purge_before(&store, Timestamp::MAX, at(0), 1000).await;
    assert_eq!((report.sessions, report.more), (1, false));
    // The records stay in the rows, and move once that is possible.
    let second_of = |position| i64::try_from(position).unwrap() - 1;
    assert_eq!(trail(&store, second_of).await, Vec::from_iter(1..=100));
    fs::remove_file(&blocked).unwrap();
    purge(&store, at(0)).await;
    assert_eq!(files(path).len(), 1);
    assert_eq!(trail(&store, second_of).await, Vec::from_iter(1..=100));
}
