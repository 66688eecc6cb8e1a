//! Figures of the sled backend, each beside a baseline of the same run. Not checks: run with
//! `cargo test --release -p tessera-store-sled --test figures -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "figures for people"
)]

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tessera_core::{Seconds, Session, SessionId};
use tessera_store::{Changes, Decision, Reads, Snapshot, Store};
use tessera_store_conformance::fixture::{
    at, audit_record, purge_before, put, rotated, session, with_subject, write,
};
use tessera_store_sled::{SledOptions, SledStore, StartProgress};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: u32 = 256;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SledStore::open(path, SledOptions::default()).unwrap())
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path.join("rows/db")).unwrap().len()
}

/// A session of one of 5,000 subjects; 2,000 are begun per second.
fn begun(number: u32) -> Session {
    let now = at(i64::from(number / 2000));
    Session {
        created_at: now,
        idle_until: now.plus(Seconds(100)),
        absolute_until: now.plus(Seconds(1000)),
        ..with_subject(number, &format!("user:{}", number % 5000))
    }
}

/// Puts `count` sessions, 100 in a job.
async fn fill(store: &Arc<dyn Store>, count: u32) {
    for first in (1..=count).step_by(100) {
        let numbers = first..(first + 100).min(count + 1);
        let changes = Changes {
            sessions: numbers.map(begun).map(Arc::new).collect(),
            ..Changes::default()
        };
        write(store, changes).await;
    }
}

