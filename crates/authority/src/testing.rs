//! The parts of decision tables: a session, a key, a state of the store, and a decision in one line.

use std::{fmt::Debug, sync::Arc};

use tessera_core::{
    ApiKey, ApiKeyId, Audience, ClientName, DecisionId, KeyId, KeyStatus, Label, PolicyRevision, Realm,
    RealmKind, RealmLimits, RealmName, RefreshFamily, Refreshable, RevokeReason, RoleName, Scope, ScopeSet,
    Seconds, SecretHash, Sequence, Session, SessionId, SessionState, SigningKey, Subject, Timestamp, TokenId,
};
use tessera_store::{Changes, ClientState, Decision, Snapshot, StoredSession};

use crate::{log::cause::Cause, principal::Identity};

/// The time at which everything happens, plus this number of seconds.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_795_000_000 + second)
}

pub(crate) fn realm() -> Realm {
    Realm {
        name: RealmName::parse("production").unwrap(),
        kind: RealmKind::Production,
        issuer: "https://auth.example.org".to_owned(),
        limits: RealmLimits::default(),
        on_policy_loss: tessera_core::OnPolicyLoss::Narrow,
    }
}

/// The client `client:app` revokes because of a leak.
pub(crate) fn cause() -> Cause {
    Cause {
        identity: Identity::of(realm(), client("client:app"), key_id(1)),
        request_id: None,
        reason: "leaked".to_owned(),
        now: at(0),
    }
}

pub(crate) fn client(name: &str) -> ClientName {
    ClientName::parse(name).unwrap()
}

pub(crate) fn revision(number: u8) -> PolicyRevision {
    PolicyRevision::parse(&format!("{number:064x}")).unwrap()
}

pub(crate) fn scopes(text: &str) -> ScopeSet {
    text.split(' ')
        .filter(|scope| !scope.is_empty())
        .map(|scope| Scope::parse(scope).unwrap())
        .collect()
}

pub(crate) fn secret(number: u8) -> SecretHash {
    SecretHash::from_bytes([number; 32])
}

pub(crate) fn decision_id() -> DecisionId {
    DecisionId::from_bytes([7; 16])
}

pub(crate) fn token_id() -> TokenId {
    TokenId::from_bytes([8; 16])
}

pub(crate) fn key_id(number: u64) -> ApiKeyId {
    ApiKeyId::parse(&format!("{number:016}")).unwrap()
}

/// Key `number` of the client `client:app`.
pub(crate) fn api_key(number: u64) -> ApiKey {
    ApiKey {
        id: key_id(number),
        realm: realm().name,
        client: client("client:app"),
        secret_hash: secret(1),
        created_at: at(-100),
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

/// Key `number`, which signs since the day before.
pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey {
        id: KeyId::parse(&format!("k4.pid.{}", number.to_string().repeat(44))).unwrap(),
        realm: realm().name,
        public: String::new(),
        sealed_secret: String::new(),
        sealed_with: String::new(),
        sealed_at: at(-86_400),
        status: KeyStatus::Active,
        published_at: at(-86_400),
        not_before: at(-86_400),
        not_after: None,
        token_ttl_max: Seconds(60),
    }
}

pub(crate) fn session_id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

/// Session `number` of the client `client:app` for ann, begun 60 s ago with key 1, at its first generation.
pub(crate) fn session(number: u8) -> Session {
    Session {
        id: session_id(number),
        realm: realm().name,
        client: client("client:app"),
        credential: key_id(1).into(),
        subject: Subject::parse("user:ann").unwrap(),
        roles: vec![RoleName::parse("role:viewer").unwrap()],
        scopes: scopes("videos:read videos:write"),
        audience: Audience::parse("api").unwrap(),
        labels: vec![Label::parse("device:7").unwrap()],
        refreshable: Refreshable::ByClient,
        access_ttl: Seconds::HOUR,
        tombstone_ttl: Seconds::DAY,
        created_at: at(-60),
        idle_until: at(3600),
        absolute_until: at(86_400),
        rev: Sequence(3),
        policy: revision(1),
        state: SessionState::Active,
        family: Some(RefreshFamily::first(secret(1))),
        lost: ScopeSet::default(),
    }
}

/// The session as the store has it, ended together with others if there is a reason.
pub(crate) fn stored(session: Session, ended: Option<RevokeReason>) -> StoredSession {
    StoredSession {
        session: Arc::new(session),
        ended,
    }
}

/// A state with key 1 and policy 1 in force, at event 5.
pub(crate) fn state() -> Snapshot {
    Snapshot {
        head: Sequence(5),
        policy: Some(revision(1)),
        api_keys: vec![api_key(1)],
        clients: vec![(
            realm().name,
            client("client:app"),
            ClientState {
                is_disabled: false,
                sessions: 3,
            },
        )],
        ..Snapshot::default()
    }
}

/// A decision in one line: `abort Ended`, `read more`, or `commit Made: 1 session, 1 audit`.
pub(crate) fn line<T: Debug>(decision: &Decision<T>) -> String {
    match decision {
        Decision::Abort(answer) => format!("abort {}", word(answer)),
        Decision::ReadMore(_) => "read more".to_owned(),
        Decision::Commit(changes, answer) => format!("commit {}: {}", word(answer), counted(changes)),
    }
}

/// The name of an answer, without its content; for an error, the error's own.
fn word(answer: &impl Debug) -> String {
    let text = format!("{answer:?}");
    let text = text
        .strip_prefix("Refused(")
        .or(text.strip_prefix("Err("))
        .or(text.strip_prefix("Failed("))
        .unwrap_or(&text);
    let end = text.find(['(', ')', ' ', '{', ',']).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_owned()
}

/// How much of each kind is written.
pub(crate) fn counted(changes: &Changes) -> String {
    let parts = [
        (changes.sessions.len(), "session"),
        (changes.api_keys.len(), "key"),
        (changes.removed_api_keys.len(), "removed key"),
        (changes.clients.len(), "client"),
        (changes.signing_keys.len(), "signing key"),
        (changes.requests.len(), "request"),
        (changes.policies.len(), "policy"),
        (changes.settings.len(), "setting"),
        (changes.events.len(), "event"),
        (changes.audit.len(), "audit"),
    ];
    let written = parts.into_iter().filter(|(count, _)| *count > 0);
    let texts: Vec<_> = written.map(|(count, what)| format!("{count} {what}")).collect();
    texts.join(", ")
}

/// The changes and the answer of a decision that commits.
pub(crate) fn committed<T>(decision: Decision<T>) -> (Changes, T) {
    match decision {
        Decision::Commit(changes, answer) => (changes, answer),
        Decision::Abort(_) | Decision::ReadMore(_) => panic!("nothing is committed"),
    }
}
