//! From wire messages to the domain and back.

use prost_types::Timestamp as WireTimestamp;
use tessera_authority::{
    CreateApiKey, Introspection, IssueRequest, Issued, PresentedToken, PublishedKey, RefreshRequest,
    Refreshed, RevokeRequest, RevokeTarget, Revoked, Session, SessionsBy, StalenessBound, StartAt,
    SubscriberMessage, TokenSet, TokenType, WatchFilter, WatchMessage, WatchStart,
};
use tessera_core::{
    ApiKey, ApiKeyId, ApiKeyStatus, Audience, Binding, ClientName, Cursor, Event, EventBody, EventKind,
    EventTarget, FamilyId, KeyId, KeyStatus, RealmName, Refreshable, RequestId, RoleName, Scope, Seconds,
    Subject, SubscriberName, Timestamp, family::Condition,
};
use tessera_policy::Catalogue;
use tessera_proto::v1;
use tonic::Status;

use crate::fields::Fields;

pub(crate) mod policy;

const SCOPES_MAX: usize = 100;
const ROLES_MAX: usize = 32;
const BINDINGS_MAX: usize = 8;
const FILTER_MAX: usize = 16;
const KINDS_MAX: usize = 32;
const NONCE_MAX: usize = 32;
/// The audience where nobody names one.
const AUDIENCE: &str = "api";

// === requests ===

pub(crate) fn issue_request(wire: &v1::IssueRequest) -> Result<IssueRequest, Status> {
    let mut fields = Fields::default();
    let request = IssueRequest {
        request_id: fields.optional("request_id", &wire.request_id, RequestId::parse),
        subject: fields.optional("subject", &wire.subject, Subject::parse),
        roles: fields.list("roles", &wire.roles, ROLES_MAX, RoleName::parse),
        scopes: fields
            .list("scopes", &wire.scopes, SCOPES_MAX, Scope::parse)
            .into_iter()
            .collect(),
        audience: fields.optional("audience", &wire.audience, Audience::parse),
        access_ttl: fields.seconds("access_ttl", wire.access_ttl.as_ref()),
        session_ttl: fields.seconds("session_ttl", wire.session_ttl.as_ref()),
        bindings: fields.list("bindings", &wire.bindings, BINDINGS_MAX, Binding::parse),
        require_all: wire.require_all,
        without_refresh: wire.without_refresh,
        refreshable: Refreshable::ByClient,
    };
    fields.finish(Some(request))
}

pub(crate) fn refresh_request(wire: v1::RefreshRequest) -> Result<RefreshRequest, Status> {
    let mut fields = Fields::default();
    let request_id = fields.optional("request_id", &wire.request_id, RequestId::parse);
    let scopes = fields
        .list("scopes", &wire.scopes, SCOPES_MAX, Scope::parse)
        .into_iter()
        .collect();
    let token = fields.token("refresh_token", wire.refresh_token);
    fields.finish(token.map(|refresh_token| RefreshRequest {
        request_id,
        refresh_token: PresentedToken::new(refresh_token),
        scopes,
    }))
}

/// The audience at doors whose callers can't name it, or need not: `api`, where the catalogue has it.
pub(crate) fn default_audience(catalogue: &Catalogue) -> Option<Audience> {
    let api = Audience::parse(AUDIENCE).ok()?;
    catalogue.has_audience(&api).then_some(api)
}

pub(crate) fn token(field: &str, text: String) -> Result<String, Status> {
    let mut fields = Fields::default();
    let token = fields.token(field, text);
    fields.finish(token)
}

pub(crate) fn tokens(texts: Vec<String>, max: usize) -> Result<Vec<String>, Status> {
    let mut fields = Fields::default();
    if texts.is_empty() || texts.len() > max {
        fields.reject(
            "tokens",
            format!("has {} entries; 1 to {max} are allowed", texts.len()),
        );
        return fields.finish(None);
    }
    let numbered = texts.into_iter().enumerate();
    let tokens = numbered
        .filter_map(|(index, text)| fields.token(&format!("tokens[{index}]"), text))
        .collect::<Vec<_>>();
    fields.finish(Some(tokens))
}

