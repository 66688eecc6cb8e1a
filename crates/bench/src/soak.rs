//! The same load for a long time: whether memory, disk and latency stay constant.
//!
//! A fixed number of sessions is refreshed at a fixed rate, one after the other. So growth does not come from new
//! sessions.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::Status;

use crate::{
    arguments::Soak,
    failure::Failure,
    hostile::size_of,
    process::Process,
    sessions,
    stage::{self, Target},
    statistics::{Latencies, Middle},
};

/// Callers that share the sessions and the rate.
const CALLERS: u16 = 32;
/// The limit of the growth of memory from the second quarter of the time to the last.
const GROWTH_MAX: f64 = 1.05;

/// The state at the end of one interval.
struct Reading {
    memory_mib: f64,
    line: String,
}

/// The counters from one interval to the next.
struct Counters {
    at: Instant,
    cpu: Duration,
    written: u64,
}

/// Loads one authority, and prints a line for each interval.
pub(crate) async fn run(arguments: &Soak) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::at("finding this program", error))?;
    let tessera = stage::find_tessera(arguments.tessera.as_deref(), &program)?;
    let directory = stage::directory(arguments.data_dir.as_deref(), &program)?;
    let data = directory.path().join("data");
    let mut target = Target::alone(&tessera, &data, CALLERS).await?;
    let outcome = load(&target, arguments, &data).await;
    target.process.kill().await;
    check(&outcome?)
}

async fn load(target: &Target, arguments: &Soak, data: &Path) -> Result<Vec<Reading>, Failure> {
    let sessions = sessions::begin(target, arguments.sessions, CALLERS).await?;
    let period = Duration::from_secs_f64(f64::from(CALLERS) / f64::from(arguments.calls_per_second));
    let (latencies, mut measured) = mpsc::unbounded_channel();
    let mut callers: JoinSet<Result<(), Status>> = JoinSet::new();
    for mut own in sessions {
        let latencies = latencies.clone();
        callers.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                for session in &mut own {
                    ticks.tick().await;
                    let began = Instant::now();
                    session.call().await?;
                    // The receiver has ended once the time is over.
                    let _ = latencies.send(began.elapsed());
                }
            }
        });
    }
    println!(
        "minute   refreshes/s   p99 ms   CPU µs   memory MiB   rows MiB   audit MiB   written KiB a refresh"
    );
    let mut readings = Vec::new();
    let mut before = Counters::of(&target.process)?;
    let began = Instant::now();
    while began.elapsed() < arguments.minutes {
        tokio::time::sleep(arguments.every).await;
        let mut interval = Latencies::default();
        while let Ok(latency) = measured.try_recv() {
            interval.add(latency);
        }
        let after = Counters::of(&target.process)?;
        let reading = Reading::of(target, interval, &before, &after, began, data)?;
        println!("{}", reading.line);
        readings.push(reading);
        before = after;
        if let Some(ended) = callers.try_join_next() {
            return Err(why_ended(ended));
        }
    }
    Ok(readings)
}

fn why_ended(ended: Result<Result<(), Status>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(status)) => Failure::at("a call", status),
        Ok(Ok(())) => Failure::new("a caller ended"),
        Err(error) => Failure::at("a caller", error),
    }
}

impl Counters {
    fn of(process: &Process) -> Result<Self, Failure> {
        Ok(Self {
            at: Instant::now(),
            cpu: process.cpu_time()?,
            written: process.written_bytes()?,
        })
    }
}

impl Reading {
    fn of(
        target: &Target,
        latencies: Latencies,
        before: &Counters,
        after: &Counters,
        began: Instant,
        data: &Path,
    ) -> Result<Self, Failure> {
        let calls = u32::try_from(latencies.count())
            .map_or(f64::MAX, f64::from)
            .max(1.0);
        let time = after.at.duration_since(before.at).as_secs_f64();
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / calls;
        let kib = |bytes: u64| u32::try_from(bytes / 1024).map_or(f64::MAX, f64::from);
        let written = kib(after.written.saturating_sub(before.written)) / calls;
        let memory_mib = target.process.resident_mib()?;
        let line = format!(
            "{:6.1}   {:11.0}   {:6.1}   {cpu:6.0}   {memory_mib:10.0}   {:8.0}   {:9.0}   {written:21.2}",
            began.elapsed().as_secs_f64() / 60.0,
            calls / time,
            latencies.into_percentiles().p99 / 1000.0,
            kib(size_of(&data.join("store/rows"))) / 1024.0,
            kib(size_of(&data.join("store/audit"))) / 1024.0,
        );
        Ok(Self { memory_mib, line })
    }
}

/// Fails if memory grew after the first quarter of the time, in which caches fill. Medians are compared: while the machine
/// is busy otherwise, calls wait, and take memory for that time.
fn check(readings: &[Reading]) -> Result<(), Failure> {
    let quarter = readings.len() / 4;
    if quarter == 0 {
        return Err(Failure::new("the time has fewer than four intervals"));
    }
    let usual = |part: &[Reading]| Middle::of(part.iter().map(|reading| reading.memory_mib)).median;
    let second = usual(readings.get(quarter..2 * quarter).unwrap_or_default());
    let last = usual(readings.get(readings.len() - quarter..).unwrap_or_default());
    println!("memory: {second:.0} MiB in the second quarter of the time, {last:.0} MiB in the last");
    if last > second * GROWTH_MAX {
        return Err(Failure::new("memory grew"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(memory: &[f64]) -> Vec<Reading> {
        let reading = |memory_mib: &f64| Reading {
            memory_mib: *memory_mib,
            line: String::new(),
        };
        memory.iter().map(reading).collect()
    }

    #[test]
    fn what_grows_after_caches_are_full_fails() {
        assert!(check(&readings(&[10.0, 90.0, 100.0, 99.0, 103.0, 101.0, 102.0, 104.0])).is_ok());
        assert!(check(&readings(&[10.0, 90.0, 100.0, 99.0, 103.0, 104.0, 105.0, 106.0])).is_err());
        assert!(check(&readings(&[10.0, 10.0])).is_err(), "too short to tell");
    }
}
