//! Sessions, events and units of work for the tests of a store.

use std::sync::Arc;

use tessera_core::{
    ApiKey, ApiKeyId, Audience, AuditAction, AuditRecord, ClientName, Event, EventBody, LEEWAY_MAX, Label,
    PolicyRevision, RealmName, RefreshFamily, Refreshable, RevokeReason, Scope, ScopeSet, Seconds,
    SecretHash, Sequence, Session, SessionId, SessionState, Subject, Timestamp, audit::Actor,
};
use tessera_store::{Changes, NewEvent, Placed, PurgeBefore, PurgeReport, Store, StoreError};

/// The time at which everything begins: second 0 of a test.
const BEGIN: i64 = 1_795_000_000;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(BEGIN + second)
}

pub fn realm(name: &str) -> RealmName {
    RealmName::parse(name).unwrap()
}

pub fn api_key_id(number: u64) -> ApiKeyId {
    ApiKeyId::parse(&format!("{number:016}")).unwrap()
}

/// Session `number`, begun at second `number`: idle for 100 s, absolute end after 1,000 s, tombstone 10 s. The ids are
/// a millisecond apart, so a backend that groups sessions of about the same time groups these.
pub fn session(number: u32) -> Session {
    let now = at(i64::from(number));
    let mut random = [0; 10];
    random[..4].copy_from_slice(&number.to_be_bytes());
    Session {
        id: SessionId::generate(at(0).plus_millis(i64::from(number)), random),
        realm: realm("production"),
        client: ClientName::parse("client:cms").unwrap(),
        credential: api_key_id(1).into(),
        subject: Subject::parse("user:ann").unwrap(),
        roles: Vec::new(),
        scopes: ScopeSet::from_iter([Scope::parse("video:read").unwrap()]),
        audience: Audience::parse("api").unwrap(),
        labels: vec![
            Label::parse("stream:ls_42").unwrap(),
            Label::parse("device:7").unwrap(),
        ],
        access_ttl: Seconds(10),
        tombstone_ttl: Seconds(10),
        created_at: now,
        idle_until: now.plus(Seconds(100)),
        absolute_until: now.plus(Seconds(1000)),
        rev: Sequence(0),
        policy: PolicyRevision::parse("8f31c2a08f31c2a0").unwrap(),
        state: SessionState::Active,
        family: Some(RefreshFamily::first(SecretHash::from_bytes([1; 32]))),
        lost: ScopeSet::default(),
        refreshable: Refreshable::ByClient,
    }
}

pub fn with_subject(number: u32, subject: &str) -> Session {
    Session {
        subject: Subject::parse(subject).unwrap(),
        ..session(number)
    }
}

/// The session after one more rotation, idle for another 100 s from `now`.
pub fn rotated(session: &Session, now: Timestamp) -> Session {
    let family = session.family.map(|family| RefreshFamily {
        generation: family.generation + 1,
        ..family
    });
    Session {
        family,
        idle_until: now.plus(Seconds(100)).min(session.absolute_until),
        ..session.clone()
    }
}

pub fn api_key(number: u64, realm_name: &str) -> ApiKey {
    ApiKey {
        id: api_key_id(number),
        realm: realm(realm_name),
        client: ClientName::parse("client:cms").unwrap(),
        secret_hash: SecretHash::from_bytes([7; 32]),
        created_at: at(0),
        expires_at: None,
        revoked_at: None,
        last_used_on: None,
        allow_from: Vec::new(),
        successor: None,
        replaces: None,
        made_by: None,
        made_with: None,
        rolls: Vec::new(),
    }
}

/// An event that matters until second `until` to access tokens and until `sessions_until` to sessions.
pub fn event(until: i64, sessions_until: i64, body: EventBody) -> NewEvent {
    NewEvent {
        occurred_at: at(0),
        tokens_until: at(until).minus(LEEWAY_MAX),
        sessions_until: at(sessions_until),
        realm: realm("production"),
        note: "asked for".to_owned(),
        body,
    }
}

pub fn session_revoked(session: &Session, until: i64) -> NewEvent {
    event(
        until,
        until,
        EventBody::SessionRevoked {
            session: session.id,
            client: session.client.clone(),
            audience: session.audience.clone(),
            reason: RevokeReason::Requested,
        },
    )
}

pub fn subject_revoked(subject: &str, until: i64, sessions_until: i64) -> NewEvent {
    event(
        until,
        sessions_until,
        EventBody::SubjectRevoked {
            subject: Subject::parse(subject).unwrap(),
        },
    )
}

pub fn audit_record(second: i64, session: SessionId) -> AuditRecord {
    AuditRecord {
        at: at(second),
        realm: realm("production"),
        actor: Actor::Operator,
        request: None,
        action: AuditAction::Reused {
            session,
            subject: Subject::parse("user:ann").unwrap(),
            presented: 1,
            current: 3,
        },
    }
}

/// Writes changes, which must succeed.
pub async fn write(store: &Arc<dyn Store>, changes: Changes) -> Placed {
    store.write(changes).await.unwrap()
}

/// Writes a session.
pub async fn put(store: &Arc<dyn Store>, session: &Session) {
    let changes = Changes {
        sessions: vec![Arc::new(session.clone())],
        ..Changes::default()
    };
    write(store, changes).await;
}

/// Appends an event, and returns its position.
pub async fn append(store: &Arc<dyn Store>, event: &NewEvent) -> Sequence {
    let changes = Changes {
        events: vec![event.clone()],
        ..Changes::default()
    };
    write(store, changes).await.last().unwrap()
}

/// The session as the store has it.
pub async fn stored(store: &Arc<dyn Store>, id: SessionId) -> Option<Session> {
    let stored = store.session(id).await.unwrap()?;
    Some(stored.session.as_ref().clone())
}

/// Removes what is expired at `horizon`, and audit records from before `audit`.
pub async fn purge_before(
    store: &Arc<dyn Store>,
    horizon: Timestamp,
    audit: Timestamp,
    limit: usize,
) -> PurgeReport {
    store.purge(PurgeBefore { horizon, audit }, limit).await.unwrap()
}

/// All events after `after`, read in pages.
pub async fn events_after(
    store: &Arc<dyn Store>,
    mut after: Sequence,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let mut events = Vec::new();
    loop {
        let batch = store.events(after, 3).await?;
        let Some(last) = batch.events.last() else {
            return Ok(events);
        };
        after = last.sequence;
        events.extend(batch.events);
    }
}

pub fn sequences(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.sequence.0).collect()
}
