//! The statements that write rows, and their values. Each fails if it does not write exactly the expected rows.

use tessera_core::{ApiKey, ApiKeyId, Event, KeyId, Session, SessionId, SigningKey, Timestamp};
use tessera_store::{AuditBytes, CutoffKey, RequestKey, RequestRecord, StoreError, backend::encode};
use uuid::Uuid;

use crate::{connect::Query, place::Place, read_set::uuid_of, state::number};

pub(crate) const INSERT_SESSIONS: &str = "INSERT INTO session \
    (id, realm, subject, client, credential, removable_day, removable_at, body) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[])";
/// For sessions that continue: of the indexed columns, at most the day changes.
pub(crate) const KEEP_SESSIONS: &str = "WITH done AS (UPDATE session s SET removable_day = n.day, removable_at = n.at, \
    body = n.body FROM unnest($1::tid[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[]) \
    AS n (place, id, day, at, body) WHERE s.ctid = n.place AND s.id = n.id RETURNING 1) \
    SELECT expect(count(*), cardinality($2::uuid[]), 'session') FROM done";
pub(crate) const UPDATE_SESSIONS: &str = "WITH done AS (UPDATE session s SET realm = n.realm, subject = n.subject, \
    client = n.client, credential = n.credential, removable_day = n.day, removable_at = n.at, body = n.body \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[]) \
    AS n (id, realm, subject, client, credential, day, at, body) WHERE s.id = n.id RETURNING 1) \
    SELECT expect(count(*), cardinality($1::uuid[]), 'session') FROM done";
pub(crate) const UNLABEL: &str = "DELETE FROM session_label WHERE session = ANY($1)";
pub(crate) const LABEL: &str = "INSERT INTO session_label (realm, label, session) \
    SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::uuid[])";
pub(crate) const COUNT: &str = "INSERT INTO client AS c (realm, client, sessions) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) \
    ON CONFLICT (realm, client) DO UPDATE SET sessions = c.sessions + excluded.sessions";
pub(crate) const UNCOUNT: &str = "WITH done AS (UPDATE client c SET sessions = c.sessions - n.fewer \
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (realm, client, fewer) \
    WHERE c.realm = n.realm AND c.client = n.client RETURNING 1) \
    SELECT expect(count(*), cardinality($1::text[]), 'client') FROM done";
pub(crate) const DISABLE: &str = "INSERT INTO client (realm, client, disabled) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[]) \
    ON CONFLICT (realm, client) DO UPDATE SET disabled = excluded.disabled";
pub(crate) const PUT_API_KEYS: &str = "INSERT INTO api_key (id, realm, made_with, revoked, body) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bytea[]) \
    ON CONFLICT (id) DO UPDATE SET realm = excluded.realm, made_with = excluded.made_with, \
    revoked = excluded.revoked, body = excluded.body";
pub(crate) const REMOVE_API_KEYS: &str = "DELETE FROM api_key WHERE id = ANY($1)";
pub(crate) const PUT_SIGNING_KEYS: &str = "INSERT INTO signing_key (id, body) SELECT * FROM unnest($1::text[], $2::bytea[]) \
    ON CONFLICT (id) DO UPDATE SET body = excluded.body";
pub(crate) const REMOVE_SIGNING_KEYS: &str = "DELETE FROM signing_key WHERE id = ANY($1)";
pub(crate) const PUT_REQUESTS: &str = "INSERT INTO request (realm, client, id, expires_at, body) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bytea[]) \
    ON CONFLICT (realm, client, id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body";
pub(crate) const KEEP_POLICY: &str =
    "INSERT INTO policy (revision, files) VALUES ($1, $2) ON CONFLICT (revision) DO NOTHING";
pub(crate) const REPLACE_POLICY: &str = "UPDATE policy SET replaced_at = CASE WHEN revision = $1 THEN NULL ELSE $2::bigint END \
    WHERE revision = $1 OR revision = (SELECT convert_from(body, 'UTF8') FROM setting WHERE name = 'policy_reconciled')";
pub(crate) const SET: &str =
    "INSERT INTO setting (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET body = excluded.body";
pub(crate) const BOUND: &str = "INSERT INTO staleness_bound (node, realm, millis) \
    SELECT $1, realm, millis FROM unnest($2::text[], $3::bigint[]) AS n (realm, millis) \
    ON CONFLICT (node, realm) DO UPDATE SET millis = excluded.millis";
