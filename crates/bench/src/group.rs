//! Nodes on PostgreSQL beside the bare group program, which does the least that such a store can do.

mod database;
mod lone;
mod proxy;
mod sessions;

use std::{sync::Arc, time::Duration};

use self::{database::Database, proxy::Proxy, sessions::Sessions};
use crate::{
    arguments::{Part, Run},
    caller::{Caller, Echo},
    drive::{Sample, drive_with},
    failure::Failure,
    parcel::Sizes,
    report::{Goal, Line},
    rotation::Rotations,
    rounds::rounds,
    stage::{Stage, Target},
    verb::Verb,
};

/// What was measured, and what could not be.
pub(crate) struct Measured {
    pub(crate) lines: Vec<Line>,
    pub(crate) remarks: Vec<String>,
}

/// One round. The processor time is that of the database.
struct Round {
    /// The bare group program in this process.
    bare: Sample,
    /// The same behind a bare gRPC server.
    behind_grpc: Sample,
    one: Sample,
    /// Two nodes together, each with half of the callers.
    two: Sample,
}

/// The sides that are compared in each round.
struct Sides<'a> {
    arguments: &'a Run,
    database: &'a Database,
    one: &'a Target,
    other: &'a Target,
    sizes: Sizes,
}

/// Refuses what can't be measured, before anything is started.
pub(crate) fn check(arguments: &Run) -> Result<(), Failure> {
    if !arguments.includes(Part::Group) {
        return Ok(());
    }
    if arguments.postgres.is_none() {
        return Err(Failure::new(
            "`group` compares nodes on PostgreSQL with a bare program on it: name an empty database with --postgres URL",
        ));
    }
    let callers = u32::from(arguments.in_flight);
    if arguments.group_sessions.iter().any(|count| *count < callers) {
        return Err(Failure::new(
            "--group-sessions: each caller needs one of its own (--in-flight)",
        ));
    }
    if !arguments.group_sessions.is_sorted() {
        return Err(Failure::new(
            "--group-sessions: numbers must not fall, as sessions are only added",
        ));
    }
    Ok(())
}

/// Measures it with each number of sessions, and then one call at a time.
pub(crate) async fn run(stage: &Stage, arguments: &Run) -> Result<Measured, Failure> {
    let url = arguments.postgres.as_deref().unwrap_or_default();
    let database = Database::connect(url).await?;
    let mut other = stage.node("second", url).await?;
    let sides = Sides {
        arguments,
        database: &database,
        one: &stage.tessera,
        other: &other,
        sizes: Verb::Refresh.sizes(&stage.tessera).await?,
    };
    let measured = sides.measure(stage, url).await;
    other.process.kill().await;
    database.clear().await?;
    measured
}

impl Sides<'_> {
    async fn measure(&self, stage: &Stage, url: &str) -> Result<Measured, Failure> {
        let mut sessions = Sessions::of(self.arguments.in_flight);
        let mut of_counts = Vec::new();
        for &count in &self.arguments.group_sessions {
            sessions.grow(self.one, count).await?;
            self.database.fill().await?;
            of_counts.push((count, self.rounds(stage, url, count, &mut sessions).await?));
        }
        let mut lines = Vec::new();
        for (count, rounds) in &of_counts {
            lines.extend(lines_of(*count, rounds));
        }
        if let [(few, before), .., (many, after)] = of_counts.as_slice() {
            lines.extend(growth(*few, before, *many, after));
        }
        let mut remarks = Vec::new();
        if !self.database.is_here() {
            lines.retain(|line| !line.is_of_cpu());
            remarks.push(
                "the database's processes are not on this machine: their processor time is unknown"
                    .to_owned(),
            );
        }
        match Proxy::before(url)? {
            Some(proxy) => lines.extend(lone::measure(stage, self.arguments, self.database, &proxy).await?),
            None => remarks
                .push("the database expects TLS: its round trips and commits are not counted".to_owned()),
        }
        Ok(Measured { lines, remarks })
    }

    async fn rounds(
        &self,
        stage: &Stage,
        url: &str,
        count: u32,
        sessions: &mut Sessions,
    ) -> Result<Vec<Round>, Failure> {
        let rotations = Rotations::start(url).await?;
        let mut echo = stage.rotating_echo(url).await?;
        let in_flight = self.arguments.in_flight;
        let name = format!("group, {count} sessions");
        let measured = rounds(self.arguments, &name, async |time| {
            let callers = (0..in_flight).map(|_| Caller::Rotation(Arc::clone(&rotations)));
            let bare = self.drive(callers.collect(), time).await?.0;
            let channels = echo.channels_for(in_flight);
            let caller = |channel| Caller::Echo(Echo::new(channel, echo.authorization(), self.sizes));
            let behind_grpc = self.drive(channels.map(caller).collect(), time).await?.0;
            let one = self.refresh(sessions, &[self.one], time).await?;
            let two = self.refresh(sessions, &[self.one, self.other], time).await?;
            Ok(Round {
                bare,
                behind_grpc,
                one,
                two,
            })
        });
        let measured = measured.await;
        echo.process.kill().await;
        measured
    }

    async fn refresh(
        &self,
        sessions: &mut Sessions,
        targets: &[&Target],
        time: Duration,
    ) -> Result<Sample, Failure> {
        let (sample, callers) = self.drive(sessions.callers(targets), time).await?;
        sessions.take_back(callers);
        Ok(sample)
    }

    async fn drive(&self, callers: Vec<Caller>, time: Duration) -> Result<(Sample, Vec<Caller>), Failure> {
        drive_with(callers, time, || self.database.cpu_time()).await
    }
}

