//! The effect of hostile callers on honest ones. The hostile callers are strangers that leave requests unfinished or
//! answers unread, and a neighbour with a valid API key of the sandbox that attacks in each of ten ways.
//!
//! The load comes from a separate process, at the lowest priority if the system has `nice`, as generator and server
//! share this machine's processors.

mod announcement;
mod load;
mod neighbour;
mod strangers;
mod unread;
mod way;

use std::{path::Path, process::Stdio, time::Duration};

use clap::ValueEnum;
use serde_json::Value;
use tessera_proto::v1::{IssueRequest, token_service_client::TokenServiceClient};
use tokio::{
    process::Command,
    time::{Instant, MissedTickBehavior, sleep},
};
use tonic::transport::Endpoint;

pub(crate) use load::run as load;
pub(crate) use way::Way;

use crate::{
    arguments::{Hostile, HostileLoad},
    failure::Failure,
    process::{self, Process},
    stage::{self, Authorization, text},
    statistics::Latencies,
};

/// The limit of an honest call's 99th percentile, as a multiple of its value without the load.
const RATIO_MAX: f64 = 3.0;
/// The limit of the authority's memory beside strangers, in MiB.
const STRANGERS_MIB_MAX: u64 = 256;
/// How often an honest caller calls.
const HONEST_INTERVAL: Duration = Duration::from_millis(20);
const HONEST_CALLERS: usize = 4;
/// How often the load is stopped, and goes on.
const ROUNDS: u32 = 8;
/// How long the authority has to finish what the load began, or the load to begin again.
const PAUSE: Duration = Duration::from_millis(500);

/// The result of one way.
struct Outcome {
    way: Way,
    quiet_p99: f64,
    loaded_p99: f64,
    failed: usize,
    memory_mib: u64,
    disk_mib_per_hour: f64,
}

/// Tries each way on a new authority, and prints a line for each.
pub(crate) async fn run(arguments: &Hostile) -> Result<(), Failure> {
    let ways = if arguments.only.is_empty() {
        Way::value_variants()
    } else {
        &arguments.only
    };
    println!("way         quiet p99   beside it   ratio   failed   memory   disk an hour");
    let mut exceeded = Vec::new();
    for way in ways {
        let outcome = one(*way, arguments).await?;
        println!("{}", outcome.line());
        exceeded.extend(outcome.exceeds());
    }
    if exceeded.is_empty() {
        return Ok(());
    }
    Err(Failure::new(exceeded.join("; ")))
}

async fn one(way: Way, arguments: &Hostile) -> Result<Outcome, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::at("finding this program", error))?;
    let directory = stage::directory(arguments.data_dir.as_deref(), &program)?;
    let data = directory.path().join("data");
    let (authority, ready) = start(arguments, &program, &data).await?;
    let url = text(&ready, &["grpc"])?;
    let honest = text(&ready, &["realms", "production", "api_key"])?;
    let neighbour = text(&ready, &["realms", "sandbox", "api_key"])?;

    // A caller that was never accepted is refused with the strangers of its address, which it shares here.
    honest_calls(&url, &honest, PAUSE).await?;
    let (mut load, _) = start_load(way, &program, &url, &neighbour).await?;
    let (mut quiet, mut loaded) = (Latencies::default(), Latencies::default());
    let (mut failed, mut grown, mut took) = (0, 0, Duration::ZERO);
    // In turn, so that a disk that is slow for a while is slow for both.
    for _ in 0..ROUNDS {
        let (before, began) = (size_of(&data), Instant::now());
        let (latencies, failures) = honest_calls(&url, &honest, arguments.seconds / ROUNDS).await?;
        loaded.append(latencies);
        failed += failures;
        grown += size_of(&data).saturating_sub(before);
        took += began.elapsed();
        load.signal("STOP").await?;
        sleep(PAUSE).await;
        let (latencies, failures) = honest_calls(&url, &honest, arguments.seconds / ROUNDS).await?;
        quiet.append(latencies);
        failed += failures;
        load.signal("CONT").await?;
        sleep(PAUSE).await;
    }
    let memory_mib = authority.memory_mib()?;
    load.kill().await;
    let mut authority = authority;
    authority.kill().await;
    Ok(Outcome {
        way,
        quiet_p99: quiet.into_percentiles().p99,
        loaded_p99: loaded.into_percentiles().p99,
        failed,
        memory_mib,
        disk_mib_per_hour: mib(grown) / (took.as_secs_f64() / 3600.0),
    })
}

