//! Refresh as a table: what the store has, and the decision.

use tessera_core::{EventBody, RefreshFamily, Sequence};
use tessera_store::Outage;

use super::*;
use crate::testing::{
    at, client, committed, decision_id, key_id, line, realm, revision, scopes, secret, session, session_id,
    state, stored, token_id,
};

/// A client that presents the token of generation `generation` with the right secret, to get the next one.
fn commit(generation: u8) -> RefreshCommit {
    RefreshCommit {
        identity: Identity::of(realm(), client("client:app"), key_id(1)),
        request_id: None,
        session: session_id(1),
        generation: generation.into(),
        secret: secret(generation),
        successor: secret(generation + 1),
        token_id: token_id(),
        decision: decision_id(),
        grant: Grant {
            granted: scopes("videos:read"),
            denied: Vec::new(),
            revision: revision(1),
        },
        now: at(0),
    }
}

/// A state with the session at generation `generation`, whose last rotation was `ago` seconds ago.
fn at_generation(generation: u8, ago: i64) -> Snapshot {
    let mut family = RefreshFamily::first(secret(1));
    for next in 2..=generation {
        family = family.rotated(secret(next), at(-ago));
    }
    with(Session {
        family: Some(family),
        ..session(1)
    })
}

fn with(session: Session) -> Snapshot {
    Snapshot {
        sessions: vec![stored(session, None)],
        ..state()
    }
}

fn ended(reason: RevokeReason) -> Snapshot {
    Snapshot {
        sessions: vec![stored(session(1), Some(reason))],
        ..state()
    }
}

fn by_another(commit: RefreshCommit) -> RefreshCommit {
    RefreshCommit {
        identity: Identity::of(realm(), client("client:other"), key_id(2)),
        ..commit
    }
}

fn granted_nothing(commit: RefreshCommit) -> RefreshCommit {
    RefreshCommit {
        grant: Grant::nothing(&session(1)),
        ..commit
    }
}

fn wrong_secret(generation: u8) -> RefreshCommit {
    RefreshCommit {
        secret: secret(99),
        ..commit(generation)
    }
}

type Case = (&'static str, RefreshCommit, Snapshot, &'static str);

fn check<const N: usize>(cases: [Case; N]) {
    for (name, commit, state, expected) in cases {
        assert_eq!(line(&commit.decide(&state, &revision(1))), expected, "{name}");
    }
}

#[test]
fn the_table_of_rotations() {
    let other_policy = Snapshot {
        policy: Some(revision(2)),
        ..at_generation(1, 0)
    };
    check([
        (
            "the next generation",
            commit(1),
            at_generation(1, 0),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "a later one",
            commit(3),
            at_generation(3, 500),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "decided by another policy",
            commit(1),
            other_policy,
            "abort PolicyChanged",
        ),
        ("no such session", commit(1), state(), "abort Invalid"),
        (
            "the secret is wrong",
            wrong_secret(1),
            at_generation(1, 0),
            "abort Invalid",
        ),
        (
            "ahead of the store",
            commit(3),
            at_generation(2, 0),
            "abort Ahead",
        ),
        (
            "granted nothing and not spent",
            granted_nothing(commit(1)),
            at_generation(1, 0),
            "abort Unavailable",
        ),
    ]);
}

#[test]
fn the_table_of_sessions_that_are_over() {
    let idle = with(Session {
        idle_until: at(0),
        ..session(1)
    });
    let over = with(Session {
        absolute_until: at(0),
        ..session(1)
    });
    let revoked = with(session(1).revoked(RevokeReason::Requested, at(-1)));
    let without_family = with(Session {
        family: None,
        ..session(1)
    });
    check([
        (
            "by another client",
            by_another(commit(1)),
            at_generation(1, 0),
            "abort WrongClient",
        ),
        (
            "revoked, by another client",
            by_another(commit(1)),
            revoked.clone(),
            "abort WrongClient",
        ),
        (
            "ended with others, by another client",
            by_another(commit(1)),
            ended(RevokeReason::Realm),
            "abort WrongClient",
        ),
        ("revoked", commit(1), revoked, "abort Revoked"),
        (
            "ended with its key",
            commit(1),
            ended(RevokeReason::ApiKey),
            "abort Revoked",
        ),
        ("idle for too long", commit(1), idle, "abort Expired"),
        ("its absolute life is over", commit(1), over, "abort Expired"),
        (
            "never had a refresh token",
            commit(1),
            without_family,
            "abort Invalid",
        ),
    ]);
}

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
            "abort Invalid",
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
            "a spent token, whatever is granted",
            granted_nothing(commit(1)),
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
        let decision = commit.decide(&snapshot, &revision(1));
        if retry >= 20 {
            assert_eq!(line(&decision), "abort ReplaysUsed", "{retry}");
            continue;
        }
        let (changes, _) = committed(decision);
        snapshot = with(changes.sessions[0].as_ref().clone());
    }
}

#[test]
fn what_is_rotated_has_the_successor_and_a_new_idle_life() {
    let (changes, outcome) = committed(commit(1).decide(&at_generation(1, 0), &revision(1)));
    let Outcome::Rotated(rotated) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(changes.sessions[0], rotated.session);
    assert_eq!(
        (rotated.rev, rotated.scopes.clone()),
        (Sequence(5), scopes("videos:read"))
    );
    let family = rotated.session.family.unwrap();
    assert_eq!((family.generation, family.current), (2, secret(2)));
    // 30 days, but not beyond the absolute end.
    assert_eq!(rotated.session.idle_until, session(1).absolute_until);
    assert_eq!(
        rotated.session.rev,
        session(1).rev,
        "what was revoked since it began still ends it"
    );
}

#[test]
fn a_scope_that_comes_back_is_lost_no_more() {
    let narrowed = Session {
        lost: scopes("videos:read videos:write"),
        ..session(1)
    };
    let (changes, _) = committed(commit(1).decide(&with(narrowed), &revision(1)));
    assert_eq!(changes.sessions[0].lost, scopes("videos:write"));
}

#[test]
fn a_reuse_revokes_the_session_and_says_so() {
    let (changes, _) = committed(commit(1).decide(&at_generation(3, 0), &revision(1)));
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
