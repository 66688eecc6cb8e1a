//! Reading what is committed.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use deadpool_postgres::Client;
use tessera_core::{ApiKey, ApiKeyId, Event, RealmName, Sequence, Session, SessionId};
use tessera_store::{
    AuditBytes, AuditEntry, AuditLink, AuditPage, AuditQuery, Page, PageRequest, Reads, SessionIndex,
    SessionVisitor, Snapshot, StoreError, StoredSession,
    backend::{caught, decode},
};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::{
    beats::FRESH_FOR,
    connect::{Query, all},
    group::Group,
    node::{Node, beat_in, events_after, kept},
    read_set::{ReadSet, queries, uuid_of},
    state::{Found, State, damaged, get, number, unsigned},
    transaction::COMMIT,
};

/// All reads are of one state.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How many sessions a walk reads at once.
const WALK: usize = 500;

/// Reads within one state, and brings the log up to it. All statements are sent at once, so a caller that gives up
/// leaves no open transaction.
async fn within(node: &Node, asked: Vec<Query>) -> Result<(State, Vec<Vec<Row>>), StoreError> {
    let client = node.reader().await?;
    let before = node.before();
    let mut trip = vec![
        Query::new(BEGIN),
        State::read(before.state.number, node.id),
        events_after(before.state.last.0),
    ];
    trip.extend(asked);
    trip.push(Query::new(COMMIT));
    answered(node, client, trip, |answers| {
        let mut answers = answers.into_iter().skip(1);
        let found = Found::of(&answers.next().unwrap_or_default())?;
        let events = kept(&answers.next().unwrap_or_default())?;
        node.apply(&before, &found, events)?;
        node.ensure_primary(found.beat)?;
        Ok((found.state, answers.collect()))
    })
    .await
}

