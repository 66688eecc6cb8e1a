//! Beginning a new log in a database that was restored from a copy, or into which a backup was read.
//!
//! Tokens and keys that were revoked since the copy was made are valid in it until everything in it is ended. So the
//! schema is marked first, and no node serves it until the mark is removed, with the first group of a new log.

use tessera_core::{LogId, Sequence};
use uuid::Uuid;

use crate::{
    connect::{Connector, Query, all},
    error::OpenError,
    options::PostgresOptions,
    schema::random_id,
    state::{Found, State},
    transaction::COMMIT,
};

/// The distance to the position at which a new log begins.
const FAR: u64 = 1 << 32;

pub(crate) const MARK: &str =
    "INSERT INTO setting (name, body) VALUES ('restoring', '') ON CONFLICT (name) DO NOTHING";
const UNMARK: &str = "DELETE FROM setting WHERE name = 'restoring'";
pub(crate) const IS_MARKED: &str = "SELECT EXISTS (SELECT FROM setting WHERE name = 'restoring')";

/// Marks the schema: a start refuses it from now on.
pub(crate) async fn mark(options: &PostgresOptions) -> Result<(), OpenError> {
    let connection = Connector::new(options)?.open().await?;
    all(&connection.client, vec![Query::new(MARK)]).await?;
    Ok(())
}

/// Begins a new log far beyond the log of the copy, and removes the mark. Returns the log, and its first group.
pub(crate) async fn begin(options: &PostgresOptions) -> Result<(LogId, u64), OpenError> {
    let connection = Connector::new(options)?.open().await?;
    let trip = vec![
        Query::new("BEGIN"),
        // A node that opens it waits.
        Query::new("LOCK TABLE meta IN EXCLUSIVE MODE"),
        State::read(0, Uuid::nil()),
    ];
    let answers = all(&connection.client, trip).await?;
    let found = Found::of(answers.last().map(Vec::as_slice).unwrap_or_default())?;
    let last = Sequence(found.state.last.0.saturating_add(FAR));
    let (log, id) = (random_id()?, random_id()?);
    let state = State {
        number: found.state.number.saturating_add(1),
        id,
        last,
        floor: last,
        ..found.state
    };
    let trip = vec![
        Query::new("UPDATE meta SET log_id = $1").value(log),
        state.insert(Uuid::nil())?,
        Query::new(UNMARK),
        Query::new(COMMIT),
    ];
    all(&connection.client, trip).await?;
    Ok((LogId::from_bytes(*log.as_bytes()), state.number))
}
