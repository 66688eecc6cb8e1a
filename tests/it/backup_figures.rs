//! The cost of a backup for other callers: how long a Refresh takes during a backup, and without one.

use std::{
    env,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    backups::Site,
    support::{Client, refresh, viewer},
};

/// Callers, each with a session and a share of the connections.
const CALLERS: usize = 64;
const CONNECTIONS: usize = 8;

/// A number from the environment.
fn knob<T: FromStr>(name: &str, otherwise: T) -> T {
    let given = env::var(name).ok().and_then(|value| value.parse().ok());
    given.unwrap_or(otherwise)
}

/// How long calls took: during a backup, and without one.
#[derive(Default)]
struct Took {
    during: Vec<Duration>,
    quiet: Vec<Duration>,
}

/// Refreshes one session at a steady pace; without a pace, as fast as possible.
async fn call(client: Client, pace: Option<Duration>, until: Instant, is_made: Arc<AtomicBool>) -> Took {
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    let mut token = refresh(issued.tokens.as_ref());
    let mut ticks = interval(pace.unwrap_or(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut took = Took::default();
    while Instant::now() < until {
        if pace.is_some() {
            ticks.tick().await;
        }
        let (began, was_made) = (Instant::now(), is_made.load(Ordering::SeqCst));
        let refreshed = client.refresh(&token).await.unwrap();
        let elapsed = began.elapsed();
        token = refresh(refreshed.tokens.as_ref());
        if was_made || is_made.load(Ordering::SeqCst) {
            took.during.push(elapsed);
        } else {
            took.quiet.push(elapsed);
        }
    }
    took
}

async fn calls(clients: &[Client], rate: Option<f64>, length: Duration, is_made: &Arc<AtomicBool>) -> Took {
    let pace = rate.map(|rate| Duration::from_secs_f64(CALLERS as f64 / rate));
    let until = Instant::now() + length;
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let client = clients[number % clients.len()].clone();
        callers.spawn(call(client, pace, until, Arc::clone(is_made)));
    }
    let mut all = Took::default();
    while let Some(took) = callers.join_next().await {
        let took = took.unwrap();
        all.during.extend(took.during);
        all.quiet.extend(took.quiet);
    }
    all
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).copied().unwrap_or_default()
}

fn print(name: &str, took: &mut [Duration]) -> Duration {
    let (half, most) = (percentile(took, 50), percentile(took, 99));
    println!("{name:8} {:>8} refreshes, p50 {half:?}, p99 {most:?}", took.len());
    most
}

/// Begins sessions for the backup to read.
async fn fill(clients: &[Client], sessions: usize) {
    let left = Arc::new(AtomicUsize::new(sessions));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let (client, left) = (clients[number % clients.len()].clone(), Arc::clone(&left));
        callers.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .is_ok()
            {
                client.issue(viewer("user:bob")).await.unwrap();
            }
        });
    }
    while let Some(filled) = callers.join_next().await {
        filled.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures: cargo test --release -p tessera-proto --test it -- --ignored --nocapture refreshes_beside_backups"]
async fn refreshes_beside_backups() {
    let length = Duration::from_secs(60 * knob("TESSERA_BACKUP_MINUTES", 10));
    let every = Duration::from_secs(knob("TESSERA_BACKUP_EVERY_SECONDS", 60));
    let sessions: usize = knob("TESSERA_BACKUP_SESSIONS", 200_000);
    let site = Arc::new(Site::for_much());
    let authority = site.serve();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(authority.with_key(&site.api_key).await);
    }
    fill(&clients, sessions).await;
    let is_made = Arc::new(AtomicBool::new(false));
    let most = calls(&clients, None, Duration::from_secs(10), &is_made).await;
    let rate = knob("TESSERA_BACKUP_RATE", most.quiet.len() as f64 / 10.0 / 2.0);
    println!(
        "{sessions} sessions; as fast as it goes {} refreshes/s, then {rate:.0}/s for {length:?}",
        most.quiet.len() / 10
    );
    let until = Instant::now() + length;
    let backing_up = tokio::spawn(back_up(Arc::clone(&site), Arc::clone(&is_made), every, until));
    let mut took = calls(&clients, Some(rate), length, &is_made).await;
    // A backup in progress when the calls end is finished: the authority is stopped after it.
    backing_up.await.unwrap();
    let quiet = print("quiet", &mut took.quiet);
    let during = print("during", &mut took.during);
    println!(
        "p99 during / quiet: {:.2}",
        during.as_secs_f64() / quiet.as_secs_f64()
    );
    assert!(authority.stop().success());
}

/// Makes a backup every so often, the first after half of that.
async fn back_up(site: Arc<Site>, is_made: Arc<AtomicBool>, every: Duration, until: Instant) {
    sleep(every / 2).await;
    for number in 0.. {
        if Instant::now() >= until {
            return;
        }
        let (name, creating) = (format!("figure-{number}"), Arc::clone(&site));
        is_made.store(true, Ordering::SeqCst);
        let began = Instant::now();
        let create = move || creating.create(&name);
        let made = tokio::task::spawn_blocking(create).await.unwrap();
        is_made.store(false, Ordering::SeqCst);
        println!(
            "a backup of {} records and {} KiB took {:?}",
            made["records"],
            made["bytes"].as_u64().unwrap() / 1024,
            began.elapsed()
        );
        sleep(every.saturating_sub(began.elapsed())).await;
    }
}