/// Waits as long as an answer would count, and returns it. A connection that does not answer, or answers incorrectly,
/// is not used again: its transaction may be open, or its server may no longer be the primary, and the next reader
/// would see an old state.
async fn answered<T>(
    node: &Node,
    client: Client,
    trip: Vec<Query>,
    take: impl FnOnce(Vec<Vec<Row>>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let result = match timeout(FRESH_FOR, all(&client, trip)).await {
        Ok(Ok(answers)) => take(answers),
        Ok(Err(failure)) => Err(failure.into()),
        Err(_) => Err(late(FRESH_FOR)),
    };
    if result.is_err() {
        drop(Client::take(client));
        node.ensure_open()?;
    }
    result
}

/// There was no answer in time.
pub(crate) fn late(limit: Duration) -> StoreError {
    StoreError::Unavailable {
        detail: format!("the database did not answer within {} s", limit.as_secs()),
    }
}

/// Reads the rows of a query, as they are now.
pub(crate) async fn rows(node: &Node, query: Query) -> Result<Vec<Row>, StoreError> {
    let client = node.reader().await?;
    answered(node, client, vec![query, node.ask_beat()], |mut answers| {
        let seen = answers.pop().unwrap_or_default();
        node.ensure_primary(beat_in(&seen)?)?;
        Ok(answers.pop().unwrap_or_default())
    })
    .await
}

/// What each of these names, all of one state.
pub(crate) async fn snapshots(
    node: &Node,
    all: impl Iterator<Item = &Reads> + Clone,
) -> Result<Vec<Snapshot>, StoreError> {
    let mut needed = ReadSet::default();
    for reads in all.clone() {
        needed.add(ReadSet::of(reads));
    }
    let (state, answers) = within(node, queries(&needed)).await?;
    let mut group = Group::new(node, state);
    group.take(&needed, answers)?;
    Ok(all.map(|reads| group.snapshot(reads)).collect())
}

pub(crate) async fn sessions(
    node: &Node,
    index: &SessionIndex,
    page: &PageRequest<SessionId>,
) -> Result<Page<StoredSession, SessionId>, StoreError> {
    let query = listing(index, page);
    let (state, answers) = within(node, vec![query]).await?;
    let mut group = Group::new(node, state);
    let mut items = Vec::new();
    for row in answers.first().map(Vec::as_slice).unwrap_or_default() {
        if let Some(session) = group.take_session(row)? {
            items.push(group.stored(&session));
        }
    }
    Ok(page_of(items, page.limit, |stored| stored.session.id))
}

/// The statement that lists a page of an index, and one more item.
fn listing(index: &SessionIndex, page: &PageRequest<SessionId>) -> Query {
    let after = page.after.map(uuid_of);
    let after = after.unwrap_or(uuid::Uuid::nil());
    let limit = number(page.limit.saturating_add(1) as u64);
    let (sql, realm, name) = match index {
        SessionIndex::Realm(realm) => (BY_REALM, realm, None),
        SessionIndex::Subject(realm, subject) => (BY_SUBJECT, realm, Some(subject.as_str().to_owned())),
        SessionIndex::Client(realm, client) => (BY_CLIENT, realm, Some(client.as_str().to_owned())),
        SessionIndex::Label(realm, label) => (BY_LABEL, realm, Some(label.as_str().to_owned())),
        SessionIndex::Credential(realm, credential) => (BY_CREDENTIAL, realm, Some(credential.to_string())),
    };
    let query = Query::new(sql)
        .value(after)
        .value(limit)
        .value(realm.as_str().to_owned());
    match name {
        Some(name) => query.value(name),
        None => query,
    }
}

macro_rules! by {
    ($where:literal) => {
        concat!(
            "SELECT s.body, coalesce(k.revoked, false) FROM session s \
             LEFT JOIN api_key k ON k.id = \
             CASE WHEN starts_with(s.credential, 'api_key:') THEN substr(s.credential, 9) END \
             WHERE s.id > $1 AND s.realm = $3 ",
            $where,
            " ORDER BY s.id LIMIT $2"
        )
    };
}

const BY_REALM: &str = by!("");
const BY_SUBJECT: &str = by!("AND s.subject = $4");
const BY_CLIENT: &str = by!("AND s.client = $4");
const BY_CREDENTIAL: &str = by!("AND s.credential = $4");
const BY_LABEL: &str = "SELECT s.body, coalesce(k.revoked, false) FROM session_label l \
    JOIN session s ON s.id = l.session \
    LEFT JOIN api_key k ON k.id = CASE WHEN starts_with(s.credential, 'api_key:') THEN substr(s.credential, 9) END \
    WHERE l.session > $1 AND l.realm = $3 AND l.label = $4 ORDER BY l.session LIMIT $2";

/// A page of the items that were found, which include one more if there is another page.
fn page_of<T, K>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Page<T, K> {
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = if has_more { items.last().map(key) } else { None };
    Page { items, next }
}

/// Shows all sessions, page after page.
pub(crate) async fn walk(node: &Node, mut visit: SessionVisitor) -> Result<(), StoreError> {
    let sql = "SELECT body FROM session WHERE id > $1 ORDER BY id LIMIT $2";
    let mut after = uuid::Uuid::nil();
    loop {
        let page = Query::new(sql).value(after).value(number(WALK as u64));
        let rows = rows(node, page).await?;
        let mut sessions = Vec::with_capacity(rows.len());
        for row in &rows {
            sessions.push(decode::<Session>("a session", get(row, 0)?)?);
        }
        let Some(last) = sessions.last().map(|session| session.id) else {
            return Ok(());
        };
        after = uuid_of(last);
        let shown = tokio::task::spawn_blocking(move || {
            let flow = caught(|| sessions.iter().try_for_each(&mut visit));
            (flow, visit)
        });
        let (flow, again) = shown.await.map_err(|error| failed(&error))?;
        match flow {
            Ok(ControlFlow::Continue(())) => visit = again,
            Ok(ControlFlow::Break(())) => return Ok(()),
            Err(panic) => {
                return Err(StoreError::Failed {
                    detail: format!("a visitor {panic}"),
                });
            }
        }
    }
}

pub(crate) fn failed(error: &impl std::fmt::Display) -> StoreError {
    StoreError::Failed {
        detail: error.to_string(),
    }
}

pub(crate) async fn api_keys(
    node: &Node,
    realm: &RealmName,
    page: &PageRequest<ApiKeyId>,
) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
    let sql =
        "SELECT body FROM api_key WHERE realm = $1 AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3";
    let after = page.after.as_ref().map(|id| id.as_str().to_owned());
    let query = Query::new(sql).value(realm.as_str().to_owned()).value(after);
    let rows = rows(node, query.value(number(page.limit.saturating_add(1) as u64))).await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in &rows {
        keys.push(decode::<ApiKey>("an API key", get(row, 0)?)?);
    }
    Ok(page_of(keys, page.limit, |key| key.id))
}

