//! Issue as a table: what the store has, and the decision.

use tessera_core::{RefreshFamily, RequestId, RevokeReason};
use tessera_store::ClientState;

use super::*;
use crate::testing::{
    api_key, at, client, committed, counted, decision_id, key_id, line, realm, revision, scopes, secret,
    session, session_id, state, stored, token_id,
};

fn commit() -> IssueCommit {
    IssueCommit {
        policy: revision(1),
        idempotency: None,
        session: session(9),
        token_id: token_id(),
        identity: Identity::of(realm(), client("client:app"), key_id(1)),
        request: None,
        denied: scopes("videos:delete"),
        decision: decision_id(),
        sessions_max: 10,
        now: at(0),
    }
}

/// A request with an id, whose content is the same or different.
fn repeated(digest: u8) -> IssueCommit {
    let key = RequestKey {
        realm: realm().name,
        client: client("client:app"),
        request: RequestId::from_bytes([1; 16]),
    };
    IssueCommit {
        idempotency: Some((key, [digest; 32])),
        ..commit()
    }
}

/// A state in which request 1, with digest 1, made session 1.
fn made_before(earlier: Session, ended: Option<RevokeReason>) -> Snapshot {
    Snapshot {
        request: Some(RequestRecord {
            digest: [1; 32],
            session: session_id(1),
            expires_at: at(60),
        }),
        sessions: vec![stored(earlier, ended)],
        ..state()
    }
}

fn with_client(is_disabled: bool, sessions: u64) -> Snapshot {
    let of_client = ClientState {
        is_disabled,
        sessions,
    };
    Snapshot {
        clients: vec![(realm().name, client("client:app"), of_client)],
        ..state()
    }
}

type Case = (&'static str, IssueCommit, Snapshot, &'static str);

fn check<const N: usize>(cases: [Case; N]) {
    for (name, commit, state, expected) in cases {
        assert_eq!(line(&commit.decide(&state)), expected, "{name}");
    }
}

#[test]
fn the_table_of_new_sessions() {
    let last_place = with_client(false, 9);
    let expired_record = Snapshot {
        request: Some(RequestRecord {
            digest: [7; 32],
            session: session_id(1),
            expires_at: at(0),
        }),
        ..state()
    };
    check([
        (
            "a new session",
            commit(),
            state(),
            "commit Made: 1 session, 1 audit",
        ),
        (
            "with a request id",
            repeated(1),
            state(),
            "commit Made: 1 session, 1 request, 1 audit",
        ),
        (
            "the last session it may have",
            commit(),
            last_place,
            "commit Made: 1 session, 1 audit",
        ),
        (
            "the record is over",
            repeated(1),
            expired_record,
            "commit Made: 1 session, 1 request, 1 audit",
        ),
    ]);
}

#[test]
fn the_table_of_what_is_not_made() {
    let other_policy = Snapshot {
        policy: Some(revision(2)),
        ..state()
    };
    let key_revoked = Snapshot {
        api_keys: vec![tessera_core::ApiKey {
            revoked_at: Some(at(-1)),
            ..api_key(1)
        }],
        ..state()
    };
    let key_expired = Snapshot {
        api_keys: vec![tessera_core::ApiKey {
            expires_at: Some(at(0)),
            ..api_key(1)
        }],
        ..state()
    };
    let no_key = Snapshot {
        api_keys: Vec::new(),
        ..state()
    };
    let no_policy = Snapshot {
        policy: None,
        ..state()
    };
    check([
        (
            "decided by another policy",
            commit(),
            other_policy,
            "abort PolicyChanged",
        ),
        ("before any policy", commit(), no_policy, "abort PolicyChanged"),
        (
            "the key is revoked",
            commit(),
            key_revoked,
            "abort CredentialEnded",
        ),
        (
            "the key has expired",
            commit(),
            key_expired,
            "abort CredentialEnded",
        ),
        ("the key is gone", commit(), no_key, "abort CredentialEnded"),
        (
            "the client is disabled",
            commit(),
            with_client(true, 3),
            "abort CredentialEnded",
        ),
        (
            "one too many",
            commit(),
            with_client(false, 10),
            "abort SessionsUsed",
        ),
    ]);
}