/// Of the database's processes, not of the authority's.
const CPU: &str = "database CPU µs/call";
const RATE: &str = "calls/s";

fn lines_of(count: u32, rounds: &[Round]) -> Vec<Line> {
    let line = |beside: &str, unit, value: fn(&Round) -> (f64, f64)| {
        Line::of(
            format!("refresh, {count} sessions, {beside}"),
            unit,
            rounds.iter().map(value),
        )
    };
    let (bare, behind_grpc, two) = (
        "one node / bare group",
        "one node / bare group behind gRPC",
        "two nodes / one",
    );
    vec![
        line(bare, CPU, |round| (round.one.cpu, round.bare.cpu)).with_goal(Goal::AtMost(1.3)),
        line(bare, RATE, |round| (round.one.rate, round.bare.rate)).with_goal(Goal::AtLeast(0.8)),
        line(behind_grpc, CPU, |round| (round.one.cpu, round.behind_grpc.cpu)).with_goal(Goal::AtMost(1.3)),
        line(behind_grpc, RATE, |round| {
            (round.one.rate, round.behind_grpc.rate)
        })
        .with_goal(Goal::AtLeast(0.8)),
        line(two, CPU, |round| (round.two.cpu, round.one.cpu)),
        line(two, RATE, |round| (round.two.rate, round.one.rate)).with_goal(Goal::AtLeast(0.9)),
    ]
}

/// With more sessions beside with fewer: not in the same rounds, as sessions are only added.
fn growth(few: u32, before: &[Round], many: u32, after: &[Round]) -> [Line; 2] {
    let line = |unit, value: fn(&Sample) -> f64| {
        let values = after.iter().zip(before);
        let values = values.map(|(after, before)| (value(&after.one), value(&before.one)));
        Line::of(
            format!("refresh, one node, {many} sessions / {few}"),
            unit,
            values,
        )
    };
    [line(CPU, |sample| sample.cpu), line(RATE, |sample| sample.rate)]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    /// Why a run with these arguments is refused.
    fn refused(typed: &[&str]) -> Option<String> {
        let typed = ["tessera-bench", "run"].iter().chain(typed);
        let Command::Run(run) = Arguments::parse_from(typed).command else {
            panic!("not a run")
        };
        check(&run).err().map(|failure| failure.to_string())
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let without_database = refused(&["--only", "group"]).unwrap();
        assert!(without_database.contains("--postgres URL"), "{without_database}");
        let url = ["--postgres", "host=db1"];
        let with = |more: &[&str]| refused(&[&url, more].concat());
        assert_eq!(with(&[]), None);
        assert_eq!(refused(&[]), None);
        let too_few = with(&["--group-sessions", "255"]).unwrap();
        assert!(too_few.contains("--in-flight"), "{too_few}");
        assert!(with(&["--group-sessions", "2000,1000"]).is_some());
        assert_eq!(with(&["--only", "issue", "--group-sessions", "1"]), None);
    }

    #[test]
    fn each_number_of_sessions_has_its_lines_with_goals() {
        let sample = |rate, cpu| Sample {
            rate,
            least: 0.0,
            p50: 0.0,
            p99: 0.0,
            cpu,
        };
        let round = Round {
            bare: sample(100.0, 10.0),
            behind_grpc: sample(50.0, 20.0),
            one: sample(40.0, 26.0),
            two: sample(35.0, 30.0),
        };
        let lines: Vec<_> = lines_of(1000, &[round]).iter().map(Line::to_json).collect();
        let reached: Vec<_> = lines.iter().map(|line| line["reached"].as_bool()).collect();
        let expected = [
            Some(false),
            Some(false),
            Some(true),
            Some(true),
            None,
            Some(false),
        ];
        assert_eq!(reached, expected);
        assert!(
            lines
                .iter()
                .all(|line| line["what"].as_str().unwrap().contains("1000 sessions"))
        );
    }
}