/// Committed events after `after`, up to `through`.
pub(crate) async fn events(
    node: &Node,
    after: Sequence,
    through: Sequence,
    limit: usize,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let sql = "SELECT body FROM event WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
    let query = Query::new(sql).value(number(after.0)).value(number(through.0));
    let rows = rows(node, query.value(number(limit as u64))).await?;
    let events = decoded(&rows)?;
    // They may have been removed since the floor was read.
    let is_whole = events.first().is_some_and(|event| event.sequence == after.next());
    if is_whole || events.is_empty() && node.log.floor() <= after {
        return Ok(events);
    }
    if node.log.floor() > after {
        return Err(StoreError::EventsForgotten);
    }
    Err(damaged(&format!("the log has no event {}", after.next().0)))
}

fn decoded(rows: &[Row]) -> Result<Vec<Arc<Event>>, StoreError> {
    let events = rows
        .iter()
        .map(|row| Ok(Arc::new(decode("an event", get(row, 0)?)?)));
    events.collect()
}

/// A part of the audit trail, up to the last record that is applied here.
pub(crate) async fn audit_page(node: &Node, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let state = node.state();
    let through = query.through.min(node.log.audit_position());
    let after = query.after.min(through);
    let first = after.saturating_add(1).max(state.audit_first);
    let sql = "SELECT position, previous, body FROM audit WHERE position >= $1 AND position <= $2 \
        ORDER BY position LIMIT $3";
    let asked = Query::new(sql).value(number(first)).value(number(through));
    let rows = rows(node, asked.value(number(query.limit as u64))).await?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut last = after;
    for row in &rows {
        let entry = audit_bytes(row)?.entry()?;
        let follows = entry.position == last.saturating_add(1) || entries.is_empty() && last == after;
        if !follows {
            return Err(damaged(&format!(
                "the audit trail has no record {}",
                last.saturating_add(1)
            )));
        }
        last = entry.position;
        entries.push(entry);
    }
    let is_all = entries.len() < query.limit;
    check_first(node, &entries, first)?;
    if is_all && last != through && first <= through && node.state().audit_first <= through {
        return Err(damaged(&format!(
            "the audit trail has no record {}",
            last.saturating_add(1)
        )));
    }
    entries.retain(|entry| query.takes(entry.record.at));
    Ok(AuditPage {
        entries,
        through: if is_all { through } else { last },
    })
}

/// If the first record is later than requested, the missing ones must have been removed meanwhile as too old.
fn check_first(node: &Node, entries: &[AuditEntry], first: u64) -> Result<(), StoreError> {
    match entries.first() {
        Some(entry) if entry.position > first.max(node.state().audit_first) => {
            Err(damaged(&format!("the audit trail has no record {first}")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn audit_bytes(row: &Row) -> Result<AuditBytes, StoreError> {
    let previous: &[u8] = get(row, 1)?;
    let previous = <[u8; 32]>::try_from(previous).map_err(|_| damaged("`previous` is not of 32 bytes"))?;
    Ok(AuditBytes {
        position: unsigned(get(row, 0)?)?,
        previous: AuditLink(previous),
        encoded: get(row, 2)?,
    })
}