#[test]
fn the_table_of_repeated_requests() {
    let unread = Snapshot {
        sessions: Vec::new(),
        ..made_before(session(1), None)
    };
    let gone = Snapshot {
        missing_sessions: vec![session_id(1)],
        ..unread.clone()
    };
    let lost = Session {
        lost: scopes("videos:read"),
        ..session(1)
    };
    check([
        (
            "one too many, repeated",
            repeated(1),
            Snapshot {
                clients: with_client(false, 10).clients,
                ..made_before(session(1), None)
            },
            "commit Repeated: 1 audit",
        ),
        (
            "another request",
            repeated(2),
            made_before(session(1), None),
            "abort Mismatch",
        ),
        ("the session is not read yet", repeated(1), unread, "read more"),
        ("the session is removed", repeated(1), gone, "abort Ended"),
        (
            "repeated",
            repeated(1),
            made_before(session(1), None),
            "commit Repeated: 1 audit",
        ),
        (
            "a scope comes back",
            repeated(1),
            made_before(lost, None),
            "commit Repeated: 1 session, 1 audit",
        ),
    ]);
}

#[test]
fn the_table_of_requests_repeated_too_late() {
    let refreshed = Session {
        family: session(1).family.map(|family| family.rotated(secret(2), at(-1))),
        ..session(1)
    };
    let revoked = session(1).revoked(RevokeReason::Requested, at(-1));
    let idle = Session {
        idle_until: at(0),
        ..session(1)
    };
    let narrower = IssueCommit {
        session: Session {
            scopes: scopes("audio:read"),
            ..session(9)
        },
        ..repeated(1)
    };
    check([
        (
            "refreshed since",
            repeated(1),
            made_before(refreshed, None),
            "abort Refreshed",
        ),
        (
            "revoked since",
            repeated(1),
            made_before(revoked, None),
            "abort Ended",
        ),
        (
            "ended with its subject",
            repeated(1),
            made_before(session(1), Some(RevokeReason::Subject)),
            "abort Ended",
        ),
        (
            "idle for too long",
            repeated(1),
            made_before(idle, None),
            "abort Ended",
        ),
        (
            "policy grants nothing of it now",
            narrower,
            made_before(session(1), None),
            "abort Ended",
        ),
    ]);
}

#[test]
fn what_is_made_carries_the_log_as_it_is_at_the_commit() {
    let (changes, outcome) = committed(repeated(1).decide(&state()));
    let Outcome::Made(made) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((made.session.rev, made.rev), (state().head, state().head));
    assert_eq!(changes.sessions[0], made.session);
    assert_eq!(made.scopes, made.session.scopes);
    let (key, record) = &changes.requests[0];
    assert_eq!(key.client, client("client:app"));
    assert_eq!((record.session, record.expires_at), (session_id(9), at(600)));
}

#[test]
fn what_is_repeated_has_no_more_than_policy_grants_now_and_than_it_had() {
    let commit = IssueCommit {
        session: Session {
            scopes: scopes("videos:read audio:read"),
            ..session(9)
        },
        ..repeated(1)
    };
    let (changes, outcome) = committed(commit.decide(&made_before(session(1), None)));
    let Outcome::Repeated(again) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(again.scopes, scopes("videos:read"));
    assert_eq!(
        (again.session.id, counted(&changes).as_str()),
        (session_id(1), "1 audit")
    );
    let AuditAction::Issued {
        scopes: recorded,
        denied,
        ..
    } = &changes.audit[0].action
    else {
        panic!("{changes:?}")
    };
    assert_eq!((recorded, denied), (&again.scopes, &scopes("videos:delete")));
}

#[test]
fn a_session_without_a_refresh_token_can_be_repeated() {
    let without = Session {
        family: None::<RefreshFamily>,
        ..session(1)
    };
    let decision = repeated(1).decide(&made_before(without, None));
    assert_eq!(line(&decision), "commit Repeated: 1 audit");
}
