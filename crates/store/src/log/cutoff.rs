//! Events that end sessions: they are kept longer than their position in the log, because a session lives longer than
//! the access tokens that the log is about.

use tessera_core::{Event, EventBody, LEEWAY_MAX, Seconds, Sequence, Timestamp};

use crate::record::NewEvent;

/// The target whose sessions an event ended: a letter for its kind, and its name within the realm; `None` for an event
/// that ends no sessions.
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

/// An event that matters for longer than this does not delay the purge of the log. No access token lives that long, so
/// the clock was wrong when one was issued.
pub const FAR: Seconds = Seconds::days(2);
/// How many such events are left below the floor; more of them delay the purge.
pub const LEFT_MAX: usize = 1000;

/// The event as it must be kept if the clock issued a token `lead` milliseconds after it.
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

/// A verifier may accept a token for a little longer than its lifetime, so it must know of a revocation for that much
/// longer.
fn relevant_until(event: &NewEvent) -> Timestamp {
    event.tokens_until.plus(LEEWAY_MAX)
}

/// How long a cutoff counts if the same target had one until `earlier` before. The later one covers all sessions that
/// the earlier one covered, so it must count at least as long.
#[must_use]
pub fn cutoff_until(event: &NewEvent, earlier: Option<Timestamp>) -> Timestamp {
    let until = event.sessions_until.max(relevant_until(event));
    earlier.map_or(until, |earlier| earlier.max(until))
}
