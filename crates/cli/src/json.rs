//! Wire messages as JSON: the field names of the proto, enum values in lower case without their prefix,
//! 64-bit numbers as numbers, times as RFC 3339.

use prost_types::Timestamp as WireTimestamp;
use serde_json::{Value, json};
use tessera_core::{AccessClaims, Timestamp};
use tessera_proto::v1;

pub(crate) fn token_set(tokens: &v1::TokenSet) -> Value {
    json!({
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "token_type": tokens.token_type,
        "expires_in": tokens.expires_in,
        "refresh_expires_in": tokens.refresh_expires_in,
        "scopes": tokens.scopes,
    })
}

pub(crate) fn issue_response(response: &v1::IssueResponse) -> Value {
    json!({
        "tokens": response.tokens.as_ref().map(token_set),
        "session_id": response.session_id,
        "denied": denied(&response.denied),
        "policy_revision": response.policy_revision,
        "decision_id": response.decision_id,
    })
}

pub(crate) fn refresh_response(response: &v1::RefreshResponse) -> Value {
    json!({
        "tokens": response.tokens.as_ref().map(token_set),
        "session_id": response.session_id,
        "generation": response.generation,
        "replayed": response.replayed,
        "denied": denied(&response.denied),
        "policy_revision": response.policy_revision,
        "decision_id": response.decision_id,
    })
}

fn denied(denied: &[v1::DeniedScope]) -> Value {
    denied
        .iter()
        .map(|denied| json!({ "scope": denied.scope, "reason": denied.reason }))
        .collect()
}

/// An inactive answer has nothing but `active` (RFC 7662 §2.2).
pub(crate) fn introspect_response(response: &v1::IntrospectResponse) -> Value {
    if !response.active {
        return json!({ "active": false });
    }
    json!({
        "active": true,
        "token_type": response.token_type,
        "token_kind": response.token_kind,
        "scope": response.scope,
        "client_id": response.client_id,
        "sub": response.sub,
        "aud": response.aud,
        "iss": response.iss,
        "jti": response.jti,
        "iat": response.iat,
        "nbf": response.nbf,
        "exp": response.exp,
        "realm": response.realm,
        "session_id": response.session_id,
        "generation": response.generation,
        "roles": response.roles,
        "labels": response.labels,
        "policy_revision": response.policy_revision,
        "as_of": response.as_of,
    })
}

pub(crate) fn claims(kid: &str, claims: &AccessClaims) -> Value {
    json!({
        "kid": kid,
        "iss": claims.issuer,
        "sub": claims.subject,
        "aud": claims.audience,
        "jti": claims.token_id,
        "iat": claims.issued_at.to_rfc3339(),
        "nbf": claims.not_before.to_rfc3339(),
        "exp": claims.expires_at.to_rfc3339(),
        "scope": claims.scopes.to_string(),
        "roles": claims.roles,
        "realm": claims.realm,
        "client_id": claims.client,
        "sid": claims.session,
        "gen": claims.generation,
        "rev": claims.rev,
        "pol": claims.policy,
        "labels": claims.labels,
    })
}

pub(crate) fn api_key(key: &v1::ApiKey) -> Value {
    json!({
        "id": key.id,
        "client": key.client,
        "realm": key.realm,
        "status": api_key_status(key),
        "create_time": time(key.create_time.as_ref()),
        "expire_time": time(key.expire_time.as_ref()),
        "revoke_time": time(key.revoke_time.as_ref()),
        "last_use_time": time(key.last_use_time.as_ref()),
        "allow_from": key.allow_from,
        "successor_id": key.successor_id,
        "replaces_id": key.replaces_id,
        "made_by": key.made_by,
        "made_with_id": key.made_with_id,
    })
}

pub(crate) fn api_key_status(key: &v1::ApiKey) -> String {
    enum_name(key.status().as_str_name(), "API_KEY_STATUS_")
}

/// The day on which a key was last used, for people.
pub(crate) fn last_used(key: &v1::ApiKey) -> String {
    let day = time(key.last_use_time.as_ref());
    let day = day.as_deref().and_then(|time| time.split('T').next());
    day.unwrap_or("never").to_owned()
}

