//! One call at a time: how many round trips it waits for, and how many commits it takes.

use std::{sync::Arc, time::Duration};

use super::{database::Database, proxy::Proxy};
use crate::{
    arguments::Run,
    caller::Caller,
    drive::drive_with,
    failure::Failure,
    report::{Goal, Line},
    rotation::Rotations,
    rounds::rounds,
    stage::{Stage, Target},
    verb::Verb,
};

/// How much longer one round trip is made: much longer than a call takes by itself, and too short for any node to think
/// that the database is gone.
const HELD_BACK: Duration = Duration::from_millis(50);
/// Two commits a call instead of one would be 2; what is above 1 are heartbeats that came a little earlier or later.
const COMMITS_MAX: f64 = 1.1;
const WHAT: &str = "issue, 1 in flight / bare group";

/// Of one call.
#[derive(Clone, Copy)]
struct Lone {
    trips: f64,
    commits: f64,
    p50: f64,
}

/// Measures Issue at a node that reaches the database through `proxy`, and the bare group program through the same.
pub(crate) async fn measure(
    stage: &Stage,
    arguments: &Run,
    database: &Database,
    proxy: &Proxy,
) -> Result<Vec<Line>, Failure> {
    let mut node = stage.node("behind-proxy", &proxy.url()).await?;
    let rotations = Rotations::start(&proxy.url()).await?;
    let measured = rounds(arguments, WHAT, async |time| {
        let bare = lone(database, proxy, time, async || {
            Ok(vec![Caller::Rotation(Arc::clone(&rotations))])
        });
        Ok((issue(&node, database, proxy, time).await?, bare.await?))
    });
    let measured = measured.await;
    node.process.kill().await;
    let measured = measured?;
    let line = |unit, value: fn(&Lone) -> f64| {
        let values = measured.iter().map(|(ours, bare)| (value(ours), value(bare)));
        Line::of(WHAT, unit, values)
    };
    Ok(vec![
        line("round trips/call", |lone| lone.trips).with_goal(Goal::AtMost(1.0)),
        line("commits/call", |lone| lone.commits).with_goal(Goal::AtMost(COMMITS_MAX)),
        line("p50 µs", |lone| lone.p50),
    ])
}

async fn issue(node: &Target, database: &Database, proxy: &Proxy, time: Duration) -> Result<Lone, Failure> {
    lone(database, proxy, time, async || {
        Verb::Issue.callers(node, 1, time).await
    })
    .await
}

async fn lone(
    database: &Database,
    proxy: &Proxy,
    time: Duration,
    caller: impl AsyncFn() -> Result<Vec<Caller>, Failure>,
) -> Result<Lone, Failure> {
    let no_cpu = || Ok(Duration::ZERO);
    // Each node commits a heartbeat a second, which is not a call's.
    let before = database.commits().await?;
    tokio::time::sleep(time / 2).await;
    let idle = database.commits().await?.saturating_sub(before);
    let before = database.commits().await?;
    let (quick, _) = drive_with(caller().await?, time / 2, no_cpu).await?;
    let committed = database.commits().await?.saturating_sub(before);
    proxy.hold_back(HELD_BACK);
    let slow = drive_with(caller().await?, time, no_cpu).await;
    proxy.hold_back(Duration::ZERO);
    let (slow, _) = slow?;
    let calls = quick.rate * (time / 2).as_secs_f64();
    Ok(Lone {
        // Of the quickest calls: a disk that is slow for a moment is no round trip.
        trips: ((slow.least - quick.least) / 1e6 / HELD_BACK.as_secs_f64()).round(),
        commits: hundredths(number(committed.saturating_sub(idle)) / calls),
        p50: quick.p50,
    })
}

/// More digits would be those of the heartbeats.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
