//! The measurements, and their order.

use std::{cell::RefCell, iter, time::Duration};

use tonic::transport::Channel;

use crate::{
    arguments::{Part, Run},
    caller::{Caller, Echo},
    drive::{Sample, drive},
    failure::Failure,
    fanout::{Broadcast, Deliveries, Frozen, Revoke, Watchers},
    fsync, group,
    parcel::Sizes,
    refusal::{Refusals, Verifiers},
    report::{Goal, Line, Report},
    rounds::rounds,
    sessions,
    stage::{Stage, Target},
    verb::Verb,
};

/// Revocations in progress at once when deliveries are counted.
const FLOOD_IN_FLIGHT: u16 = 64;
/// The goal applies to this number of verifiers.
const REFUSAL_GOAL_AT: u16 = 1000;
/// Refreshes in progress at once when something else is measured.
const REFRESHES_BESIDE: u16 = 4;

/// Makes the requested measurements.
pub(crate) async fn run(stage: &Stage, arguments: &Run) -> Result<Report, Failure> {
    let suite = Suite {
        stage,
        arguments,
        remarks: RefCell::default(),
    };
    if arguments.sessions > 0 {
        suite.begin_sessions().await?;
    }
    let mut report = Report::new(arguments, stage.other.as_ref().map(|other| other.version.clone()));
    for verb in Verb::ALL {
        if arguments.includes(verb.part()) {
            report.add(suite.calls(verb).await?);
        }
    }
    if arguments.includes(Part::Durable) {
        report.add(suite.durable().await?);
    }
    if arguments.includes(Part::Group) {
        let measured = group::run(stage, arguments).await?;
        report.add(measured.lines);
        report.remark(measured.remarks);
    }
    // This part is the last, as it leaves thousands of revocations that introspection would have to search.
    if arguments.includes(Part::Watch) {
        report.add(suite.watch().await?);
    }
    if arguments.includes(Part::Frozen) {
        report.add(suite.frozen().await?);
    }
    if arguments.includes(Part::Refusal) {
        for &count in &arguments.verifiers {
            report.add(suite.refusal(count).await?);
        }
        // All of these are live, and each verifier that starts keeps all of them.
        for &count in &arguments.verifiers {
            report.add([suite.deliveries(count).await?]);
        }
    }
    let alone = [Part::Durable, Part::Watch, Part::Refusal, Part::Frozen];
    if stage.other.is_some() && alone.into_iter().any(|part| arguments.includes(part)) {
        report.remark(["the other tessera is measured in calls only".to_owned()]);
    }
    report.remark(stage.other.iter().flat_map(|other| other.remarks.clone()));
    report.remark(suite.remarks.take());
    Ok(report)
}

struct Suite<'a> {
    stage: &'a Stage,
    arguments: &'a Run,
    /// What the other `tessera` does not support.
    remarks: RefCell<Vec<String>>,
}

/// The measurements of one round.
struct Calls {
    tessera: Sample,
    echo: Sample,
    /// `None` if there is no other `tessera`, or if it does not support the call.
    other: Option<Sample>,
}