fn baseline(path: &Path) -> f64 {
    let mut file = File::create(path).unwrap();
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < ROUND {
        file.write_all(&[7; 128]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// A refresh with the authority's steps: read, decide, write the session and an audit record.
async fn refresh(store: &Arc<dyn Store>, id: SessionId) {
    let decide = move |state: &Snapshot| match state.session(id) {
        Some(stored) if stored.ended.is_none() => {
            let changes = Changes {
                sessions: vec![Arc::new(rotated(&stored.session, at(7)))],
                audit: vec![audit_record(7, id)],
                ..Changes::default()
            };
            Decision::Commit(changes, ())
        }
        _ => Decision::Abort(()),
    };
    store.commit(Reads::default().session(id), decide).await.unwrap();
}

async fn refreshes(store: &Arc<dyn Store>, sessions: &Arc<Vec<Session>>, callers: u32) -> f64 {
    refreshes_for(store, sessions, callers, ROUND).await
}

async fn refreshes_for(
    store: &Arc<dyn Store>,
    sessions: &Arc<Vec<Session>>,
    callers: u32,
    length: Duration,
) -> f64 {
    let begin = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, sessions) = (Arc::clone(store), Arc::clone(sessions));
            tokio::spawn(async move {
                let mut count = 0_u32;
                while begin.elapsed() < length {
                    let turn = (caller as usize + count as usize * 257) % sessions.len();
                    refresh(&store, sessions.get(turn).unwrap().id).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut total = 0;
    for caller in callers {
        total += caller.await.unwrap();
    }
    f64::from(total) / begin.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn durable_refreshes_beside_bare_syncs() {
    let directory = TempDir::new_in(".").unwrap();
    let path = directory.path().join("data");
    let store = open(&path);
    let sessions: Arc<Vec<_>> = Arc::new((1..=20_000).map(begun).collect());
    runtime().block_on(async {
        fill(&store, 20_000).await;
        let (mut many, mut one, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(baseline(&directory.path().join("baseline")));
            many.push(refreshes(&store, &sessions, CALLERS).await);
            one.push(refreshes(&store, &sessions, 1).await);
        }
        let (many, one, bare) = (median(many), median(one), median(bare));
        println!("bare append + fdatasync: {bare:.0}/s");
        println!(
            "durable refreshes, {CALLERS} callers: {many:.0}/s, {:.2} times the bare ones",
            many / bare
        );
        println!(
            "durable refreshes, 1 caller: {one:.0}/s, {:.2} bare syncs each",
            bare / one
        );
        println!("rows/db: {} MiB", size_of(&path) >> 20);
        store.close().await.unwrap();
    });
}

/// Opens the store, and prints how long each step took. Returns the seconds that all took, too.
fn open_and_tell(path: &Path) -> (Arc<dyn Store>, f64) {
    let progress = StartProgress::default();
    let is_open = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut steps: Vec<(String, Instant)> = Vec::new();
            while !is_open.load(Ordering::SeqCst) {
                let step = progress.to_string();
                let step = step.split(',').next().unwrap().to_owned();
                if steps.last().is_none_or(|(last, _)| *last != step) {
                    steps.push((step, Instant::now()));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            steps.push(("open".to_owned(), Instant::now()));
            steps
        });
        let begin = Instant::now();
        let store = SledStore::open_checked(path, SledOptions::default(), &progress, |_| Ok::<(), ()>(()));
        let took = begin.elapsed();
        println!("opened and checked in {took:.2?}");
        is_open.store(true, Ordering::SeqCst);
        for pair in watching.join().unwrap().windows(2) {
            println!("  {}: {:.2?}", pair[0].0, pair[1].1 - pair[0].1);
        }
        let store: Arc<dyn Store> = Arc::new(store.unwrap().unwrap());
        (store, took.as_secs_f64())
    })
}

/// `SESSIONS` is their number; `DATA` is a directory that is filled if it does not exist, and kept.
#[test]
#[ignore = "a measurement"]
fn opening_with_many_sessions() {
    let count = std::env::var("SESSIONS").map_or(200_000, |text| text.parse().unwrap());
    let temporary = TempDir::new_in(".").unwrap();
    let kept = std::env::var_os("DATA").map(PathBuf::from);
    let path = kept.clone().unwrap_or_else(|| temporary.path().join("data"));
    if !path.exists() {
        let store = open(&path);
        runtime().block_on(async {
            let begin = Instant::now();
            fill(&store, count).await;
            println!("filled with {count} sessions in {:.1?}", begin.elapsed());
            store.close().await.unwrap();
        });
    }
    println!("rows/db: {} MiB", size_of(&path) >> 20);
    let mut times = Vec::new();
    for _ in 0..3 {
        let (store, took) = open_and_tell(&path);
        times.push(took);
        let found = runtime().block_on(store.session(session(count).id)).unwrap();
        assert!(found.is_some());
        runtime().block_on(store.close()).unwrap();
    }
    println!(
        "figure | opening and checking {count} sessions | s | {} | - | <= 5",
        median(times)
    );
    if kept.is_some() {
        return;
    }
    let begin = Instant::now();
    let (before, after) = SledStore::compact(&path, SledOptions::default()).unwrap();
    println!(
        "compacted from {} to {} MiB in {:.2?}",
        before >> 20,
        after >> 20,
        begin.elapsed()
    );
}

/// A long audit trail, in its files and, as the baseline, all in the rows.
#[test]
#[ignore = "a measurement"]
fn opening_beside_a_long_trail() {
    let records: i64 = std::env::var("RECORDS").map_or(500_000, |text| text.parse().unwrap());
    for audit_rows_max in [SledOptions::default().audit_rows_max, u64::MAX] {
        let directory = TempDir::new_in(".").unwrap();
        let open = || -> Arc<dyn Store> {
            let options = SledOptions {
                audit_rows_max,
                ..SledOptions::default()
            };
            Arc::new(SledStore::open(directory.path(), options).unwrap())
        };
        let store = open();
        let begin = Instant::now();
        runtime().block_on(async {
            fill(&store, 10_000).await;
            for first in (0..records).step_by(500) {
                let seconds = (first..first + 500).map(|second| second / 100);
                let changes = Changes {
                    audit: seconds
                        .map(|second| audit_record(second, session(1).id))
                        .collect(),
                    ..Changes::default()
                };
                write(&store, changes).await;
                if first % 20_000 == 0 {
                    while purge_before(&store, at(0), at(0), 500).await.more {}
                }
            }
            store.close().await.unwrap();
        });
        drop(store);
        println!(
            "{records} records, {audit_rows_max} of them in the rows: written in {:.1?}",
            begin.elapsed()
        );
        let begin = Instant::now();
        let store = open();
        println!(
            "opened and checked in {:.2?}, rows/db: {} MiB",
            begin.elapsed(),
            size_of(directory.path()) >> 20
        );
        runtime().block_on(store.close()).unwrap();
    }
}

/// Most sessions are idle while few are busy: idle ones must not hold the space of overwritten rows.
#[test]
#[ignore = "a measurement"]
fn the_file_follows_what_it_holds() {
    let directory = TempDir::new_in(".").unwrap();
    let store = open(directory.path());
    runtime().block_on(async {
        let mut first = 0;
        for _ in 0..12 {
            let mut rate = 0.0;
            for _ in 0..10 {
                let sessions: Vec<_> = (first..first + 100)
                    .map(|number| with_subject(number, &format!("user:{}", number % 5000)))
                    .collect();
                for session in &sessions {
                    put(&store, session).await;
                }
                first += 100;
                rate = refreshes_for(&store, &Arc::new(sessions), CALLERS, ROUND / 10).await;
            }
            while purge_before(&store, at(0), at(8), 100_000).await.more {}
            println!(
                "{first} sessions, {rate:.0} refreshes/s, rows/db: {} MiB",
                size_of(directory.path()) >> 20
            );
        }
        store.close().await.unwrap();
    });
}
