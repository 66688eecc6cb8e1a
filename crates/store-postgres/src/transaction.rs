//! A transaction that writes: how it begins, and how one knows whether it was committed.

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

/// The statements with which a transaction of a writer begins. The lock is a statement of its own: those behind it see what
/// was committed before it was given.
pub(crate) fn opening(node: &Node, before: &State) -> Vec<Query> {
    vec![
        Query::new(BEGIN),
        Query::new(LOCK).value(node.lock_key()),
        State::read(before.number, node.id),
        events_after(before.last.0),
    ]
}

/// The state, the events that are not applied here yet, and what else was asked.
type Opened = (Found, Vec<Kept>, Vec<Vec<Row>>);

/// What the statements of `opening` answered, and what those behind them did.
pub(crate) fn opened(answers: Vec<Vec<Row>>) -> Result<Opened, StoreError> {
    let mut answers = answers.into_iter().skip(2);
    let found = Found::of(&answers.next().unwrap_or_default())?;
    let events = kept(&answers.next().unwrap_or_default())?;
    Ok((found, events, answers.collect()))
}

/// What became of a transaction whose last statement is `COMMIT`.
pub(crate) enum Outcome {
    Committed,
    RolledBack(Failure),
    InDoubt(Failure),
}

/// A `COMMIT` is only one where no statement before it failed: else it rolls back, and says nothing of it. One that was
/// answered with a warning is on this server only.
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

/// Says that this node is there, with the heartbeat `beat`. A commit that writes nothing would wait for no standby.
pub(crate) fn touch(node: &Node, last: Sequence, beat: u64) -> Query {
    let touch = Query::new(TOUCH).value(node.id).value(number(last.0));
    touch.value(node.name.clone()).value(number(beat))
}