pub(crate) fn revoke_request(wire: v1::RevokeRequest) -> Result<RevokeRequest, Status> {
    let mut fields = Fields::default();
    let request_id = fields.optional("request_id", &wire.request_id, RequestId::parse);
    let reason = fields.remark("reason", wire.reason);
    let target = revoke_target(&mut fields, wire.target);
    let (validate_only, disables_client) = (wire.validate_only, wire.disable_client);
    if disables_client && !matches!(target, None | Some(RevokeTarget::Client(_))) {
        fields.reject("disable_client", "goes with `client` only");
    }
    fields.finish(target.map(|target| RevokeRequest {
        request_id,
        reason,
        validate_only,
        target,
        disables_client,
        with_made_keys: false,
    }))
}

fn revoke_target(fields: &mut Fields, target: Option<v1::revoke_request::Target>) -> Option<RevokeTarget> {
    use v1::revoke_request::Target;
    match target {
        Some(Target::Token(text)) => fields
            .token("token", text)
            .map(PresentedToken::new)
            .map(RevokeTarget::Token),
        Some(Target::FamilyId(text)) => fields
            .required("family_id", &text, FamilyId::parse)
            .map(RevokeTarget::Family),
        Some(Target::Subject(text)) => fields
            .required("subject", &text, Subject::parse)
            .map(RevokeTarget::Subject),
        Some(Target::Client(text)) => fields
            .required("client", &text, ClientName::parse)
            .map(RevokeTarget::Client),
        Some(Target::ApiKeyId(text)) => fields
            .required("api_key_id", &text, ApiKeyId::parse)
            .map(RevokeTarget::ApiKey),
        Some(Target::Binding(text)) => fields
            .required("binding", &text, Binding::parse)
            .map(RevokeTarget::Binding),
        Some(Target::KeyId(text)) => fields
            .required("key_id", &text, KeyId::parse)
            .map(RevokeTarget::SigningKey),
        Some(Target::WholeRealm(true)) => Some(RevokeTarget::Realm),
        Some(Target::WholeRealm(false)) => {
            fields.reject("whole_realm", "must be true");
            None
        }
        None => {
            fields.reject("target", "must be set");
            None
        }
    }
}

pub(crate) fn family_id(text: &str) -> Result<FamilyId, Status> {
    let mut fields = Fields::default();
    let id = fields.required("family_id", text, FamilyId::parse);
    fields.finish(id)
}

pub(crate) fn api_key_id(text: &str) -> Result<ApiKeyId, Status> {
    let mut fields = Fields::default();
    let id = fields.required("id", text, ApiKeyId::parse);
    fields.finish(id)
}

pub(crate) fn create_api_key(wire: &v1::CreateApiKeyRequest) -> Result<CreateApiKey, Status> {
    let mut fields = Fields::default();
    let client = fields.required("name", &wire.name, ClientName::from_short);
    let realm = fields.optional("realm", &wire.realm, RealmName::parse);
    let ttl = fields.seconds("ttl", wire.ttl.as_ref());
    fields.finish(client.map(|client| CreateApiKey { client, realm, ttl }))
}

/// The id of the key, and how long it overlaps.
pub(crate) fn roll_api_key(wire: &v1::RollApiKeyRequest) -> Result<(ApiKeyId, Option<Seconds>), Status> {
    let mut fields = Fields::default();
    let id = fields.required("id", &wire.id, ApiKeyId::parse);
    let overlap = fields.seconds("overlap", wire.overlap.as_ref());
    fields.finish(id.map(|id| (id, overlap)))
}

/// A request to revoke one thing, from the services that manage it.
pub(crate) fn revoke_one(target: RevokeTarget, reason: String) -> Result<RevokeRequest, Status> {
    let mut fields = Fields::default();
    let reason = fields.remark("reason", reason);
    fields.finish(Some(RevokeRequest {
        request_id: None,
        reason,
        validate_only: false,
        target,
        disables_client: false,
        with_made_keys: false,
    }))
}

/// A request to revoke an API key.
pub(crate) fn revoke_api_key(wire: v1::RevokeApiKeyRequest) -> Result<RevokeRequest, Status> {
    let target = RevokeTarget::ApiKey(api_key_id(&wire.id)?);
    Ok(RevokeRequest {
        validate_only: wire.validate_only,
        with_made_keys: wire.with_made_keys,
        ..revoke_one(target, wire.reason)?
    })
}