pub(crate) const SINK: &str = "INSERT INTO audit_sink (name, position) SELECT * FROM unnest($1::text[], $2::bigint[]) \
    ON CONFLICT (name) DO UPDATE SET position = excluded.position";
pub(crate) const AUDIT: &str = "INSERT INTO audit (position, at, previous, body) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])";
pub(crate) const EVENTS: &str = "INSERT INTO event (seq, relevant_until, counts_until, body) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])";
pub(crate) const CUTOFFS: &str = "INSERT INTO cutoff (realm, kind, target, until, body) \
    SELECT * FROM unnest($1::text[], $2::smallint[], $3::text[], $4::bigint[], $5::bytea[]) \
    ON CONFLICT (realm, kind, target) DO UPDATE SET until = excluded.until, body = excluded.body";
pub(crate) const NOTIFY: &str = "SELECT pg_notify($1, '')";

/// For the records of a backup: of one key, the later record counts.
pub(crate) const PUT_SESSIONS: &str = "INSERT INTO session \
    (id, realm, subject, client, credential, removable_day, removable_at, body) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bytea[]) \
    ON CONFLICT (id) DO UPDATE SET realm = excluded.realm, subject = excluded.subject, client = excluded.client, \
    credential = excluded.credential, removable_day = excluded.removable_day, removable_at = excluded.removable_at, \
    body = excluded.body";

/// Writes sessions with one of the statements for them.
pub(crate) fn sessions(sql: &'static str, sessions: &[&Session]) -> Result<Query, StoreError> {
    let (mut realms, mut subjects) = (Vec::new(), Vec::new());
    let (mut clients, mut credentials) = (Vec::new(), Vec::new());
    for session in sessions {
        realms.push(session.realm.as_str().to_owned());
        subjects.push(session.subject.as_str().to_owned());
        clients.push(session.client.as_str().to_owned());
        credentials.push(session.credential.to_string());
    }
    let query = Query::new(sql).value(ids(sessions)).value(realms).value(subjects);
    kept(query.value(clients).value(credentials), sessions)
}

/// Writes sessions without changed index columns, at the locations where they were read.
pub(crate) fn keep_sessions(places: Vec<Place>, sessions: &[&Session]) -> Result<Query, StoreError> {
    let query = Query::new(KEEP_SESSIONS).value(places);
    kept(query.value(ids(sessions)), sessions)
}

fn ids(sessions: &[&Session]) -> Vec<Uuid> {
    sessions.iter().map(|session| uuid_of(session.id)).collect()
}

