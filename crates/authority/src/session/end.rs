//! Ending sessions one by one.

use std::sync::Arc;

use tessera_core::{RevokeReason, SessionId, SessionState, Timestamp};
use tessera_store::{Changes, Snapshot};

use crate::log::event::session_revoked;

/// Sessions that are ended one by one, with their events; sessions that have ended already, or are unknown, are
/// skipped.
pub(crate) fn end_sessions(
    state: &Snapshot,
    ids: &[SessionId],
    reason: RevokeReason,
    note: &str,
    now: Timestamp,
) -> Changes {
    let sessions = ids.iter().filter_map(|id| state.session(*id));
    let active = sessions.filter(|stored| stored.session.state == SessionState::Active);
    let mut changes = Changes::default();
    for stored in active {
        let revoked = stored.session.revoked(reason, now);
        let event = session_revoked(&revoked, reason, note.to_owned(), now);
        changes.sessions.push(Arc::new(revoked));
        changes.events.push(event);
    }
    changes
}

#[cfg(test)]
mod tests {
    use tessera_core::{EventBody, Session};

    use super::*;
    use crate::testing::{at, counted, session, session_id, state, stored};

    fn with(sessions: Vec<Session>) -> Snapshot {
        Snapshot {
            sessions: sessions
                .into_iter()
                .map(|session| stored(session, None))
                .collect(),
            ..state()
        }
    }

    #[test]
    fn the_table() {
        let revoked = session(1).revoked(RevokeReason::Reuse, at(-1));
        let idle = Session {
            idle_until: at(-1),
            ..session(1)
        };
        let cases = [
            ("one that is active", with(vec![session(1)]), "1 session, 1 event"),
            ("two", with(vec![session(1), session(2)]), "2 session, 2 event"),
            ("one that was revoked before", with(vec![revoked]), ""),
            ("one that is gone", with(Vec::new()), ""),
            // Its last access token may still be valid.
            ("one that is idle", with(vec![idle]), "1 session, 1 event"),
        ];
        for (name, state, expected) in cases {
            let ids = [session_id(1), session_id(2)];
            let changes = end_sessions(&state, &ids, RevokeReason::ApiKey, "leaked", at(0));
            assert_eq!(counted(&changes), expected, "{name}");
        }
    }

    #[test]
    fn an_event_says_which_session_why_and_until_when_it_matters() {
        let state = with(vec![session(1)]);
        let changes = end_sessions(&state, &[session_id(1)], RevokeReason::ApiKey, "leaked", at(0));
        let event = &changes.events[0];
        assert_eq!(event.note, "leaked");
        assert_eq!(event.tokens_until, session(1).tokens_until(at(0)));
        assert!(matches!(
            &event.body,
            EventBody::SessionRevoked { session, reason: RevokeReason::ApiKey, .. } if *session == session_id(1)
        ));
        assert_eq!(
            changes.sessions[0].condition(at(0)),
            tessera_core::Condition::Revoked(RevokeReason::ApiKey)
        );
    }
}
