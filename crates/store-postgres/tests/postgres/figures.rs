//! The speed of the store alone, of one node and of two, compared with the bare group program of the benchmark, in turn
//! within one run (`tessera-bench run --only group` measures whole calls): `cargo test --release -p tessera-store-postgres -- --ignored --nocapture figures` (TESSERA_FIGURES=1).

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tessera_store::{Changes, Decision, Reads, Snapshot, Store};
use tessera_store_conformance::fixture::session;
use uuid::Uuid;

use super::{
    bare::Bare,
    cluster::{fresh, open, runtime},
    server::Server,
};

type Shared = Arc<dyn Store>;

const SESSIONS: u32 = 200_000;
const CALLERS: u32 = 256;
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// The processor time of a server's processes so far, in seconds.
fn processor_time(server: &Server) -> f64 {
    let postmaster = server.process();
    let mut ticks = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else {
            continue;
        };
        let Some((before, after)) = stat.rsplit_once(") ") else {
            continue;
        };
        let fields: Vec<_> = after.split(' ').collect();
        let is_ours = fields[1] == postmaster || before.starts_with(&format!("{postmaster} "));
        if is_ours {
            // Includes children that have ended.
            ticks += fields[11..15]
                .iter()
                .map(|field| field.parse::<u64>().unwrap())
                .sum::<u64>();
        }
    }
    ticks as f64 / 100.0
}

/// Calls `call` from many callers for a while. Returns calls per second, and the server's processor time of each in µs.
async fn measure<F>(server: &Server, call: impl Fn(u32) -> F + Clone + Send + 'static) -> (f64, f64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (calls, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (before, began) = (processor_time(server), Instant::now());
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (call, calls, is_over) = (call.clone(), Arc::clone(&calls), Arc::clone(&is_over));
        callers.push(runtime().spawn(async move {
            let mut number = caller.wrapping_mul(7919);
            while !is_over.load(Ordering::Relaxed) {
                number = number.wrapping_add(104_729);
                call(number % SESSIONS).await;
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(TIME).await;
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let (took, calls) = (
        began.elapsed().as_secs_f64(),
        calls.load(Ordering::Relaxed) as f64,
    );
    (calls / took, (processor_time(server) - before) / calls * 1e6)
}

async fn refresh(store: Shared, number: u32) {
    let id = session(number).id;
    let decide = move |state: &Snapshot| {
        let mut next = state.session(id).unwrap().session.as_ref().clone();
        next.rev = next.rev.next();
        let changes = Changes {
            sessions: vec![Arc::new(next)],
            ..Changes::default()
        };
        Decision::Commit(changes, ())
    };
    store.commit(Reads::default().session(id), decide).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures: TESSERA_FIGURES=1, needs PostgreSQL"]
async fn figures() {
    if env::var_os("TESSERA_FIGURES").is_none() {
        return;
    }
    let server = Server::start("shared_buffers = 512MB\nmax_wal_size = 4GB");
    let options = fresh(&server);
    let schema = options.schema.clone();
    let one: Shared = Arc::new(open(options.clone()).await);
    for from in (0..SESSIONS).step_by(1000) {
        let sessions = (from..from + 1000).map(|number| Arc::new(session(number)));
        let changes = Changes {
            sessions: sessions.collect(),
            ..Changes::default()
        };
        one.write(changes).await.unwrap();
    }
    server.sql(&format!(
        "CREATE TABLE bare (id uuid PRIMARY KEY, body bytea NOT NULL) WITH (fillfactor = 75); \
         INSERT INTO bare SELECT id, body FROM {schema}.session; ANALYZE"
    ));
    let url = server.url();
    let bare = runtime().spawn(async move { Bare::start(&url, "bare").await });
    let bare = Arc::new(bare.await.unwrap().unwrap());
    let two: Shared = Arc::new(open(options).await);
    println!("calls a second and the server's µs of each: bare | one node | two nodes");
    for _ in 0..ROUNDS {
        let rotating = Arc::clone(&bare);
        let of_bare = measure(&server, move |number| {
            let bare = Arc::clone(&rotating);
            async move {
                let id = Uuid::from_bytes(*session(number).id.as_bytes());
                bare.rotate(id).await.unwrap();
            }
        })
        .await;
        let nodes = [Arc::clone(&one), Arc::clone(&two)];
        let alone = Arc::clone(&one);
        let of_one = measure(&server, move |number| refresh(Arc::clone(&alone), number)).await;
        let of_two = measure(&server, move |number| {
            refresh(Arc::clone(&nodes[number as usize % 2]), number)
        })
        .await;
        println!(
            "{:.0} {:.1} | {:.0} {:.1} ({:.2} of bare, {:.2} of its CPU) | {:.0} {:.1} ({:.2} of one)",
            of_bare.0,
            of_bare.1,
            of_one.0,
            of_one.1,
            of_one.0 / of_bare.0,
            of_one.1 / of_bare.1,
            of_two.0,
            of_two.1,
            of_two.0 / of_one.0
        );
    }
}