/// The subscriber to evict.
pub(crate) fn evict_subscriber(
    wire: &v1::EvictSubscriberRequest,
) -> Result<(ClientName, SubscriberName), Status> {
    let mut fields = Fields::default();
    let client = fields.required("client", &wire.client, ClientName::from_short);
    let name = fields.required("name", &wire.name, SubscriberName::parse);
    fields.finish(client.zip(name))
}

/// The name of a client.
pub(crate) fn client_name(text: &str) -> Result<ClientName, Status> {
    let mut fields = Fields::default();
    let client = fields.required("name", text, ClientName::from_short);
    fields.finish(client)
}

/// What sessions are listed by, and the size of a page.
pub(crate) fn list_sessions(wire: &v1::ListSessionsRequest) -> Result<(SessionsBy, usize), Status> {
    use v1::list_sessions_request::By;
    let mut fields = Fields::default();
    let by = match &wire.by {
        Some(By::Subject(text)) => fields
            .required("subject", text, Subject::parse)
            .map(SessionsBy::Subject),
        Some(By::Client(text)) => fields
            .required("client", text, ClientName::parse)
            .map(SessionsBy::Client),
        Some(By::Binding(text)) => fields
            .required("binding", text, Binding::parse)
            .map(SessionsBy::Binding),
        None => {
            fields.reject("by", "must be set: a subject, a client or a binding");
            None
        }
    };
    let page_size = fields.page_size(wire.page_size);
    fields.finish(by.map(|by| (by, page_size)))
}

pub(crate) fn page_size(size: u32) -> Result<usize, Status> {
    let mut fields = Fields::default();
    let size = fields.page_size(size);
    fields.finish(Some(size))
}

/// The realm whose keys are listed, and the size of a page.
pub(crate) fn list_keys(wire: &v1::ListKeysRequest) -> Result<(Option<RealmName>, usize), Status> {
    let mut fields = Fields::default();
    let realm = fields.optional("realm", &wire.realm, RealmName::parse);
    let page_size = fields.page_size(wire.page_size);
    fields.finish(Some((realm, page_size)))
}

pub(crate) fn watch_start(wire: v1::WatchStart) -> Result<WatchStart, Status> {
    let mut fields = Fields::default();
    let at = start_at(&mut fields, wire.from);
    let filter = watch_filter(&mut fields, &wire.filter.unwrap_or_default());
    let subscriber = fields.optional("subscriber", &wire.subscriber, SubscriberName::parse);
    if wire.required && wire.subscriber.is_empty() {
        fields.reject("subscriber", "must be set where `required` is");
    }
    let staleness_bound = staleness_bound(&mut fields, wire.staleness_bound);
    let required = wire.required;
    fields.finish(at.map(|at| WatchStart {
        at,
        filter,
        subscriber,
        required,
        staleness_bound,
    }))
}

fn start_at(fields: &mut Fields, from: Option<v1::watch_start::From>) -> Option<StartAt> {
    use v1::watch_start::From;
    match from {
        Some(From::Cursor(text)) => Some(StartAt::Cursor(text)),
        Some(From::Snapshot(true)) => Some(StartAt::Snapshot),
        Some(From::Latest(true)) => Some(StartAt::Latest),
        Some(From::Earliest(true)) => Some(StartAt::Earliest),
        Some(From::Snapshot(false) | From::Latest(false) | From::Earliest(false)) => {
            fields.reject("from", "must be true where it is set");
            None
        }
        None => {
            fields.reject(
                "from",
                "must be set: `snapshot`, `latest`, `earliest` or a `cursor`",
            );
            None
        }
    }
}

