//! Tokens that are presented again: retries, and reuse.

use super::*;

#[test]
fn the_table_of_retries() {
    let other_ratchet = RefreshCommit {
        successor: secret(50),
        ..commit(1)
    };
    let away = Snapshot {
        times: Times {
            outages: vec![Outage {
                from: at(-110),
                to: at(-5),
            }],
            ..Times::default()
        },
        ..at_generation(2, 112)
    };
    check([
        (
            "a retry together with the first",
            commit(1),
            at_generation(2, 0),
            "commit Replayed: 1 audit",
        ),
        (
            "a retry within the window",
            commit(1),
            at_generation(2, 9),
            "commit Replayed: 1 session, 1 audit",
        ),
        (
            "a retry with a wrong secret",
            wrong_secret(1),
            at_generation(2, 9),
            "abort WrongSecret",
        ),
        (
            "a retry after a change of the server key",
            other_ratchet,
            at_generation(2, 9),
            "abort Invalid",
        ),
        (
            "the time that the authority was away does not count",
            commit(1),
            away,
            "commit Replayed: 1 session, 1 audit",
        ),
    ]);
}

#[test]
fn the_table_of_spent_tokens() {
    check([
        (
            "a spent token",
            commit(1),
            at_generation(2, 11),
            "commit Reused: 1 session, 1 event, 1 audit",
        ),
        (
            "a token spent long ago",
            commit(1),
            at_generation(3, 0),
            "commit Reused: 1 session, 1 event, 1 audit",
        ),
        (
            "a spent token, whatever it asks for",
            RefreshCommit {
                scopes: scopes("videos:delete"),
                ..commit(1)
            },
            at_generation(3, 0),
            "commit Reused: 1 session, 1 event, 1 audit",
        ),
    ]);
}

#[test]
fn retries_are_counted_up_to_the_limit_and_end_nothing() {
    let mut snapshot = at_generation(2, 9);
    for retry in 0..25 {
        let commit = RefreshCommit {
            now: at(-9).plus_millis(100 * (retry + 1)),
            ..commit(1)
        };
        let decision = commit.decide(&snapshot);
        if retry >= 20 {
            assert_eq!(line(&decision), "abort ReplaysUsed", "{retry}");
            continue;
        }
        let (changes, _) = committed(decision);
        snapshot = with(changes.sessions[0].as_ref().clone());
    }
}

#[test]
fn a_reuse_revokes_the_session_and_says_so() {
    let (changes, _) = committed(commit(1).decide(&at_generation(3, 0)));
    let revoked = &changes.sessions[0];
    assert!(matches!(
        revoked.state,
        tessera_core::SessionState::Revoked { reason: RevokeReason::Reuse, at: when } if when == at(0)
    ));
    assert!(matches!(
        &changes.events[0].body,
        EventBody::SessionRevoked { session, reason: RevokeReason::Reuse, .. } if *session == session_id(1)
    ));
    let recorded = &changes.audit[0].action;
    assert!(
        matches!(
            recorded,
            AuditAction::Reused {
                presented: 1,
                current: 3,
                ..
            }
        ),
        "{recorded:?}"
    );
}
