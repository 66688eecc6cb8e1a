//! A backup of everything that is kept, from one snapshot: while it is shown, others write.

use std::ops::ControlFlow;

use tessera_core::{ApiKey, Event, Session, SigningKey, Timestamp};
use tessera_store::{
    BackupEnd, BackupError, BackupRecord, BackupVisitor, PolicyFiles, RequestRecord, Settings, StoreError,
    backend::{caught, decode},
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    connect::{Connection, Query, all},
    error::Failure,
    node::Node,
    read::{audit_bytes, failed},
    read_set::{self, SETTINGS, request_in, revision_in, uuid_of},
    state::{Found, State, get, number},
    transaction::COMMIT,
};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The visitor may take long for each record.
const PATIENT: &str = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0";
/// How many rows are read at once.
const PAGE: usize = 500;

const SESSIONS: &str = "SELECT body FROM session WHERE id > $1 ORDER BY id LIMIT $2";
const EVENTS: &str = "SELECT body FROM event WHERE seq > $1 ORDER BY seq LIMIT $2";
const AUDIT: &str =
    "SELECT position, previous, body FROM audit WHERE position > $1 ORDER BY position LIMIT $2";
const REQUESTS: &str = "SELECT realm, client, id, body FROM request WHERE (realm, client, id) > ($1, $2, $3) \
    ORDER BY realm, client, id LIMIT $4";

/// A backup that is being made.
struct Showing<'a> {
    connection: &'a Connection,
    /// `None` while it is called.
    visit: Option<BackupVisitor>,
}

pub(crate) async fn back_up(node: &Node, visit: BackupVisitor) -> Result<BackupEnd, BackupError> {
    node.ensure_current()?;
    let connection = node.connector.open().await.map_err(store)?;
    connection.client.batch_execute(PATIENT).await.map_err(store)?;
    let before = node.before();
    let trip = vec![
        Query::new(BEGIN),
        State::read(before.state.number, node.id),
        Query::new(SETTINGS),
    ];
    let answers = all(&connection.client, trip).await.map_err(store)?;
    let mut answers = answers.into_iter().skip(1);
    let found = Found::of(&answers.next().unwrap_or_default())?;
    let settings = read_set::settings(&answers.next().unwrap_or_default())?;
    node.ensure_primary(found.beat)?;
    let mut showing = Showing {
        connection: &connection,
        visit: Some(visit),
    };
    showing.sessions().await?;
    showing.keys(&settings).await?;
    showing.requests().await?;
    showing.policies().await?;
    showing.events().await?;
    showing.audit(found.state.audit_first).await?;
    all(&connection.client, vec![Query::new(COMMIT)])
        .await
        .map_err(store)?;
    node.ensure_current()?;
    Ok(end_of(found, &settings))
}

fn store(error: impl Into<Failure>) -> BackupError {
    BackupError::Store(StoreError::from(error.into()))
}

fn end_of(found: Found, settings: &Settings) -> BackupEnd {
    let Found { state, log, .. } = found;
    BackupEnd {
        log,
        last: state.last,
        floor: state.floor,
        audit_first: state.audit_first,
        audit_head: state.audit,
        policy: state.policy,
        policy_reconciled: settings.policy_reconciled,
        purged: state.purged,
        times: state.times,
        last_backup: settings.last_backup,
    }
}

