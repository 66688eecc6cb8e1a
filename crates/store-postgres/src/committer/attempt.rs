//! One try of a group: two round trips, or one if it writes nothing.

use std::{sync::Arc, time::Instant};

use tessera_core::SessionId;
use tessera_store::{CommittedGroup, Placed, StoreError};
use uuid::Uuid;

use super::waiting::Waiting;
use crate::{
    connect::{Connection, Query, all, pipeline},
    error::Failure,
    group::{Group, Ran, write::Finished},
    node::{Kept, Node, beat_in},
    partition::{self, Table},
    read_set::{ReadSet, queries},
    schema::random_id,
    state::{State, get, number},
    transaction::{COMMIT, Outcome, opened, opening, outcome, touch},
};

const MARKER: &str = "SELECT id FROM commit_group WHERE number = $1";

/// The answer for each unit of a group.
pub(super) type Answers = Vec<Result<Placed, StoreError>>;

/// The result of one try.
pub(super) enum Attempt {
    /// The group is committed, and durable.
    Committed(Answers),
    /// It is not known whether the group is committed.
    InDoubt(Doubt, Failure),
    /// One of these sessions exists already.
    Duplicate(Vec<SessionId>, Failure),
}

/// A group whose commit was sent, and not acknowledged as required.
pub(super) struct Doubt {
    number: u64,
    id: Uuid,
    /// The answers for its units if it is committed.
    pub(super) answers: Answers,
}

/// A group that was sent.
struct Written {
    doubt: Doubt,
    state: State,
    events: Vec<Kept>,
    inserted: Vec<SessionId>,
    /// The partitions that it made, by their tables, up to this number.
    room: Vec<(Table, u64)>,
}

/// Runs the group as one transaction.
pub(super) async fn attempt(
    node: &Node,
    connection: &Connection,
    units: &mut [Waiting],
    load: &ReadSet,
) -> Result<Attempt, Failure> {
    let began = Instant::now();
    connection.take_warning();
    let mut needed = load.clone();
    units
        .iter()
        .for_each(|waiting| needed.add(ReadSet::of(waiting.unit.reads())));
    let mut group = begin(node, connection, needed).await?;
    let answers = decide(&mut group, units, connection).await?;
    if group.writes_nothing() {
        // The decisions count if the server that was read is the primary.
        let seen = all(&connection.client, vec![node.ask_beat(), Query::new(COMMIT)]).await?;
        node.ensure_primary(beat_in(seen.first().map(Vec::as_slice).unwrap_or_default())?)?;
        return Ok(Attempt::Committed(answers));
    }
    let id = random_id()?;
    let inserted = group.inserted().collect();
    let Finished {
        mut queries,
        state,
        events,
    } = group.finish(id)?;
    let room = make_room(node, connection, &state).await?;
    let doubt = Doubt {
        number: state.number,
        id,
        answers,
    };
    let written = Written {
        doubt,
        state,
        events,
        inserted,
        room,
    };
    queries.push(Query::new(COMMIT));
    let writing = Instant::now();
    let results = pipeline(&connection.client, queries).await?;
    Ok(match outcome(results, connection.take_warning()) {
        Outcome::Committed => Attempt::Committed(finish(node, written, units.len(), began, writing)?),
        Outcome::RolledBack(failure) if failure.is_duplicate() => {
            Attempt::Duplicate(written.inserted, failure)
        }
        Outcome::RolledBack(failure) => return Err(failure),
        Outcome::InDoubt(failure) => Attempt::InDoubt(written.doubt, failure),
    })
}

/// Finds out whether a group was committed: the holder of the lock sees everything that is committed.
pub(super) async fn resolve(node: &Node, connection: &Connection, doubt: &Doubt) -> Result<bool, Failure> {
    connection.take_warning();
    let before = node.before();
    let mut trip = opening(node, &before.state);
    trip.push(Query::new(MARKER).value(number(doubt.number)));
    let answers = all(&connection.client, trip).await?;
    let (found, events, mut rest) = opened(answers)?;
    node.apply(&before, &found, events)?;
    let marker = rest.pop().unwrap_or_default();
    let id: Option<Uuid> = marker.first().map(|row| get(row, 0)).transpose()?;
    // Commits are replicated in order: once this one is durable, the one in doubt is durable too.
    let (beat, beat_began) = (node.next_beat(), Instant::now());
    let touch = touch(node, found.state.last, beat);
    let results = pipeline(&connection.client, vec![touch, Query::new(COMMIT)]).await?;
    match outcome(results, connection.take_warning()) {
        Outcome::Committed => {
            node.note_durable(found.state.number);
            node.beats.note(beat, beat_began);
        }
        Outcome::RolledBack(failure) | Outcome::InDoubt(failure) => return Err(failure),
    }
    let is_there = id == Some(doubt.id);
    tracing::warn!(group = doubt.number, is_there, "what became of a group is known");
    Ok(is_there)
}

/// The first round trip: it takes the lock, applies what other nodes committed, and reads what the units name.
async fn begin<'a>(node: &'a Node, connection: &Connection, needed: ReadSet) -> Result<Group<'a>, Failure> {
    let before = node.before();
    let mut trip = opening(node, &before.state);
    trip.extend(queries(&needed));
    let (found, events, rest) = opened(all(&connection.client, trip).await?)?;
    node.apply(&before, &found, events)?;
    let mut group = Group::new(node, found.state);
    group.take(&needed, rest)?;
    Ok(group)
}

/// Makes the partitions that the group needs: calls can come faster than the task that makes them in advance looks.
async fn make_room(
    node: &Node,
    connection: &Connection,
    state: &State,
) -> Result<Vec<(Table, u64)>, Failure> {
    let mut made = Vec::new();
    for (table, last) in node.room.missing(state) {
        made.push((table, partition::extend(&connection.client, table, last).await?));
    }
    Ok(made)
}

/// Runs each unit in turn. A unit that needs more reads costs a round trip, also for all units after it. A unit whose
/// caller has left does not run: whatever its caller did at other nodes was committed before the lock was granted.
async fn decide(
    group: &mut Group<'_>,
    units: &mut [Waiting],
    connection: &Connection,
) -> Result<Answers, Failure> {
    let mut answers = Vec::with_capacity(units.len());
    for waiting in units {
        if waiting.is_abandoned() {
            answers.push(Err(StoreError::Unavailable {
                detail: "the caller did not wait for the answer".to_owned(),
            }));
            continue;
        }
        let answer = loop {
            match group.run(&mut waiting.unit) {
                Ran::Done(answer) => break answer,
                Ran::Needs(needed) => {
                    let rows = all(&connection.client, queries(&needed)).await?;
                    group.take(&needed, rows)?;
                }
            }
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// Publishes what is durable now.
fn finish(
    node: &Node,
    written: Written,
    units: usize,
    began: Instant,
    writing: Instant,
) -> Result<Answers, Failure> {
    let Written {
        doubt,
        state,
        events,
        room,
        ..
    } = written;
    for (table, through) in room {
        node.room.note(table, through);
    }
    let shown: Vec<_> = events.iter().map(|kept| Arc::clone(&kept.event)).collect();
    node.note_durable(state.number);
    node.apply_own(&state, events)?;
    node.log.tell_observer(&CommittedGroup {
        units,
        took: began.elapsed(),
        synced: writing.elapsed(),
        events: &shown,
    });
    Ok(doubt.answers)
}