/// The last values of each statement that writes sessions.
fn kept(query: Query, sessions: &[&Session]) -> Result<Query, StoreError> {
    let (mut days, mut removable, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for session in sessions {
        let removable_at = session.removable_at().as_millis();
        days.push(day_of(removable_at));
        removable.push(removable_at);
        bodies.push(encode(*session)?);
    }
    Ok(query.value(days).value(removable).value(bodies))
}

/// Removes the labels of sessions.
pub(crate) fn unlabel(ids: impl Iterator<Item = SessionId>) -> Query {
    Query::new(UNLABEL).value(ids.map(uuid_of).collect::<Vec<_>>())
}

/// Adds the labels of sessions; `None` if no session has one.
pub(crate) fn label<'a>(sessions: impl Iterator<Item = &'a Session>) -> Option<Query> {
    let (mut realms, mut labels, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for session in sessions {
        for label in &session.labels {
            realms.push(session.realm.as_str().to_owned());
            labels.push(label.as_str().to_owned());
            ids.push(uuid_of(session.id));
        }
    }
    (!ids.is_empty()).then(|| Query::new(LABEL).value(realms).value(labels).value(ids))
}

/// Writes API keys, and removes those that no longer exist.
pub(crate) fn api_keys<'a>(
    keys: impl Iterator<Item = (&'a ApiKeyId, Option<&'a ApiKey>)>,
) -> Result<Vec<Query>, StoreError> {
    let (mut ids, mut realms, mut makers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut revoked, mut bodies, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (id, key) in keys {
        let Some(key) = key else {
            removed.push(id.as_str().to_owned());
            continue;
        };
        ids.push(id.as_str().to_owned());
        realms.push(key.realm.as_str().to_owned());
        makers.push(key.made_with.as_ref().map(|maker| maker.as_str().to_owned()));
        revoked.push(key.revoked_at.is_some());
        bodies.push(encode(key)?);
    }
    let mut queries = Vec::new();
    if !removed.is_empty() {
        queries.push(Query::new(REMOVE_API_KEYS).value(removed));
    }
    if !ids.is_empty() {
        let query = Query::new(PUT_API_KEYS).value(ids).value(realms).value(makers);
        queries.push(query.value(revoked).value(bodies));
    }
    Ok(queries)
}

/// Writes signing keys, and removes those that no longer exist.
pub(crate) fn signing_keys<'a>(
    keys: impl Iterator<Item = (&'a KeyId, Option<&'a SigningKey>)>,
) -> Result<Vec<Query>, StoreError> {
    let (mut ids, mut bodies, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (id, key) in keys {
        match key {
            Some(key) => {
                ids.push(id.as_str().to_owned());
                bodies.push(encode(key)?);
            }
            None => removed.push(id.as_str().to_owned()),
        }
    }
    let mut queries = Vec::new();
    if !removed.is_empty() {
        queries.push(Query::new(REMOVE_SIGNING_KEYS).value(removed));
    }
    if !ids.is_empty() {
        queries.push(Query::new(PUT_SIGNING_KEYS).value(ids).value(bodies));
    }
    Ok(queries)
}

/// Writes answers to requests; `None` if there are none.
pub(crate) fn requests<'a>(
    requests: impl Iterator<Item = (&'a RequestKey, &'a RequestRecord)>,
) -> Result<Option<Query>, StoreError> {
    let (mut realms, mut clients, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let (mut expire, mut bodies) = (Vec::new(), Vec::new());
    for (key, record) in requests {
        realms.push(key.realm.as_str().to_owned());
        clients.push(key.client.as_str().to_owned());
        ids.push(Uuid::from_bytes(*key.request.as_bytes()));
        expire.push(record.expires_at.as_millis());
        bodies.push(encode(record)?);
    }
    if ids.is_empty() {
        return Ok(None);
    }
    let query = Query::new(PUT_REQUESTS).value(realms).value(clients).value(ids);
    Ok(Some(query.value(expire).value(bodies)))
}

/// Writes audit records; `None` if there are none.
pub(crate) fn audit<'a>(records: impl Iterator<Item = (&'a AuditBytes, Timestamp)>) -> Option<Query> {
    let (mut positions, mut times) = (Vec::new(), Vec::new());
    let (mut previous, mut bodies) = (Vec::new(), Vec::new());
    for (bytes, at) in records {
        positions.push(number(bytes.position));
        times.push(at.as_millis());
        previous.push(bytes.previous.0.to_vec());
        bodies.push(bytes.encoded.clone());
    }
    (!positions.is_empty()).then(|| {
        let query = Query::new(AUDIT).value(positions).value(times);
        query.value(previous).value(bodies)
    })
}

/// Writes events, and how long each counts; `None` if there are none.
pub(crate) fn events<'a>(
    events: impl Iterator<Item = (&'a Event, Timestamp)>,
) -> Result<Option<Query>, StoreError> {
    let (mut sequences, mut relevant) = (Vec::new(), Vec::new());
    let (mut counts, mut bodies) = (Vec::new(), Vec::new());
    for (event, counts_until) in events {
        sequences.push(number(event.sequence.0));
        relevant.push(event.relevant_until.as_millis());
        counts.push(counts_until.as_millis());
        bodies.push(encode(event)?);
    }
    if sequences.is_empty() {
        return Ok(None);
    }
    let query = Query::new(EVENTS).value(sequences).value(relevant);
    Ok(Some(query.value(counts).value(bodies)))
}

/// Writes cutoffs, and how long each counts; `None` if there are none.
pub(crate) fn cutoffs<'a>(
    cutoffs: impl Iterator<Item = (&'a CutoffKey, Timestamp, &'a Event)>,
) -> Result<Option<Query>, StoreError> {
    let (mut realms, mut kinds, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut untils, mut bodies) = (Vec::new(), Vec::new());
    for (key, until, event) in cutoffs {
        realms.push(key.realm.as_str().to_owned());
        kinds.push(i16::from(key.kind));
        targets.push(key.target.clone());
        untils.push(until.as_millis());
        bodies.push(encode(event)?);
    }
    if realms.is_empty() {
        return Ok(None);
    }
    let query = Query::new(CUTOFFS).value(realms).value(kinds).value(targets);
    Ok(Some(query.value(untils).value(bodies)))
}

/// The day of a time.
pub(crate) fn day_of(millis: i64) -> i32 {
    i32::try_from(millis.div_euclid(86_400_000)).unwrap_or(i32::MAX)
}
