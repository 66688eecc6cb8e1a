//! Every event that the authority writes, and how long it must be remembered.

use tessera_core::{
    AccessClaims, ApiKey, EventBody, PolicyRevision, Realm, RealmName, RevokeReason, ScopeSet, Session,
    SigningKey, Timestamp,
};
use tessera_store::NewEvent;

/// One session ended.
pub(crate) fn session_revoked(
    session: &Session,
    reason: RevokeReason,
    note: String,
    now: Timestamp,
) -> NewEvent {
    let body = EventBody::SessionRevoked {
        session: session.id,
        client: session.client.clone(),
        audience: session.audience.clone(),
        reason,
    };
    NewEvent {
        note,
        ..of(&session.realm, body, now, session.tokens_until(now))
    }
}

/// A change of policy took scopes from a session.
pub(crate) fn scopes_narrowed(
    session: &Session,
    lost: ScopeSet,
    policy: &PolicyRevision,
    now: Timestamp,
) -> NewEvent {
    let body = EventBody::ScopesNarrowed {
        session: session.id,
        client: session.client.clone(),
        audience: session.audience.clone(),
        lost,
        policy: *policy,
    };
    of(&session.realm, body, now, session.tokens_until(now))
}

/// All sessions of a subject, client, label or realm were revoked. `until`: when the last access token of them ends, and when
/// the last of these sessions would have ended.
pub(crate) fn sessions_revoked(
    realm: &RealmName,
    body: EventBody,
    note: String,
    now: Timestamp,
    (tokens_until, sessions_until): (Timestamp, Timestamp),
) -> NewEvent {
    NewEvent {
        sessions_until,
        note,
        ..of(realm, body, now, tokens_until)
    }
}

/// One access token was revoked.
pub(crate) fn token_revoked(claims: &AccessClaims, note: String, now: Timestamp) -> NewEvent {
    let body = EventBody::TokenRevoked {
        token: claims.token_id,
        client: claims.client.clone(),
        audience: claims.audience.clone(),
    };
    NewEvent {
        note,
        ..of(&claims.realm, body, now, claims.expires_at)
    }
}

/// An API key was revoked. `until`: when the last access token of the realm ends.
pub(crate) fn api_key_revoked(key: &ApiKey, note: String, now: Timestamp, until: Timestamp) -> NewEvent {
    let body = EventBody::ApiKeyRevoked {
        api_key: key.id,
        client: key.client.clone(),
    };
    NewEvent {
        note,
        ..of(&key.realm, body, now, until)
    }
}

/// A signing key was published.
pub(crate) fn signing_key_published(key: &SigningKey, now: Timestamp, until: Timestamp) -> NewEvent {
    let body = EventBody::KeyPublished { key: key.id };
    of(&key.realm, body, now, until)
}

/// A signing key signs from now on.
pub(crate) fn signing_key_activated(key: &SigningKey, now: Timestamp, until: Timestamp) -> NewEvent {
    let body = EventBody::KeyActivated { key: key.id };
    of(&key.realm, body, now, until)
}

/// A signing key was published, and signs from now on.
pub(crate) fn signing_key_begins(key: &SigningKey, now: Timestamp, until: Timestamp) -> [NewEvent; 2] {
    [
        signing_key_published(key, now, until),
        signing_key_activated(key, now, until),
    ]
}

/// Nothing that a signing key signed is valid any longer.
pub(crate) fn signing_key_revoked(
    key: &SigningKey,
    note: String,
    now: Timestamp,
    until: Timestamp,
) -> NewEvent {
    let body = EventBody::KeyRevoked { key: key.id };
    NewEvent {
        note,
        ..of(&key.realm, body, now, until)
    }
}

/// Another policy decides from now on.
pub(crate) fn policy_applied(realm: &Realm, policy: &PolicyRevision, now: Timestamp) -> NewEvent {
    let body = EventBody::PolicyApplied { policy: *policy };
    of(&realm.name, body, now, now.plus(realm.limits.access_ttl_max))
}

fn of(realm: &RealmName, body: EventBody, now: Timestamp, until: Timestamp) -> NewEvent {
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: realm.clone(),
        note: String::new(),
        body,
    }
}