pub(crate) fn session(session: &v1::Session) -> Value {
    json!({
        "session_id": session.session_id,
        "realm": session.realm,
        "client": session.client,
        "subject": session.subject,
        "audience": session.audience,
        "roles": session.roles,
        "scopes": session.scopes,
        "labels": session.labels,
        "state": enum_name(session.state().as_str_name(), "SESSION_STATE_"),
        "revoke_reason": session.revoke_reason,
        "generation": session.generation,
        "create_time": time(session.create_time.as_ref()),
        "idle_expire_time": time(session.idle_expire_time.as_ref()),
        "absolute_expire_time": time(session.absolute_expire_time.as_ref()),
        "lost_scopes": session.lost_scopes,
    })
}

pub(crate) fn watch_response(response: &v1::WatchResponse) -> Option<Value> {
    use v1::watch_response::Message;
    Some(match response.message.as_ref()? {
        Message::SnapshotBegin(begin) => {
            json!({ "snapshot_begin": { "through_sequence": begin.through_sequence, "realm": begin.realm } })
        }
        Message::SnapshotItem(item) => json!({ "snapshot_item": event(item) }),
        Message::SnapshotEnd(end) => json!({ "snapshot_end": { "cursor": end.cursor, "items": end.items } }),
        Message::Event(new) => json!({ "event": event(new) }),
        Message::Checkpoint(checkpoint) => json!({ "checkpoint": {
            "through": checkpoint.through,
            "through_sequence": checkpoint.through_sequence,
            "server_time": time(checkpoint.server_time.as_ref()),
            "policy_revision": checkpoint.policy_revision,
            "key_set": checkpoint.key_set,
            "realm": checkpoint.realm,
        } }),
    })
}

fn event(event: &v1::RevocationEvent) -> Value {
    let mut json = json!({
        "sequence": event.sequence,
        "cursor": event.cursor,
        "kind": kind(event),
        "occurred_at": time(event.occurred_at.as_ref()),
        "relevant_until": time(event.relevant_until.as_ref()),
        "realm": event.realm,
        "reason": event.reason,
    });
    let Some(members) = json.as_object_mut() else {
        return json;
    };
    members.extend(target(event).map(|(name, value)| (name.to_owned(), value)));
    let texts = [
        ("policy_revision", &event.policy_revision),
        ("audience", &event.audience),
        ("client_id", &event.client_id),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            members.insert(name.to_owned(), json!(text));
        }
    }
    if !event.lost_scopes.is_empty() {
        members.insert("lost_scopes".to_owned(), json!(event.lost_scopes));
    }
    json
}

pub(crate) fn kind(event: &v1::RevocationEvent) -> String {
    enum_name(event.kind().as_str_name(), "EVENT_KIND_")
}

/// The target of an event: the name of the field, and its value.
pub(crate) fn target(event: &v1::RevocationEvent) -> Option<(&'static str, Value)> {
    use v1::revocation_event::Target;
    Some(match event.target.as_ref() {
        Some(Target::Jti(text)) => ("jti", json!(text)),
        Some(Target::SessionId(text)) => ("session_id", json!(text)),
        Some(Target::Subject(text)) => ("subject", json!(text)),
        Some(Target::Client(text)) => ("client", json!(text)),
        Some(Target::Label(text)) => ("label", json!(text)),
        Some(Target::KeyId(text)) => ("key_id", json!(text)),
        Some(Target::WholeRealm(all)) => ("whole_realm", json!(all)),
        Some(Target::ApiKeyId(text)) => ("api_key_id", json!(text)),
        None if event.policy_revision.is_empty() => return None,
        None => ("policy_revision", json!(event.policy_revision)),
    })
}

pub(crate) fn time(wire: Option<&WireTimestamp>) -> Option<String> {
    let wire = wire?;
    Some(Timestamp::from_seconds(wire.seconds).to_rfc3339())
}

pub(crate) fn enum_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