fn watch_filter(fields: &mut Fields, wire: &v1::WatchFilter) -> WatchFilter {
    let audiences = fields.list("filter.audiences", &wire.audiences, FILTER_MAX, Audience::parse);
    let clients = fields.list("filter.clients", &wire.clients, FILTER_MAX, ClientName::parse);
    if wire.kinds.len() > KINDS_MAX {
        fields.reject("filter.kinds", format!("at most {KINDS_MAX} are allowed"));
    }
    let mut kinds = Vec::new();
    for kind in wire.kinds.iter().take(KINDS_MAX) {
        match v1::EventKind::try_from(*kind).ok().and_then(event_kind) {
            Some(kind) => kinds.push(kind),
            None => fields.reject(
                "filter.kinds",
                format!("`{kind}` is not a kind that this server sends"),
            ),
        }
    }
    WatchFilter {
        audiences,
        clients,
        kinds,
    }
}

fn staleness_bound(fields: &mut Fields, wire: Option<prost_types::Duration>) -> StalenessBound {
    let Some(wire) = wire else {
        return StalenessBound::default();
    };
    match std::time::Duration::try_from(wire) {
        Ok(bound) if (100..=3_600_000).contains(&bound.as_millis()) => StalenessBound(bound),
        _ => {
            fields.reject("staleness_bound", "must be between 100 ms and 1 h");
            StalenessBound::default()
        }
    }
}

/// What a subscriber says after it began.
pub(crate) fn subscriber_message(wire: v1::WatchRequest) -> Result<SubscriberMessage, Status> {
    use v1::watch_request::Message;
    let mut fields = Fields::default();
    let message = match wire.message {
        Some(Message::Ping(ping)) if ping.nonce.len() <= NONCE_MAX => {
            Some(SubscriberMessage::Ping(ping.nonce))
        }
        Some(Message::Ping(_)) => {
            fields.reject("ping.nonce", format!("is longer than {NONCE_MAX} bytes"));
            None
        }
        Some(Message::Ack(ack)) => Some(SubscriberMessage::Ack(ack.cursor)),
        Some(Message::Start(_)) => {
            fields.reject("start", "must be the first message, and only that");
            None
        }
        None => {
            fields.reject("message", "must be set");
            None
        }
    };
    fields.finish(message)
}

// === responses ===

pub(crate) fn issue_response(issued: Issued) -> v1::IssueResponse {
    v1::IssueResponse {
        tokens: Some(token_set(issued.tokens)),
        family_id: issued.family.to_string(),
        denied: denied_scopes(issued.denied),
        policy_revision: issued.policy.to_string(),
        decision_id: issued.decision.to_string(),
    }
}

pub(crate) fn refresh_response(refreshed: Refreshed) -> v1::RefreshResponse {
    v1::RefreshResponse {
        tokens: Some(token_set(refreshed.tokens)),
        family_id: refreshed.family.to_string(),
        generation: refreshed.generation,
        replayed: refreshed.replayed,
        denied: denied_scopes(refreshed.denied),
        policy_revision: refreshed.policy.to_string(),
        decision_id: refreshed.decision.to_string(),
    }
}

fn token_set(tokens: TokenSet) -> v1::TokenSet {
    v1::TokenSet {
        access_token: tokens.access_token,
        refresh_token: tokens
            .refresh_token
            .map_or_else(String::new, |token| token.as_str().to_owned()),
        token_type: "Bearer".to_owned(),
        expires_in: tokens.expires_in.0,
        refresh_expires_in: tokens.refresh_expires_in.0,
        scopes: tokens.scopes.iter().map(ToString::to_string).collect(),
    }
}

fn denied_scopes(denied: Vec<(Scope, String)>) -> Vec<v1::DeniedScope> {
    denied
        .into_iter()
        .map(|(scope, reason)| v1::DeniedScope {
            scope: scope.to_string(),
            reason,
        })
        .collect()
}

/// An inactive answer carries nothing else (RFC 7662 §2.2).
pub(crate) fn introspect_response(introspection: Option<Introspection>) -> v1::IntrospectResponse {
    let Some(active) = introspection else {
        return v1::IntrospectResponse::default();
    };
    v1::IntrospectResponse {
        active: true,
        token_type: match active.token_type {
            TokenType::Access => "access_token".to_owned(),
            TokenType::Refresh => "refresh_token".to_owned(),
        },
        scope: active.scopes.to_string(),
        client_id: active.client.to_string(),
        sub: active.subject.to_string(),
        aud: active.audience.to_string(),
        iss: active.issuer,
        jti: active.token_id.map_or_else(String::new, |id| id.to_string()),
        iat: active.issued_at.as_seconds(),
        nbf: active.not_before.as_seconds(),
        exp: active.expires_at.as_seconds(),
        realm: active.realm.to_string(),
        family_id: active.family.to_string(),
        generation: active.generation,
        roles: active.roles.iter().map(ToString::to_string).collect(),
        bindings: active.bindings.iter().map(ToString::to_string).collect(),
        policy_revision: active.policy.to_string(),
        as_of: active.as_of.to_string(),
    }
}