impl Suite<'_> {
    /// Begins the sessions that exist before anything is measured, at both `tessera`.
    async fn begin_sessions(&self) -> Result<(), Failure> {
        let other = self.stage.other.as_ref().map(|other| &other.target);
        for target in iter::once(&self.stage.tessera).chain(other) {
            sessions::begin(target, self.arguments.sessions, self.arguments.in_flight).await?;
        }
        Ok(())
    }

    /// One verb beside an echo of the same sizes.
    async fn calls(&self, verb: Verb) -> Result<Vec<Line>, Failure> {
        let in_flight = self.arguments.in_flight;
        let tessera = &self.stage.tessera;
        let sizes = verb.sizes(tessera).await?;
        let mut other = self.stage.other.as_ref().map(|other| &other.target);
        let mut is_other_first = false;
        let rounds = rounds(self.arguments, verb.name(), async |time| {
            let echo = self.drive_echo(in_flight, sizes, time).await?;
            is_other_first = !is_other_first;
            let before = match other.filter(|_| is_other_first) {
                Some(target) => self.try_verb(verb, target, time).await,
                None => None,
            };
            let called = drive_verb(verb, tessera, in_flight, time).await?;
            let after = match other.filter(|_| !is_other_first) {
                Some(target) => self.try_verb(verb, target, time).await,
                None => None,
            };
            let sample = before.or(after);
            // A failed call would fail in each round.
            other = other.filter(|_| sample.is_some());
            Ok(Calls {
                tessera: called,
                echo,
                other: sample,
            })
        });
        Ok(call_lines(verb, &rounds.await?))
    }

    /// Calls the other `tessera`. It may be too old for the call: this is noted, and the rest is measured.
    async fn try_verb(&self, verb: Verb, target: &Target, time: Duration) -> Option<Sample> {
        match drive_verb(verb, target, self.arguments.in_flight, time).await {
            Ok(sample) => Some(sample),
            Err(failure) => {
                let remark = format!("the other tessera can't do `{}`: {failure}", verb.name());
                self.remarks.borrow_mut().push(remark);
                None
            }
        }
    }

    /// Durable operations beside a writer that only appends and syncs.
    async fn durable(&self) -> Result<[Line; 2], Failure> {
        let in_flight = self.arguments.in_flight;
        let tessera = &self.stage.tessera;
        let sizes = Verb::Issue.sizes(tessera).await?;
        let rounds = rounds(self.arguments, "durable", async |time| {
            let writes = fsync::append_and_sync(self.stage.directory(), time / 2).await?;
            let echo = self.drive_echo(1, sizes, time / 2).await?;
            let callers = Verb::Issue.callers(tessera, 1, time).await?;
            let (alone, _) = drive(callers, time / 2, &tessera.process).await?;
            let callers = Verb::Issue.callers(tessera, in_flight, time).await?;
            let (together, _) = drive(callers, time, &tessera.process).await?;
            let operations = (together.rate, writes.rate);
            Ok((operations, (alone.p50, echo.p50 + writes.latency.p50)))
        });
        let rounds = rounds.await?;
        let operations = rounds.iter().map(|(operations, _)| *operations);
        let alone = rounds.iter().map(|(_, alone)| *alone);
        Ok([
            Line::of("issue / append and fdatasync", "operations/s", operations)
                .with_goal(Goal::AtLeast(2.0)),
            Line::of("issue, 1 in flight / echo + fdatasync", "p50 µs", alone).with_goal(Goal::AtMost(2.5)),
        ])
    }

    /// One revocation to many watchers beside one broadcast to as many subscribers.
    async fn watch(&self) -> Result<Vec<Line>, Failure> {
        let Stage { tessera, echo, .. } = self.stage;
        let count = self.arguments.watchers;
        let mut revoke = Revoke::new(first_channel(tessera)?, tessera.authorization(), 0);
        let mut watchers = Watchers::of_revocations(tessera, tessera.channels_for(count)).await?;
        let (sizes, event) = watchers.try_out(&mut revoke).await?;
        let mut broadcast = Broadcast::new(first_channel(echo)?, echo.authorization(), sizes, event);
        let mut subscribers = Watchers::of_broadcasts(echo, echo.channels_for(count)).await?;
        let rounds = rounds(self.arguments, "watch", async |time| {
            let broadcasts = subscribers.measure(&mut broadcast, time, &echo.process).await?;
            let revocations = watchers.measure(&mut revoke, time, &tessera.process).await?;
            Ok((revocations, broadcasts))
        });
        Ok(watch_lines(&rounds.await?))
    }

    /// One revocation until every verifier refuses by it, beside one broadcast to as many subscribers. Each has a
    /// separate connection.
    async fn refusal(&self, count: u16) -> Result<Vec<Line>, Failure> {
        let Stage { tessera, echo, .. } = self.stage;
        let (sizes, event) = self.event_sizes().await?;
        let mut broadcast = Broadcast::new(first_channel(echo)?, echo.authorization(), sizes, event);
        let mut subscribers = Watchers::of_broadcasts(echo, echo.own_channels_for(count).await?).await?;
        let mut verifiers = Verifiers::of(tessera, count).await?;
        let name = format!("refusal at {count}");
        let rounds = rounds(self.arguments, &name, async |time| {
            let broadcasts = subscribers.measure(&mut broadcast, time, &echo.process).await?;
            Ok((verifiers.measure(time).await?, broadcasts))
        });
        Ok(refusal_lines(count, &rounds.await?))
    }

    /// As many revocations as the watchers can receive, beside as many broadcasts.
    async fn deliveries(&self, count: u16) -> Result<Line, Failure> {
        let Stage { tessera, echo, .. } = self.stage;
        let (sizes, event) = self.event_sizes().await?;
        let mut subscribers = Watchers::of_broadcasts(echo, echo.own_channels_for(count).await?).await?;
        let mut watchers = Watchers::of_revocations(tessera, tessera.own_channels_for(count).await?).await?;
        let name = format!("deliveries to {count}");
        let rounds = rounds(self.arguments, &name, async |time| {
            let bare = |channel| Broadcast::new(channel, echo.authorization(), sizes, event);
            let broadcasts = echo.channels_for(FLOOD_IN_FLIGHT).map(bare).collect();
            let broadcasts = subscribers.flood(broadcasts, time).await?;
            let channels = (1..).zip(tessera.channels_for(FLOOD_IN_FLIGHT));
            let revoke = |(number, channel)| Revoke::new(channel, tessera.authorization(), number);
            let revocations = watchers.flood(channels.map(revoke).collect(), time).await?;
            Ok((revocations, broadcasts))
        });
        let what = format!("deliveries to {count}, 64 in flight");
        Ok(Line::of(what, "deliveries/s", rounds.await?.into_iter()))
    }

    /// The sizes of Revoke, and of the event that it causes.
    async fn event_sizes(&self) -> Result<(Sizes, usize), Failure> {
        let tessera = &self.stage.tessera;
        let mut revoke = Revoke::new(first_channel(tessera)?, tessera.authorization(), 0);
        let mut watcher = Watchers::of_revocations(tessera, tessera.channels_for(1)).await?;
        watcher.try_out(&mut revoke).await
    }

    /// Refreshes alone, beside watchers, and beside watchers and some more that do not read, while ten revocations per
    /// second are sent to them.
    async fn frozen(&self) -> Result<[Line; 2], Failure> {
        let tessera = &self.stage.tessera;
        let count = self.arguments.watchers;
        let (_, event) = self.event_sizes().await?;
        // A different number from the previous part: no label is revoked twice.
        let mut revoke = Revoke::new(first_channel(tessera)?, tessera.authorization(), 1);
        let rounds = rounds(self.arguments, "frozen", async |time| {
            let alone = self.refreshes(&mut revoke, time).await?;
            let mut watchers = Watchers::of_revocations(tessera, tessera.channels_for(count)).await?;
            let beside = self.refreshes(&mut revoke, time).await?;
            let _frozen = Frozen::on(tessera, count.div_ceil(10), &mut revoke, event).await?;
            let beside_frozen = self.refreshes(&mut revoke, time).await?;
            watchers.pass_over()?;
            Ok(((beside.p99, alone.p99), (beside_frozen.p99, beside.p99)))
        });
        let rounds = rounds.await?;
        let line = |name, values: Vec<_>| Line::of(name, "p99 µs", values.into_iter());
        Ok([
            line(
                "refresh beside watchers / alone",
                rounds.iter().map(|round| round.0).collect(),
            ),
            line(
                "and a tenth more frozen / without",
                rounds.iter().map(|round| round.1).collect(),
            )
            .with_goal(Goal::AtMost(1.1)),
        ])
    }

    /// A few refreshes at once, while revocations happen.
    async fn refreshes(&self, revoke: &mut Revoke, time: Duration) -> Result<Sample, Failure> {
        let tessera = &self.stage.tessera;
        let callers = Verb::Refresh.callers(tessera, REFRESHES_BESIDE, time).await?;
        tokio::select! {
            sample = drive(callers, time, &tessera.process) => Ok(sample?.0),
            status = revoke.steadily() => Err(Failure::at("revoking", status)),
        }
    }

    async fn drive_echo(&self, in_flight: u16, sizes: Sizes, time: Duration) -> Result<Sample, Failure> {
        let echo = &self.stage.echo;
        let channels = echo.channels_for(in_flight);
        let caller = |channel| Caller::Echo(Echo::new(channel, echo.authorization(), sizes));
        Ok(drive(channels.map(caller).collect(), time, &echo.process)
            .await?
            .0)
    }
}

