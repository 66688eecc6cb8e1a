//! Refresh as a table: what the store has, and the decision.

use tessera_core::{ApiKey, EventBody, RealmName, RefreshFamily, Sequence};
use tessera_store::Outage;

mod grants;
mod spent;

use self::grants::viewers_read;
use super::*;
use crate::testing::{
    api_key, at, client, committed, decision_id, key_id, line, realm, revision, scopes, secret, session,
    session_id, stored, token_id,
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
        scopes: ScopeSet::default(),
        audience: None,
        token_id: token_id(),
        decision: decision_id(),
        policy: viewers_read(),
        token_bytes_max: 4096,
        granted: None,
        now: at(0),
    }
}

/// The state of the tables, with this policy in force.
fn state() -> Snapshot {
    Snapshot {
        policy: Some(*viewers_read().revision()),
        api_keys: vec![
            api_key(1),
            ApiKey {
                client: client("client:other"),
                ..api_key(2)
            },
        ],
        ..crate::testing::state()
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

fn with_keys(api_keys: Vec<ApiKey>) -> Snapshot {
    Snapshot {
        api_keys,
        ..at_generation(1, 0)
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
        assert_eq!(line(&commit.decide(&state)), expected, "{name}");
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
            "abort WrongSecret",
        ),
        (
            "ahead of the store",
            commit(3),
            at_generation(2, 0),
            "abort Ahead",
        ),
        (
            "a session of another realm",
            commit(1),
            with(Session {
                realm: RealmName::parse("sandbox").unwrap(),
                ..session(1)
            }),
            "abort Invalid",
        ),
    ]);
}

#[test]
fn the_table_of_keys() {
    check([
        (
            "the caller's key is gone",
            commit(1),
            with_keys(Vec::new()),
            "abort CredentialEnded",
        ),
        (
            "it is revoked",
            commit(1),
            with_keys(vec![ApiKey {
                revoked_at: Some(at(-1)),
                ..api_key(1)
            }]),
            "abort CredentialEnded",
        ),
        (
            "it has expired",
            commit(1),
            with_keys(vec![ApiKey {
                expires_at: Some(at(0)),
                ..api_key(1)
            }]),
            "abort CredentialEnded",
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
        ("idle for too long", commit(1), idle, "abort ExpiredIdle"),
        (
            "its absolute life is over",
            commit(1),
            over,
            "abort ExpiredAbsolute",
        ),
        (
            "never had a refresh token",
            commit(1),
            without_family,
            "abort NotRefreshable",
        ),
    ]);
}

#[test]
fn what_is_rotated_has_the_successor_and_a_new_idle_life() {
    let (changes, outcome) = committed(commit(1).decide(&at_generation(1, 0)));
    let Outcome::Rotated(Spent {
        committed: rotated,
        denied,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        denied.iter().map(|(scope, _)| scope.as_str()).collect::<Vec<_>>(),
        ["videos:write"]
    );
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
