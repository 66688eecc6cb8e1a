//! Opening: the server is checked, the schema is made or refused, and the revocations are read.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tessera_core::{Event, Revocations, Timestamp};
use tessera_store::{
    CutoffKey, Log, StoreError,
    backend::{LogStart, cutoff_target, decode},
};
use tokio::time::timeout;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    check,
    connect::{Connection, Connector, Query, TRIP_MAX, all, silent},
    error::OpenError,
    follower,
    node::{Node, lock_key},
    options::PostgresOptions,
    schema::{self, random_id},
    state::{Found, State, damaged, get},
    transaction::COMMIT,
};

/// How long making or migrating the schema may take.
const MIGRATION_MAX: Duration = Duration::from_secs(60);

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const EVENTS: &str = "SELECT body FROM event ORDER BY seq";
const CUTOFFS: &str = "SELECT until, body FROM cutoff";

/// The node, after it has proved that it can write.
pub(crate) async fn open(options: &PostgresOptions) -> Result<Arc<Node>, OpenError> {
    let connector = Connector::new(options)?;
    let first = ready(&connector, options).await?.0;
    in_time(TRIP_MAX, check::is_whole(&first.client, options)).await?;
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
    in_time(TRIP_MAX, check::lock(&first, &connector, lock_key(found.log))).await?;
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
        .create_timeout(Some(connector.time_max()))
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
    in_time(TRIP_MAX, follower::heartbeat(&node, &first)).await?;
    Ok(node)
}

/// A connection to a usable server whose schema has this version's form, and the schema's earlier version.
pub(crate) async fn ready(
    connector: &Connector,
    options: &PostgresOptions,
) -> Result<(Connection, i32), OpenError> {
    let connection = connector.open_any().await?;
    in_time(TRIP_MAX, check::session(&connection, connector)).await?;
    in_time(TRIP_MAX, check::server(&connection.client)).await?;
    in_time(TRIP_MAX, connector.check_durability(&connection)).await?;
    let version = in_time(MIGRATION_MAX, schema::prepare(&connection.client, options)).await?;
    Ok((connection, version))
}

/// A frozen server accepts connections, and answers nothing.
async fn in_time<T, E: Into<OpenError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, OpenError> {
    match timeout(limit, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(silent(limit).into()),
    }
}

/// The log must have each event between its floor and its end. Events below the floor that still matter may have gaps.
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

/// The log, with everything that the events and the cutoffs revoke.
fn log(found: &Found, events: &[Row], cutoffs: &[Row]) -> Result<(Log, Cutoffs), StoreError> {
    let mut revocations = Revocations::default();
    let mut kept = Vec::with_capacity(events.len());
    for row in events {
        let event: Event = decode("an event", get(row, 0)?)?;
        // Events that end sessions are among the cutoffs, with the time that counts for them.
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
        audit_head: state.audit,
        ..LogStart::empty(found.log)
    };
    Ok((Log::new(start), known))
}