async fn drive_verb(verb: Verb, target: &Target, in_flight: u16, time: Duration) -> Result<Sample, Failure> {
    let callers = verb.callers(target, in_flight, time).await?;
    Ok(drive(callers, time, &target.process).await?.0)
}

fn first_channel(server: &Target) -> Result<Channel, Failure> {
    let first = server.channels_for(1).next();
    first.ok_or_else(|| Failure::new("there is no connection"))
}

fn call_lines(verb: Verb, rounds: &[Calls]) -> Vec<Line> {
    let line = |unit, value: fn(&Sample) -> f64| {
        let beside_echo = rounds
            .iter()
            .map(|round| (value(&round.tessera), value(&round.echo)));
        let beside_other = rounds.iter().filter_map(|round| {
            let other = round.other.as_ref()?;
            Some((value(&round.tessera), value(other)))
        });
        Line::of(verb.name(), unit, beside_echo).with_other(beside_other)
    };
    vec![
        line("server CPU µs/call", |sample| sample.cpu).with_goal(verb.goal()),
        line("calls/s", |sample| sample.rate),
        line("p50 µs", |sample| sample.p50),
        line("p99 µs", |sample| sample.p99),
    ]
}

fn watch_lines(rounds: &[(Deliveries, Deliveries)]) -> Vec<Line> {
    let line = |what, unit, value: fn(&Deliveries) -> f64| {
        let values = rounds.iter().map(move |(ours, bare)| (value(ours), value(bare)));
        Line::of(what, unit, values)
    };
    vec![
        line("watch, after the answer", "p50 µs", |round| {
            round.after_answer.p50
        }),
        line("watch, after the answer", "p99 µs", |round| {
            round.after_answer.p99
        })
        .with_goal(Goal::AtMost(1.2)),
        line("watch, after the call", "p50 µs", |round| round.after_call.p50),
        line("watch, after the call", "p99 µs", |round| round.after_call.p99),
        line("watch", "server CPU µs/delivery", |round| round.cpu).with_goal(Goal::AtMost(1.2)),
    ]
}

fn refusal_lines(count: u16, rounds: &[(Refusals, Deliveries)]) -> Vec<Line> {
    let line = |what, unit, ours: fn(&Refusals) -> f64, bare: fn(&Deliveries) -> f64| {
        let values = rounds.iter().map(|(o, b)| (ours(o), bare(b)));
        Line::of(format!("refusal at {count}, {what}"), unit, values)
    };
    let after_answer = "after the answer";
    let p99 = line(
        after_answer,
        "p99 µs",
        |o| o.after_answer.p99,
        |b| b.after_answer.p99,
    );
    vec![
        line(
            after_answer,
            "p50 µs",
            |o| o.after_answer.p50,
            |b| b.after_answer.p50,
        ),
        match count {
            REFUSAL_GOAL_AT => p99.with_goal(Goal::AtMost(1.2)),
            _ => p99,
        },
        line(
            "after the call",
            "p50 µs",
            |o| o.after_call.p50,
            |b| b.after_call.p50,
        ),
        line(
            "after the call",
            "p99 µs",
            |o| o.after_call.p99,
            |b| b.after_call.p99,
        ),
    ]
}