async fn start(arguments: &Hostile, program: &Path, data: &Path) -> Result<(Process, Value), Failure> {
    let tessera = stage::find_tessera(arguments.tessera.as_deref(), program)?;
    let mut command = Command::new(&tessera);
    let free_port = "127.0.0.1:0";
    command
        .args(["dev", "--print-json", "--listen", free_port])
        .args(["--admin-listen", free_port, "--data-dir"])
        .arg(data)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    process::start("tessera", command).await
}

async fn start_load(way: Way, program: &Path, url: &str, key: &str) -> Result<(Process, Value), Failure> {
    let niceness = Path::new("/usr/bin/nice");
    let mut command = if niceness.exists() {
        let mut command = Command::new(niceness);
        command.args(["-n", "19"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let name = way.to_possible_value();
    let name = name.as_ref().map_or("", clap::builder::PossibleValue::get_name);
    // The key belongs to this run, and the authority ends with it.
    command
        .args(["hostile-load", name, "--url", url, "--api-key", key])
        .stdin(Stdio::piped());
    process::start("the load", command).await
}

/// Calls Issue at a steady rate, and returns the latencies and the number of failed calls.
async fn honest_calls(url: &str, key: &str, time: Duration) -> Result<(Latencies, usize), Failure> {
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..HONEST_CALLERS {
        let endpoint =
            Endpoint::from_shared(url.to_owned()).map_err(|error| Failure::at("connecting", error))?;
        let authorization = Authorization::of(key)?;
        callers.spawn(honest_caller(endpoint, authorization, number, time));
    }
    let mut all = (Latencies::default(), 0);
    while let Some(caller) = callers.join_next().await {
        let (latencies, failed) = caller.map_err(|error| Failure::at("an honest caller", error))??;
        all.0.append(latencies);
        all.1 += failed;
    }
    Ok(all)
}

async fn honest_caller(
    endpoint: Endpoint,
    authorization: Authorization,
    number: usize,
    time: Duration,
) -> Result<(Latencies, usize), Failure> {
    let channel = endpoint.connect().await;
    let mut tokens = TokenServiceClient::new(channel.map_err(|error| Failure::at("connecting", error))?);
    let (mut latencies, mut failed) = (Latencies::default(), 0);
    let mut ticks = tokio::time::interval(HONEST_INTERVAL);
    // An honest client does not call twice as often after it waited.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + time;
    while Instant::now() < end {
        ticks.tick().await;
        let request = IssueRequest {
            subject: format!("user:honest-{number}"),
            roles: vec!["role:editor".to_owned()],
            ..IssueRequest::default()
        };
        let began = Instant::now();
        match tokens.issue(authorization.on(request)).await {
            Ok(_) => latencies.add(began.elapsed()),
            Err(status) => {
                if failed == 0 {
                    eprintln!("an honest call failed: {status}");
                }
                failed += 1;
            }
        }
    }
    Ok((latencies, failed))
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.loaded_p99 / self.quiet_p99.max(1.0)
    }

    fn line(&self) -> String {
        format!(
            "{:<11} {:>6.1} ms   {:>6.1} ms   {:>5.2}   {:>6}   {:>3} MiB   {:>7.0} MiB",
            format!("{:?}", self.way).to_lowercase(),
            self.quiet_p99 / 1000.0,
            self.loaded_p99 / 1000.0,
            self.ratio(),
            self.failed,
            self.memory_mib,
            self.disk_mib_per_hour,
        )
    }

    /// The values beyond their bounds.
    fn exceeds(&self) -> Vec<String> {
        let mut exceeded = Vec::new();
        if self.ratio() >= RATIO_MAX {
            exceeded.push(format!(
                "{:?}: honest calls take {:.1} times as long",
                self.way,
                self.ratio()
            ));
        }
        if self.failed > 0 {
            exceeded.push(format!("{:?}: {} honest calls failed", self.way, self.failed));
        }
        let is_of_strangers = matches!(self.way, Way::Unfinished | Way::Unread);
        if is_of_strangers && self.memory_mib >= STRANGERS_MIB_MAX {
            exceeded.push(format!("{:?}: {} MiB of memory", self.way, self.memory_mib));
        }
        exceeded
    }
}

fn mib(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kib) / 1024.0
}

/// The size of the files below a directory, in bytes.
pub(crate) fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl HostileLoad {
    /// The credential of its requests.
    fn authorization(&self) -> Result<Authorization, Failure> {
        Authorization::of(&self.api_key)
    }
}
