//! `RevocationService` from the wire and back.

use tessera_authority::{
    ListedSubscriber, StalenessBound, StartAt, SubscriberMessage, WatchFilter, WatchMessage, WatchStart,
};
use tessera_core::{
    Audience, ClientName, Cursor, Event, EventBody, EventKind, EventTarget, Sequence, SubscriberName,
};
use tessera_proto::v1;

use super::time::{are_nanos, timestamp};
use crate::{error::ApiError, fields::Fields};

const FILTER_MAX: usize = 16;
const KINDS_MAX: usize = 32;
const NONCE_MAX: usize = 32;

/// The subscriber to evict.
pub(crate) fn evict_subscriber(
    wire: &v1::EvictSubscriberRequest,
) -> Result<(ClientName, SubscriberName), ApiError> {
    let mut fields = Fields::default();
    let client = fields.required("client", &wire.client, ClientName::from_short);
    let name = fields.required("name", &wire.name, SubscriberName::parse);
    fields.finish(client.zip(name))
}

pub(crate) fn watch_start(wire: v1::WatchStart) -> Result<WatchStart, ApiError> {
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
        Ok(bound) if are_nanos(wire.nanos) && (100..=3_600_000).contains(&bound.as_millis()) => {
            StalenessBound(bound)
        }
        _ => {
            fields.reject("staleness_bound", "must be between 100 ms and 1 h");
            StalenessBound::default()
        }
    }
}

/// A message of a subscriber after the watch began.
pub(crate) fn subscriber_message(wire: v1::WatchRequest) -> Result<SubscriberMessage, ApiError> {
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

/// One stream of a subscriber, measured against the position of the log that is committed now.
pub(crate) fn subscriber(listed: &ListedSubscriber, committed: Sequence) -> v1::Subscriber {
    let ListedSubscriber { node, state } = listed;
    v1::Subscriber {
        client: state.key.client.to_string(),
        name: state.key.name.to_string(),
        events_behind: committed.0.saturating_sub(state.acknowledged.0),
        silent_for: state.silent_for.try_into().ok(),
        staleness_bound: state.bound.try_into().ok(),
        connected: state.is_open,
        failed_closed: state.has_failed_closed(),
        node: node.clone().unwrap_or_default(),
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
    let note = || event.note.clone();
    let (reason, policy_revision, lost_scopes) = match &event.body {
        EventBody::SessionRevoked { reason, .. } => (reason.as_str().to_owned(), String::new(), Vec::new()),
        EventBody::PolicyApplied { policy } => (note(), policy.to_string(), Vec::new()),
        EventBody::ScopesNarrowed { policy, lost, .. } => {
            let lost = lost.iter().map(ToString::to_string).collect();
            (note(), policy.to_string(), lost)
        }
        EventBody::TokenRevoked { .. }
        | EventBody::SubjectRevoked { .. }
        | EventBody::ClientRevoked { .. }
        | EventBody::LabelRevoked { .. }
        | EventBody::RealmRevoked
        | EventBody::KeyPublished { .. }
        | EventBody::KeyActivated { .. }
        | EventBody::KeyRevoked { .. }
        | EventBody::ApiKeyRevoked { .. } => (note(), String::new(), Vec::new()),
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
        EventTarget::Session(id) => Target::SessionId(id.to_string()),
        EventTarget::Subject(subject) => Target::Subject(subject.to_string()),
        EventTarget::Client(client) => Target::Client(client.to_string()),
        EventTarget::Label(label) => Target::Label(label.to_string()),
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
        EventKind::LabelRevoked => v1::EventKind::LabelRevoked,
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
