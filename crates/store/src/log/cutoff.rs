//! Events that end sessions: they outlive their position in the log, because a session lives longer than
//! the access tokens that the log is about.

use tessera_core::{Event, EventBody, LEEWAY_MAX, Seconds, Sequence, Timestamp};

use crate::record::NewEvent;

/// What an event ended together with its sessions: a letter for its kind, and its name within the realm;
/// none for an event that ends no sessions.
#[must_use]
pub fn cutoff_target(body: &EventBody) -> Option<(u8, &str)> {
    match body {
        EventBody::SubjectRevoked { subject } => Some((b's', subject.as_str())),
        EventBody::ClientRevoked { client } => Some((b'c', client.as_str())),
        EventBody::LabelRevoked { label } => Some((b'b', label.as_str())),
        EventBody::RealmRevoked => Some((b'r', "")),
        EventBody::TokenRevoked { .. }
        | EventBody::SessionRevoked { .. }
        | EventBody::KeyPublished { .. }
        | EventBody::KeyActivated { .. }
        | EventBody::KeyRevoked { .. }
        | EventBody::ApiKeyRevoked { .. }
        | EventBody::PolicyApplied { .. }
        | EventBody::ScopesNarrowed { .. } => None,
    }
}

/// How far ahead an event must matter so that the log does not wait for it: no access token lives as long, so
/// the clock was wrong when one was issued.
pub const FAR: Seconds = Seconds::days(2);
/// How many such events are left behind; the log waits for more.
pub const LEFT_MAX: usize = 1000;

/// The event as it must be remembered where a token was issued `lead` milliseconds after it by the clock.
#[must_use]
pub fn remembered(event: NewEvent, lead: i64) -> NewEvent {
    NewEvent {
        tokens_until: event.tokens_until.plus_millis(lead),
        sessions_until: event.sessions_until.plus_millis(lead),
        ..event
    }
}

/// The event at its position in the log.
#[must_use]
pub fn placed(event: NewEvent, sequence: Sequence) -> Event {
    Event {
        sequence,
        occurred_at: event.occurred_at,
        relevant_until: relevant_until(&event),
        realm: event.realm,
        note: event.note,
        body: event.body,
    }
}

/// A verifier may accept a token for a little longer than it lives, so for as long it must know of its
/// revocation.
fn relevant_until(event: &NewEvent) -> Timestamp {
    event.tokens_until.plus(LEEWAY_MAX)
}

/// How long a cutoff counts, where the same target had one until `earlier` before. The later one covers
/// all sessions that the earlier covered, so it must count at least as long.
#[must_use]
pub fn cutoff_until(event: &NewEvent, earlier: Option<Timestamp>) -> Timestamp {
    let until = event.sessions_until.max(relevant_until(event));
    earlier.map_or(until, |earlier| earlier.max(until))
}
