//! A transaction that writes: its beginning, and how to find out whether it was committed.

use tessera_core::Sequence;
use tessera_store::StoreError;
use tokio_postgres::Row;

use crate::{
    connect::Query,
    error::Failure,
    node::{Kept, Node, events_after, kept},
    state::{Found, State, number},
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
pub(crate) const COMMIT: &str = "COMMIT";
const TOUCH: &str = "INSERT INTO node AS n (id, seq, name, beat) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (id) DO UPDATE SET seen = clock_timestamp(), seq = greatest(n.seq, excluded.seq), \
    beat = greatest(n.beat, excluded.beat)";

/// The first statements of a writer's transaction. The lock is a separate statement, so that the later ones see what
/// was committed before it was granted.
pub(crate) fn opening(node: &Node, before: &State) -> Vec<Query> {
    vec![
        Query::new(BEGIN),
        Query::new(LOCK).value(node.lock_key()),
        State::read(before.number, node.id),
        events_after(before.last.0),
    ]
}

/// The state, the events that are not applied here yet, and the results of the other statements.
type Opened = (Found, Vec<Kept>, Vec<Vec<Row>>);

/// Reads the results of the statements of `opening`, and of those after them.
pub(crate) fn opened(answers: Vec<Vec<Row>>) -> Result<Opened, StoreError> {
    let mut answers = answers.into_iter().skip(2);
    let found = Found::of(&answers.next().unwrap_or_default())?;
    let events = kept(&answers.next().unwrap_or_default())?;
    Ok((found, events, answers.collect()))
}

/// The result of a transaction whose last statement is `COMMIT`.
pub(crate) enum Outcome {
    Committed,
    RolledBack(Failure),
    InDoubt(Failure),
}

/// A `COMMIT` commits only if no statement before it failed. Otherwise it rolls back, without an error. A commit that
/// was acknowledged with a warning is on this server only.
pub(crate) fn outcome(results: Vec<Result<Vec<Row>, Failure>>, has_warned: bool) -> Outcome {
    let mut refused = None;
    for result in results {
        match result {
            Ok(_) => {}
            Err(failure @ Failure::Away(_)) => {
                return match refused {
                    Some(refused) => Outcome::RolledBack(refused),
                    None => Outcome::InDoubt(failure),
                };
            }
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    match refused {
        Some(failure) => Outcome::RolledBack(failure),
        None if has_warned => Outcome::InDoubt(Failure::Away(
            "the database warned that the commit may be on no standby".to_owned(),
        )),
        None => Outcome::Committed,
    }
}

/// Reports that this node is running, with the heartbeat `beat`. A commit that writes nothing would not wait for a
/// standby.
pub(crate) fn touch(node: &Node, last: Sequence, beat: u64) -> Query {
    let touch = Query::new(TOUCH).value(node.id).value(number(last.0));
    touch.value(node.name.clone()).value(number(beat))
}