pub(crate) fn cursor_text(revoked: &Revoked) -> String {
    revoked
        .cursor
        .map_or_else(String::new, |cursor| cursor.to_string())
}

pub(crate) fn verifying_key(key: PublishedKey) -> v1::VerifyingKey {
    let status = match key.status {
        KeyStatus::Published => v1::KeyStatus::Published,
        KeyStatus::Active => v1::KeyStatus::Active,
        KeyStatus::Retired => v1::KeyStatus::Retired,
        KeyStatus::Revoked => v1::KeyStatus::Revoked,
    };
    v1::VerifyingKey {
        kid: key.id.to_string(),
        paserk: key.paserk,
        realm: key.realm.to_string(),
        issuer: key.issuer,
        status: status.into(),
        not_before: Some(timestamp(key.not_before)),
        not_after: key.not_after.map(timestamp),
    }
}

pub(crate) fn api_key(key: &ApiKey, now: Timestamp) -> v1::ApiKey {
    let status = match key.status(now) {
        ApiKeyStatus::Active => v1::ApiKeyStatus::Active,
        ApiKeyStatus::Rolled => v1::ApiKeyStatus::Rolled,
        ApiKeyStatus::Expired => v1::ApiKeyStatus::Expired,
        ApiKeyStatus::Revoked => v1::ApiKeyStatus::Revoked,
    };
    v1::ApiKey {
        id: key.id.to_string(),
        client: key.client.to_string(),
        realm: key.realm.to_string(),
        status: status.into(),
        create_time: Some(timestamp(key.created_at)),
        expire_time: key.expires_at.map(timestamp),
        revoke_time: key.revoked_at.map(timestamp),
        successor_id: key
            .successor
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        made_with_id: key
            .made_with
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

pub(crate) fn session(session: Session) -> v1::Session {
    let Session { family, condition } = session;
    let (state, revoke_reason) = match condition {
        Condition::Active => (v1::SessionState::Active, ""),
        Condition::Revoked(reason) => (v1::SessionState::Revoked, reason.as_str()),
        Condition::ExpiredIdle => (v1::SessionState::ExpiredIdle, ""),
        Condition::ExpiredAbsolute => (v1::SessionState::ExpiredAbsolute, ""),
    };
    v1::Session {
        family_id: family.id.to_string(),
        realm: family.realm.to_string(),
        client: family.client.to_string(),
        subject: family.subject.to_string(),
        audience: family.audience.to_string(),
        roles: family.roles.iter().map(ToString::to_string).collect(),
        scopes: family.scopes.iter().map(ToString::to_string).collect(),
        bindings: family.bindings.iter().map(ToString::to_string).collect(),
        state: state.into(),
        revoke_reason: revoke_reason.to_owned(),
        generation: family.generation(),
        create_time: Some(timestamp(family.created_at)),
        idle_expire_time: Some(timestamp(family.idle_until)),
        absolute_expire_time: Some(timestamp(family.absolute_until)),
        lost_scopes: family.lost.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn watch_response(message: WatchMessage) -> v1::WatchResponse {
    use v1::watch_response::Message;
    let message = match message {
        WatchMessage::SnapshotBegin { through, realm } => Message::SnapshotBegin(v1::SnapshotBegin {
            through_sequence: through.0,
            realm: realm.to_string(),
        }),
        WatchMessage::SnapshotItem(item, cursor) => Message::SnapshotItem(event(&item, &cursor)),
        WatchMessage::SnapshotEnd { cursor, items } => Message::SnapshotEnd(v1::SnapshotEnd {
            cursor: cursor.to_string(),
            items,
        }),
        WatchMessage::Event(new, cursor) => return event_response(&new, &cursor),
        WatchMessage::Checkpoint {
            through,
            nonce,
            server_time,
            policy,
            key_set,
            realm,
        } => Message::Checkpoint(v1::Checkpoint {
            through: through.to_string(),
            through_sequence: through.sequence.0,
            nonce,
            server_time: Some(timestamp(server_time)),
            policy_revision: policy.to_string(),
            key_set,
            realm: realm.to_string(),
        }),
    };
    v1::WatchResponse {
        message: Some(message),
    }
}

pub(crate) fn event_response(new: &Event, cursor: &Cursor) -> v1::WatchResponse {
    v1::WatchResponse {
        message: Some(v1::watch_response::Message::Event(event(new, cursor))),
    }
}

fn event(event: &Event, cursor: &Cursor) -> v1::RevocationEvent {
    let reason = match &event.body {
        EventBody::SessionRevoked { reason, .. } => reason.as_str().to_owned(),
        _ => event.note.clone(),
    };
    let (policy_revision, lost_scopes) = match &event.body {
        EventBody::PolicyApplied { policy } => (policy.to_string(), Vec::new()),
        EventBody::ScopesNarrowed { policy, lost, .. } => {
            (policy.to_string(), lost.iter().map(ToString::to_string).collect())
        }
        _ => (String::new(), Vec::new()),
    };
    v1::RevocationEvent {
        sequence: event.sequence.0,
        cursor: cursor.to_string(),
        kind: wire_kind(event.body.kind()).into(),
        occurred_at: Some(timestamp(event.occurred_at)),
        relevant_until: Some(timestamp(event.relevant_until)),
        realm: event.realm.to_string(),
        reason,
        target: event.body.target().map(event_target),
        lost_scopes,
        policy_revision,
        audience: event
            .body
            .audience()
            .map_or_else(String::new, ToString::to_string),
        client_id: event.body.client().map_or_else(String::new, ToString::to_string),
    }
}

fn event_target(target: EventTarget) -> v1::revocation_event::Target {
    use v1::revocation_event::Target;
    match target {
        EventTarget::Token(id) => Target::Jti(id.to_string()),
        EventTarget::Family(id) => Target::FamilyId(id.to_string()),
        EventTarget::Subject(subject) => Target::Subject(subject.to_string()),
        EventTarget::Client(client) => Target::Client(client.to_string()),
        EventTarget::Binding(binding) => Target::Binding(binding.to_string()),
        EventTarget::SigningKey(key) => Target::KeyId(key.to_string()),
        EventTarget::ApiKey(key) => Target::ApiKeyId(key.to_string()),
        EventTarget::Realm => Target::WholeRealm(true),
    }
}

fn wire_kind(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::TokenRevoked => v1::EventKind::TokenRevoked,
        EventKind::SessionRevoked => v1::EventKind::SessionRevoked,
        EventKind::SubjectRevoked => v1::EventKind::SubjectRevoked,
        EventKind::ClientRevoked => v1::EventKind::ClientRevoked,
        EventKind::BindingRevoked => v1::EventKind::BindingRevoked,
        EventKind::RealmRevoked => v1::EventKind::RealmRevoked,
        EventKind::KeyPublished => v1::EventKind::KeyPublished,
        EventKind::KeyActivated => v1::EventKind::KeyActivated,
        EventKind::KeyRevoked => v1::EventKind::KeyRevoked,
        EventKind::ApiKeyRevoked => v1::EventKind::ApiKeyRevoked,
        EventKind::PolicyApplied => v1::EventKind::PolicyApplied,
        EventKind::ScopesNarrowed => v1::EventKind::ScopesNarrowed,
    }
}

fn event_kind(wire: v1::EventKind) -> Option<EventKind> {
    EventKind::ALL.into_iter().find(|kind| wire_kind(*kind) == wire)
}

pub(crate) fn timestamp(time: Timestamp) -> WireTimestamp {
    let millis = time.as_millis().rem_euclid(1000);
    WireTimestamp {
        seconds: time.as_seconds(),
        nanos: i32::try_from(millis).unwrap_or(0) * 1_000_000,
    }
}
