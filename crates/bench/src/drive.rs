//! A closed loop: each caller has one call in progress, for a given time.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::Status;

use crate::{caller::Caller, failure::Failure, process::Process, statistics::Latencies};

/// How long the last calls may take after the end of the time.
const GRACE: Duration = Duration::from_secs(60);

/// The measurements of a server for one set of callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Calls per second.
    pub(crate) rate: f64,
    /// The least latency, in microseconds.
    pub(crate) least: f64,
    /// The median latency.
    pub(crate) p50: f64,
    /// The 99th percentile.
    pub(crate) p99: f64,
    /// The server's processor time per call, in microseconds.
    pub(crate) cpu: f64,
}

/// Lets the callers call `server` for `time`, or until their data is used up. Returns them with the answers that they
/// kept.
pub(crate) async fn drive(
    callers: Vec<Caller>,
    time: Duration,
    server: &Process,
) -> Result<(Sample, Vec<Caller>), Failure> {
    drive_with(callers, time, || server.cpu_time()).await
}

/// The same; the processor time in the sample is what `cpu_time` counts.
pub(crate) async fn drive_with(
    callers: Vec<Caller>,
    time: Duration,
    cpu_time: impl Fn() -> Result<Duration, Failure>,
) -> Result<(Sample, Vec<Caller>), Failure> {
    let used_before = cpu_time()?;
    let began = Instant::now();
    let end = began + time;
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(call_until(caller, end));
    }
    let (mut latencies, mut callers) = (Latencies::default(), Vec::new());
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            let (caller, own) = ended
                .map_err(|error| Failure::at("a caller", error))?
                .map_err(|status| Failure::at("a call", status))?;
            callers.push(caller);
            latencies.append(own);
        }
        Ok(())
    };
    match tokio::time::timeout(time + GRACE, all).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(Failure::new("the server stopped answering")),
    }
    let took = began.elapsed();
    let used = cpu_time()?.saturating_sub(used_before);
    Ok((sample(latencies, took, used)?, callers))
}

async fn call_until(mut caller: Caller, end: Instant) -> Result<(Caller, Latencies), Status> {
    let mut latencies = Latencies::default();
    loop {
        let began = Instant::now();
        if began >= end || caller.call().await?.is_none() {
            return Ok((caller, latencies));
        }
        latencies.add(began.elapsed());
    }
}

fn sample(latencies: Latencies, took: Duration, used: Duration) -> Result<Sample, Failure> {
    let count = u32::try_from(latencies.count()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(Failure::new("no call was answered in time"));
    }
    let percentiles = latencies.into_percentiles();
    Ok(Sample {
        rate: f64::from(count) / took.as_secs_f64(),
        least: percentiles.least,
        p50: percentiles.p50,
        p99: percentiles.p99,
        cpu: used.as_secs_f64() * 1e6 / f64::from(count),
    })
}
