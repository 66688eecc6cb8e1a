//! What policy grants at a Refresh, and when it is asked before the store's turn.

use std::fmt::Write;

use super::*;

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

const MODEL: &str = include_str!("../../../../../../../policies/model.conf");

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

/// The policy by which viewers read videos.
pub(super) fn viewers_read() -> Arc<Policy> {
    policy(VIEWERS_READ)
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
fn a_scope_that_comes_back_is_lost_no_more() {
    let narrowed = Session {
        lost: scopes("videos:read videos:write"),
        ..session(1)
    };
    let (changes, _) = committed(commit(1).decide(&with(narrowed)));
    assert_eq!(changes.sessions[0].lost, scopes("videos:write"));
}
