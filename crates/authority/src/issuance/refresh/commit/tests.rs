//! Refresh as a table: what the store has, and the decision.

use std::fmt::Write;

use tessera_core::{ApiKey, EventBody, RealmName, RefreshFamily, Sequence};
use tessera_store::Outage;

use super::*;
use crate::testing::{
    api_key, at, client, committed, decision_id, key_id, line, realm, revision, scopes, secret, session,
    session_id, stored, token_id,
};

const CATALOGUE: &str = r#"
[realms]
production = "p"
[roles]
"role:viewer" = "v"
[scopes]
"videos:read" = "r"
"videos:write" = "w"
"videos/{id}:play" = "p"
[audiences]
api = "a"
"#;

const MODEL: &str = include_str!("../../../../../../policies/model.conf");

const VIEWERS_READ: &str = "p, role:viewer, production, videos, read, allow\n";

/// The policy with these rules, besides those by which `client:app` may issue for ann as a viewer.
fn with_model(model: &str, rules: &str) -> Arc<Policy> {
    let rules = format!(
        "p, client:app, production, tessera/subjects/user:ann, issue, allow\n\
         p, client:app, production, tessera/roles/role:viewer, assert, allow\n{rules}"
    );
    let files = [
        ("model.conf", model.as_bytes()),
        ("catalogue.toml", CATALOGUE.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ];
    Arc::new(Policy::from_files(&files).unwrap())
}

fn policy(rules: &str) -> Arc<Policy> {
    with_model(MODEL, rules)
}

fn viewers_read() -> Arc<Policy> {
    policy(VIEWERS_READ)
}

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

/// The commit by another policy, which is in force.
fn under(policy: Arc<Policy>, commit: RefreshCommit, state: Snapshot) -> (RefreshCommit, Snapshot) {
    let in_force = Some(*policy.revision());
    (
        RefreshCommit { policy, ..commit },
        Snapshot {
            policy: in_force,
            ..state
        },
    )
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
fn the_table_of_grants() {
    let fresh = || at_generation(1, 0);
    let (denied, nothing_in_force) = under(policy(""), commit(1), fresh());
    let (denied_spent, nothing_in_force_later) = under(policy(""), commit(1), at_generation(3, 0));
    let asks = |text| RefreshCommit {
        scopes: scopes(text),
        ..commit(1)
    };
    let expects = |audience| RefreshCommit {
        audience: Some(Audience::parse(audience).unwrap()),
        ..commit(1)
    };
    check([
        (
            "fewer scopes",
            asks("videos:read"),
            fresh(),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "scopes beyond the session's",
            asks("videos:delete"),
            fresh(),
            "abort ScopeExceedsGrant",
        ),
        (
            "scopes that policy does not grant now",
            asks("videos:write"),
            fresh(),
            "commit Denied: 1 audit",
        ),
        (
            "policy grants nothing",
            denied,
            nothing_in_force,
            "commit Denied: 1 audit",
        ),
        (
            "policy grants nothing, and the token is spent",
            denied_spent,
            nothing_in_force_later,
            "commit Reused: 1 session, 1 event, 1 audit",
        ),
        (
            "the session's audience",
            expects("api"),
            fresh(),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "another audience",
            expects("other"),
            fresh(),
            "abort OtherAudience",
        ),
    ]);
}

#[test]
fn the_table_of_grants_that_are_decided_before_the_turn() {
    let many = (0..=SCOPES_IN_TURN_MAX).fold(String::new(), |mut text, number| {
        write!(text, "videos/{number}:play ").unwrap();
        text
    });
    let of_many = Session {
        scopes: scopes(&many),
        ..session(1)
    };
    let short = |granted| RefreshCommit {
        token_bytes_max: 100,
        granted,
        ..commit(1)
    };
    let granted = |text| {
        Some(Grant {
            granted: scopes(text),
            denied: Vec::new(),
            revision: revision(1),
        })
    };
    let decided = |granted| RefreshCommit { granted, ..commit(1) };
    check([
        (
            "many scopes",
            commit(1),
            with(of_many.clone()),
            "abort GrantFirst",
        ),
        (
            "many scopes, decided before",
            decided(granted("videos/1:play")),
            with(of_many),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "a token that may be too long",
            short(None),
            at_generation(1, 0),
            "abort GrantFirst",
        ),
        (
            "one that is known not to be",
            short(granted("videos:read")),
            at_generation(1, 0),
            "commit Rotated: 1 session, 1 audit",
        ),
        (
            "nothing was granted before",
            decided(granted("")),
            at_generation(1, 0),
            "commit Denied: 1 audit",
        ),
        (
            "a spent token of many scopes",
            decided(None),
            at_generation(3, 0),
            "commit Reused: 1 session, 1 event, 1 audit",
        ),
    ]);
}

#[test]
fn another_model_is_asked_before_the_turn() {
    // Its matcher differs, so Casbin itself serves it: milliseconds for each scope.
    let model = MODEL.replace("r.dom == p.dom)", "r.dom == p.dom) && r.sub != \"user:eve\"");
    let served = with_model(&model, VIEWERS_READ);
    assert!(!served.is_compiled());
    let (commit, state) = under(served, commit(1), at_generation(1, 0));
    assert_eq!(line(&commit.decide(&state)), "abort GrantFirst");
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

#[test]
fn a_scope_that_comes_back_is_lost_no_more() {
    let narrowed = Session {
        lost: scopes("videos:read videos:write"),
        ..session(1)
    };
    let (changes, _) = committed(commit(1).decide(&with(narrowed)));
    assert_eq!(changes.sessions[0].lost, scopes("videos:write"));
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
