//! Opening: the server is checked, the schema made or refused, and what is revoked is read.

use std::{collections::HashMap, sync::Arc};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tessera_core::{Event, Revocations, Timestamp};
use tessera_store::{
    CutoffKey, Log, StoreError,
    backend::{LogStart, cutoff_target, decode},
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    check,
    connect::{Connector, Query, all},
    error::OpenError,
    follower,
    node::{Node, lock_key},
    options::PostgresOptions,
    schema::{self, random_id},
    state::{Found, State, damaged, get},
    transaction::COMMIT,
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const EVENTS: &str = "SELECT body FROM event ORDER BY seq";
const CUTOFFS: &str = "SELECT until, body FROM cutoff";

/// The node, once it has proved that it can write.
pub(crate) async fn open(options: &PostgresOptions) -> Result<Arc<Node>, OpenError> {
    let connector = Connector::new(options)?;
    let first = connector.open().await?;
    check::server(&first.client).await?;
    check::durability(&first.client, options).await?;
    schema::prepare(&first.client, options).await?;
    check::is_whole(&first.client, options).await?;
    let trip = vec![
        Query::new(BEGIN),
        State::read(0, Uuid::nil()),
        Query::new(EVENTS),
        Query::new(CUTOFFS),
        Query::new(COMMIT),
    ];
    let answers = all(&first.client, trip).await?;
    let [_, state, events, cutoffs, _] = answers.as_slice() else {
        return Err(OpenError::Away {
            detail: "it did not answer what was asked".to_owned(),
        });
    };
    let found = Found::of(state)?;
    check::lock(&first, &connector, lock_key(found.log)).await?;
    let (log, cutoffs) = log(&found, events, cutoffs)?;
    let manager = Manager::from_connect(
        tokio_postgres::Config::new(),
        connector.clone(),
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let pool = Pool::builder(manager)
        .max_size(options.readers)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(options.commit_timeout))
        .build()
        .map_err(|error| OpenError::Setting {
            setting: "readers",
            problem: error.to_string(),
        })?;
    let node = Arc::new(Node::new(
        connector,
        pool,
        (random_id()?, options.node.clone()),
        log,
        found.state,
        cutoffs,
    ));
    follower::heartbeat(&node, &mut Some(first)).await?;
    Ok(node)
}

/// The log has each event between its floor and its end; those below the floor that still matter may have any number.
fn check_whole(state: &State, events: &[Arc<Event>]) -> Result<(), StoreError> {
    let above = events.iter().filter(|event| event.sequence > state.floor);
    let mut last = state.floor;
    for event in above {
        if event.sequence != last.next() {
            break;
        }
        last = event.sequence;
    }
    if last == state.last {
        return Ok(());
    }
    Err(damaged(&format!(
        "the log has no event {}, and ends at {}",
        last.next().0,
        state.last.0
    )))
}

type Cutoffs = HashMap<CutoffKey, Timestamp>;

/// The log, with all that the events and the cutoffs revoke.
fn log(found: &Found, events: &[Row], cutoffs: &[Row]) -> Result<(Log, Cutoffs), StoreError> {
    let mut revocations = Revocations::default();
    let mut kept = Vec::with_capacity(events.len());
    for row in events {
        let event: Event = decode("an event", get(row, 0)?)?;
        // Those that end sessions are among the cutoffs, with the time that counts for them.
        if cutoff_target(&event.body).is_none() {
            revocations.apply(&event);
        }
        kept.push(Arc::new(event));
    }
    check_whole(&found.state, &kept)?;
    let mut known = Cutoffs::new();
    for row in cutoffs {
        let until = Timestamp::from_millis(get(row, 0)?);
        let event: Event = decode("an event", get(row, 1)?)?;
        revocations.apply_until(&event, until);
        known.extend(CutoffKey::of(&event).map(|key| (key, until)));
    }
    let state = &found.state;
    revocations.advance(state.last);
    let start = LogStart {
        last: state.last,
        floor: state.floor,
        events: kept,
        revocations,
        times: state.times.clone(),
        purged: state.purged,
        ..LogStart::empty(found.log)
    };
    Ok((Log::new(start), known))
}
