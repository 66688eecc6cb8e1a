//! What can be typed.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::hostile::Way;

/// Measures a tessera process beside bare baselines: every figure is a ratio of the same run.
#[derive(Debug, Parser)]
#[command(name = "tessera-bench", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the servers, measure in interleaved rounds, print medians.
    Run(Run),
    /// Append runs that `run --json FILE` wrote to the history, and draw it.
    History(History),
    /// Measure honest calls beside hostile callers, in each of twelve ways; fails where a bound is exceeded.
    Hostile(Hostile),
    /// Refresh the same sessions at the same rate for a long time; fails where memory grows.
    Soak(Soak),
    /// Make the load of one hostile way until stdin ends; `hostile` starts it.
    #[command(hide = true)]
    HostileLoad(HostileLoad),
    /// Serve the bare tonic echo until stdin ends; `run` starts it.
    #[command(hide = true)]
    EchoServer(EchoServer),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Rounds that are counted; one shorter round before them is not.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// How long each side is loaded in each round, in seconds.
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Calls under way at once.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: u16,
    /// Connections that they share.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
    /// Sessions that exist before anything is measured.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = value_parser!(u32).range(..=10_000_000))]
    pub(crate) sessions: u32,
    /// Subscribers that each revocation is sent to.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = value_parser!(u16).range(1..=4000))]
    pub(crate) watchers: u16,
    /// Verifiers that each revocation is refused by in the part `refusal`, each count in turn.
    #[arg(long, default_value = "1,100,1000", value_delimiter = ',', value_name = "N,…", value_parser = value_parser!(u16).range(1..=4000))]
    pub(crate) verifiers: Vec<u16>,
    /// Sessions that the part `group` refreshes, each count in turn.
    #[arg(long, default_value = "10000,100000", value_delimiter = ',', value_name = "N,…", value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub(crate) group_sessions: Vec<u32>,
    /// Only these, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub(crate) only: Vec<Part>,
    /// Write the figures to this file, too, as one JSON document (docs/performance.md has its form); `-` is stdout,
    /// without the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measure this other `tessera`, too, such as that of the release before, in the same rounds.
    #[arg(long, value_name = "BINARY")]
    pub(crate) against: Option<PathBuf>,
    /// Measure with the data in this empty database instead of a directory: postgresql://user@host/database. The
    /// processor time is that of the authority alone.
    #[arg(long, value_name = "URL", conflicts_with = "against")]
    pub(crate) postgres: Option<String>,
    /// The commit that the measured `tessera` was built from; without it, the one that is checked out.
    #[arg(long, value_name = "HASH")]
    pub(crate) commit: Option<String>,
    /// Make the store's directory in this one, which must be on a real disk: where it is in memory,
    /// writing durably costs nothing. Without it, beside this program.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The `tessera` to measure; without it, the one beside this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) tessera: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Documents of `run --json FILE`; without any, the history is only drawn.
    #[arg(value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// The history; made where it is missing.
    #[arg(long, default_value = "docs/performance/history.json", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The drawing.
    #[arg(long, default_value = "docs/performance/history.svg", value_name = "FILE")]
    pub(crate) chart: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Hostile {
    /// How long honest calls are measured, without the load and beside it, in seconds.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Only these, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WAY")]
    pub(crate) only: Vec<Way>,
    /// Make the store's directory in this one; without it, beside this program.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The `tessera` to measure; without it, the one beside this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) tessera: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// For how long, in minutes.
    #[arg(long, default_value = "60", value_name = "MINUTES", value_parser = minutes)]
    pub(crate) minutes: Duration,
    /// How often a line is printed, in seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) every: Duration,
    /// How many sessions there are.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = value_parser!(u32).range(32..=10_000_000))]
    pub(crate) sessions: u32,
    /// How many of them are refreshed in a second.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) calls_per_second: u32,
    /// Make the store's directory in this one; without it, beside this program.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The `tessera` to measure; without it, the one beside this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) tessera: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct HostileLoad {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) way: Way,
    /// Where the authority serves.
    #[arg(long)]
    pub(crate) url: String,
    /// The neighbour's API key.
    #[arg(long)]
    pub(crate) api_key: String,
}

#[derive(Debug, Args)]
pub(crate) struct EchoServer {
    /// Rotate a row of this database before each echo.
    #[arg(long, value_name = "URL")]
    pub(crate) rotating: Option<String>,
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// A session with a refresh token, durable.
    Issue,
    /// The next generation of a session, durable.
    Refresh,
    /// A few access tokens, again and again.
    IntrospectHot,
    /// Access tokens that the server has not seen, each once.
    IntrospectCold,
    /// The end of one session, durable.
    Revoke,
    /// Durable operations beside bare writes to the same file system.
    Durable,
    /// Nodes on PostgreSQL beside a bare program of the same transactions; only with `--postgres`.
    Group,
    /// One revocation to many subscribers.
    Watch,
    /// One revocation until verifiers refuse by it, and as many as they can take.
    Refusal,
    /// Refreshes beside many subscribers, a tenth of which do not read.
    Frozen,
}

impl Run {
    pub(crate) fn includes(&self, part: Part) -> bool {
        match self.only.as_slice() {
            [] => part != Part::Group || self.postgres.is_some(),
            only => only.contains(&part),
        }
    }
}

/// Enough to see something, and never forgotten in a terminal.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text
        .parse()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.filter(|time| (Duration::from_millis(100)..=Duration::from_secs(60)).contains(time))
        .ok_or_else(|| "must be a number between 0.1 and 60".to_owned())
}

fn minutes(text: &str) -> Result<Duration, String> {
    let time = text.parse::<f64>().ok();
    let time = time.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    time.filter(|time| (Duration::from_secs(4)..=Duration::from_secs(7 * 24 * 3600)).contains(time))
        .ok_or_else(|| "must be a number between 0.1 and 10080".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn parts_are_separated_by_commas() {
        let arguments = Arguments::parse_from(["tessera-bench", "run", "--only", "issue,introspect-cold"]);
        let Command::Run(run) = arguments.command else {
            panic!("not a run")
        };
        assert!(run.includes(Part::IntrospectCold) && !run.includes(Part::Watch));
    }

    #[test]
    fn what_needs_a_database_is_measured_with_one() {
        let includes_group = |typed: &[&str]| {
            let typed = ["tessera-bench", "run"].iter().chain(typed);
            match Arguments::parse_from(typed).command {
                Command::Run(run) => run.includes(Part::Group),
                other => panic!("not a run: {other:?}"),
            }
        };
        assert!(!includes_group(&[]));
        assert!(includes_group(&["--postgres", "host=db1"]));
        assert!(includes_group(&["--only", "group"]));
        assert!(!includes_group(&["--postgres", "host=db1", "--only", "issue"]));
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "-1", "61", "NaN", "2s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
