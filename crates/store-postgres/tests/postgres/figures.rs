//! The speed of one node and of two, compared with a minimal program that runs the same statements, in turn within one
//! run: `cargo test --release -p tessera-store-postgres -- --ignored --nocapture figures` (TESSERA_FIGURES=1).

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
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::{
    cluster::{fresh, open, runtime},
    server::Server,
};

type Shared = Arc<dyn Store>;

const SESSIONS: u32 = 200_000;
const CALLERS: u32 = 256;
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const GROUP_MAX: usize = 1024;

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

/// Reads a row and writes it again, for all waiting callers in one transaction of two round trips under the lock.
struct Bare {
    waiting: mpsc::Sender<(Uuid, oneshot::Sender<()>)>,
}

impl Bare {
    async fn start(server: &Server) -> Self {
        let (waiting, receiver) = mpsc::channel::<(Uuid, oneshot::Sender<()>)>(4096);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..2 {
            let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
                .await
                .unwrap();
            runtime().spawn(connection);
            let receiver = Arc::clone(&receiver);
            runtime().spawn(async move {
                let begin = client.prepare("BEGIN").await.unwrap();
                let lock = client.prepare("SELECT pg_advisory_xact_lock(7)").await.unwrap();
                let read = client.prepare("SELECT id, body FROM bare WHERE id = ANY($1)").await.unwrap();
                let write = "UPDATE bare b SET body = n.body FROM unnest($1::uuid[], $2::bytea[]) AS n (id, body) WHERE b.id = n.id";
                let write = client.prepare(write).await.unwrap();
                let commit = client.prepare("COMMIT").await.unwrap();
                loop {
                    let mut group = Vec::new();
                    {
                        let mut receiver = receiver.lock().await;
                        let Some(first) = receiver.recv().await else { return };
                        group.push(first);
                        while group.len() < GROUP_MAX && let Ok(next) = receiver.try_recv() {
                            group.push(next);
                        }
                    }
                    let ids: Vec<_> = group.iter().map(|(id, _)| *id).collect();
                    let named: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&ids];
                    let (_, _, rows) = tokio::try_join!(
                        client.query(&begin, &[]),
                        client.query(&lock, &[]),
                        client.query(&read, &named),
                    )
                    .unwrap();
                    let bodies = rows.iter().map(|row| (row.get::<_, Uuid>(0), row.get::<_, Vec<u8>>(1)));
                    let (ids, bodies): (Vec<_>, Vec<_>) = bodies.unzip();
                    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&ids, &bodies];
                    tokio::try_join!(client.query(&write, &values), client.query(&commit, &[])).unwrap();
                    for (_, answer) in group {
                        let _ = answer.send(());
                    }
                }
            });
        }
        Self { waiting }
    }
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
    let bare = Bare::start(&server).await;
    let two: Shared = Arc::new(open(options).await);
    println!("calls a second and the server's µs of each: bare | one node | two nodes");
    for _ in 0..ROUNDS {
        let waiting = bare.waiting.clone();
        let of_bare = measure(&server, move |number| {
            let waiting = waiting.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let id = Uuid::from_bytes(*session(number).id.as_bytes());
                waiting.send((id, answer)).await.unwrap();
                answered.await.unwrap();
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