impl Showing<'_> {
    async fn rows(&mut self, query: Query) -> Result<Vec<Row>, BackupError> {
        let answers = all(&self.connection.client, vec![query]).await.map_err(store)?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Shows records on a thread on which the visitor may block.
    async fn show(&mut self, records: Vec<BackupRecord>) -> Result<(), BackupError> {
        let Some(mut visit) = self.visit.take() else {
            return Err(BackupError::BrokenOff);
        };
        let shown = tokio::task::spawn_blocking(move || {
            let flow = caught(|| records.into_iter().try_for_each(&mut visit));
            (flow, visit)
        });
        let (flow, visit) = shown.await.map_err(|error| failed(&error))?;
        self.visit = Some(visit);
        match flow {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(())) => Err(BackupError::BrokenOff),
            Err(panic) => Err(BackupError::Store(failed(&format!("a visitor {panic}")))),
        }
    }

    async fn sessions(&mut self) -> Result<(), BackupError> {
        let mut after = Uuid::nil();
        loop {
            let rows = self
                .rows(Query::new(SESSIONS).value(after).value(number(PAGE as u64)))
                .await?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                let session: Session = decode("a session", get(row, 0)?)?;
                after = uuid_of(session.id);
                records.push(BackupRecord::Session(Box::new(session)));
            }
            if records.is_empty() {
                return Ok(());
            }
            self.show(records).await?;
        }
    }

    /// API keys, clients, signing keys and bounds.
    async fn keys(&mut self, settings: &Settings) -> Result<(), BackupError> {
        let mut records = Vec::new();
        for row in &self.rows(Query::new("SELECT body FROM api_key")).await? {
            let key: ApiKey = decode("an API key", get(row, 0)?)?;
            records.push(BackupRecord::ApiKey(Box::new(key)));
        }
        for row in &self.rows(Query::new("SELECT body FROM signing_key")).await? {
            let key: SigningKey = decode("a signing key", get(row, 0)?)?;
            records.push(BackupRecord::SigningKey(Box::new(key)));
        }
        for (realm, client) in &settings.disabled_clients {
            records.push(BackupRecord::Client {
                realm: realm.clone(),
                client: client.clone(),
                is_disabled: true,
            });
        }
        let bounds = settings.staleness_bounds.iter();
        records.extend(bounds.map(|(realm, bound)| BackupRecord::StalenessBound(realm.clone(), *bound)));
        self.show(records).await
    }

    async fn requests(&mut self) -> Result<(), BackupError> {
        let mut after = (String::new(), String::new(), Uuid::nil());
        loop {
            let (realm, client, id) = after.clone();
            let query = Query::new(REQUESTS).value(realm).value(client).value(id);
            let rows = self.rows(query.value(number(PAGE as u64))).await?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                after = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
                let record: RequestRecord = decode("a request", get(row, 3)?)?;
                records.push(BackupRecord::Request(request_in(row)?, record));
            }
            if records.is_empty() {
                return Ok(());
            }
            self.show(records).await?;
        }
    }

    async fn policies(&mut self) -> Result<(), BackupError> {
        let names = self
            .rows(Query::new("SELECT revision FROM policy ORDER BY revision"))
            .await?;
        for name in &names {
            let name: String = get(name, 0)?;
            let query = Query::new("SELECT replaced_at, files FROM policy WHERE revision = $1");
            for row in &self.rows(query.value(name.clone())).await? {
                let replaced_at: Option<i64> = get(row, 0)?;
                let files: PolicyFiles = decode("the files of a policy", get(row, 1)?)?;
                let record = BackupRecord::Policy {
                    revision: revision_in(name.as_bytes())?,
                    files,
                    replaced_at: replaced_at.map(Timestamp::from_millis),
                };
                self.show(vec![record]).await?;
            }
        }
        Ok(())
    }

    async fn events(&mut self) -> Result<(), BackupError> {
        let mut after = 0;
        loop {
            let rows = self
                .rows(Query::new(EVENTS).value(after).value(number(PAGE as u64)))
                .await?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                let event: Event = decode("an event", get(row, 0)?)?;
                after = number(event.sequence.0);
                records.push(BackupRecord::Event(Box::new(event)));
            }
            if records.is_empty() {
                break;
            }
            self.show(records).await?;
        }
        let mut records = Vec::new();
        for row in &self.rows(Query::new("SELECT until, body FROM cutoff")).await? {
            let event: Event = decode("an event", get(row, 1)?)?;
            records.push(BackupRecord::Cutoff {
                until: Timestamp::from_millis(get(row, 0)?),
                event: Box::new(event),
            });
        }
        self.show(records).await
    }

    async fn audit(&mut self, first: u64) -> Result<(), BackupError> {
        let mut after = number(first.saturating_sub(1));
        loop {
            let rows = self
                .rows(Query::new(AUDIT).value(after).value(number(PAGE as u64)))
                .await?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                after = get(row, 0)?;
                records.push(BackupRecord::Audit(audit_bytes(row)?));
            }
            if records.is_empty() {
                return Ok(());
            }
            self.show(records).await?;
        }
    }
}
