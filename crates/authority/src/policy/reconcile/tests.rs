//! The effect of a change of policy on sessions, as a table.

use tessera_core::{EventBody, OnPolicyLoss};

use super::*;
use crate::testing::{at, counted, realm, revision, scopes, session, session_id, state, stored};

fn commit(lost: &str, on_policy_loss: OnPolicyLoss) -> ReconcileCommit {
    let realm = Realm {
        on_policy_loss,
        ..realm()
    };
    ReconcileCommit {
        policy: revision(2),
        realms: BTreeMap::from([(realm.name.clone(), Arc::new(realm))]),
        now: at(0),
        touched: vec![Touched {
            id: session_id(1),
            lost: Arc::new(scopes(lost)),
        }],
    }
}

fn with(session: Session, ended: Option<RevokeReason>) -> Snapshot {
    Snapshot {
        sessions: vec![stored(session, ended)],
        ..state()
    }
}

type Case = (
    &'static str,
    &'static str,
    OnPolicyLoss,
    Session,
    Option<RevokeReason>,
    &'static str,
);

fn check<const N: usize>(cases: [Case; N]) {
    for (name, lost, on_loss, session, ended, expected) in cases {
        let changes = commit(lost, on_loss).changes(&with(session, ended));
        assert_eq!(counted(&changes), expected, "{name}");
    }
}

fn had_lost(lost: &str) -> Session {
    Session {
        lost: scopes(lost),
        ..session(1)
    }
}

#[test]
fn the_table_of_losses() {
    use OnPolicyLoss::{Expire, Narrow, Revoke};
    let all = "videos:read videos:write";
    check([
        (
            "loses one",
            "videos:read",
            Narrow,
            session(1),
            None,
            "1 session, 1 event",
        ),
        ("loses all", all, Narrow, session(1), None, "1 session, 1 event"),
        (
            "loses one where that ends it",
            "videos:read",
            Revoke,
            session(1),
            None,
            "1 session, 1 event",
        ),
        (
            "loses one where tokens run out",
            "videos:read",
            Expire,
            session(1),
            None,
            "",
        ),
        (
            "had lost it before",
            "videos:read",
            Narrow,
            had_lost("videos:read"),
            None,
            "",
        ),
        (
            "gets it back",
            "",
            Narrow,
            had_lost("videos:read"),
            None,
            "1 session",
        ),
        (
            "loses another",
            "videos:write",
            Narrow,
            had_lost("videos:read"),
            None,
            "1 session, 1 event",
        ),
        ("loses nothing", "", Narrow, session(1), None, ""),
    ]);
}

#[test]
fn the_table_of_sessions_that_are_passed_over() {
    use OnPolicyLoss::Narrow;
    let all = "videos:read videos:write";
    let dead = Session {
        idle_until: at(-7200),
        ..session(1)
    };
    let elsewhere = Session {
        realm: RealmName::parse("elsewhere").unwrap(),
        ..session(1)
    };
    check([
        (
            "was revoked meanwhile",
            all,
            Narrow,
            session(1).revoked(RevokeReason::Requested, at(-1)),
            None,
            "",
        ),
        (
            "ended with its subject",
            all,
            Narrow,
            session(1),
            Some(RevokeReason::Subject),
            "",
        ),
        ("has been over for long", all, Narrow, dead, None, ""),
        (
            "is of a realm that is not served",
            all,
            Narrow,
            elsewhere,
            None,
            "",
        ),
    ]);
}

#[test]
fn a_session_that_is_gone_is_passed_over() {
    let changes = commit("videos:read", OnPolicyLoss::Narrow).changes(&state());
    assert_eq!(changes, Changes::default());
}

/// Another node may have replaced the policy, and reconciles with its own: this policy no longer takes or gives back
/// scopes.
#[test]
fn a_policy_that_is_no_longer_in_force_changes_no_session() {
    let commit = commit("videos:read", OnPolicyLoss::Narrow);
    let mut state = with(session(1), None);
    state.policy = Some(commit.policy);
    assert!(matches!(commit.decide(&state), Decision::Commit(changes, true) if !changes.sessions.is_empty()));
    for in_force in [None, Some(revision(1))] {
        state.policy = in_force;
        assert!(matches!(commit.decide(&state), Decision::Abort(false)));
    }
}

#[test]
fn only_what_is_lost_anew_is_told() {
    let had_lost = Session {
        lost: scopes("videos:read"),
        ..session(1)
    };
    let both = "videos:read videos:write";
    let kept = Session {
        scopes: scopes("videos:read videos:write audio:read"),
        ..had_lost
    };
    let changes = commit(both, OnPolicyLoss::Narrow).changes(&with(kept, None));
    assert_eq!(changes.sessions[0].lost, scopes(both));
    assert!(matches!(
        &changes.events[0].body,
        EventBody::ScopesNarrowed { lost, policy, .. } if *lost == scopes("videos:write") && *policy == revision(2)
    ));
}

#[test]
fn a_session_that_is_left_with_nothing_ends_by_policy() {
    let changes = commit("videos:read videos:write", OnPolicyLoss::Narrow).changes(&with(session(1), None));
    assert!(matches!(
        &changes.events[0].body,
        EventBody::SessionRevoked {
            reason: RevokeReason::Policy,
            ..
        }
    ));
    assert!(!changes.sessions[0].is_live(at(0)));
}
