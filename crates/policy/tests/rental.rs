//! Patterns, denials and parameters, on the policy of a rental service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use proptest::prelude::*;
use tessera_core::{RealmName, RoleName, Scope, Subject};
use tessera_policy::{Policy, PolicyError, Question, Verdict};

const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
sandbox = "for trying out"
[roles]
"role:viewer" = "watches"
"role:trial" = "watches for a while"
"role:editor" = "changes"
[scopes]
"videos:read" = "list and read videos"
"videos/{id}:play" = "play one video"
"videos/premium/{id}:play" = "play one premium video"
[audiences]
api = "the public API"
"#;

const RULES: &str = "\
# watching
p, role:viewer, *, videos, read, allow
p, role:viewer, production, videos/*, play, allow
p, role:trial, production, videos/premium/*, play, deny
g, role:trial, role:viewer, *
g, role:editor, role:viewer, *
g, client:cms, role:editor, production
p, user:ann, sandbox, videos/v1, play, allow
";

fn load(rules: &[u8], test: &str) -> Result<Policy, PolicyError> {
    let model = Policy::default_files()[0];
    Policy::from_files(&[
        model,
        ("catalogue.toml", CATALOGUE.as_bytes()),
        ("policy.csv", rules),
        ("tests/rental.toml", test.as_bytes()),
    ])
}

const TEST: &str = r#"
[[test]]
name = "a trial may not play premium films"
realm = "production"
roles = ["role:viewer", "role:trial"]
allow = ["videos/v1:play"]
deny = ["videos/premium/v9:play"]
"#;

fn ask(realm: &str, subject: &str, roles: &[&str], scope: &str) -> Result<(), String> {
    let roles: Vec<RoleName> = roles.iter().map(|role| RoleName::parse(role).unwrap()).collect();
    let verdict = load(RULES.as_bytes(), TEST).unwrap().decide(&Question {
        realm: &RealmName::parse(realm).unwrap(),
        subject: &Subject::parse(subject).unwrap(),
        roles: &roles,
        scope: &Scope::parse(scope).unwrap(),
    });
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Denied { reason } => Err(reason),
    }
}

#[test]
fn one_allow_is_enough_and_one_deny_decides() {
    let premium = "videos/premium/v9:play";
    assert_eq!(ask("production", "user:ann", &["role:viewer"], premium), Ok(()));
    for roles in [
        &["role:trial"][..],
        &["role:viewer", "role:trial"],
        &["role:trial", "role:editor"],
    ] {
        assert_eq!(
            ask("production", "user:ann", roles, premium),
            Err("denied by policy.csv:4".to_owned())
        );
        assert_eq!(ask("production", "user:ann", roles, "videos/v1:play"), Ok(()));
    }
}

#[test]
fn a_rule_of_one_realm_means_nothing_in_another() {
    assert_eq!(ask("production", "client:cms", &[], "videos:read"), Ok(()));
    assert!(ask("sandbox", "client:cms", &[], "videos:read").is_err());
    assert_eq!(ask("sandbox", "user:ann", &[], "videos/v1:play"), Ok(()));
    assert!(ask("production", "user:ann", &[], "videos/v1:play").is_err());
    let reason = ask("elsewhere", "user:ann", &["role:viewer"], "videos:read").unwrap_err();
    assert_eq!(reason, "the catalogue has no realm elsewhere");
}

#[test]
fn a_parameter_is_one_segment_though_a_pattern_matches_more() {
    // `videos/*` matches it in Casbin, but there is no such scope.
    let reason = ask("production", "user:ann", &["role:viewer"], "videos/a/b:play").unwrap_err();
    assert_eq!(reason, "the catalogue has no scope videos/a/b:play");
}

#[test]
fn a_failing_test_refuses_the_policy_and_is_named() {
    let wrong = TEST
        .replace("deny = [", "allow_not = [")
        .replace("allow_not", "deny");
    assert!(load(RULES.as_bytes(), &wrong).is_ok());
    let wrong = TEST.replace("videos/premium/v9", "videos/v9");
    let error = load(RULES.as_bytes(), &wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tests/rental.toml:7:9: P050: the test `a trial may not play premium films` fails: videos/v9:play is \
         allowed; see policy.csv:3"
    );
}

#[test]
fn rules_of_several_files_are_one_policy_and_name_their_file() {
    let model = Policy::default_files()[0];
    let policy = Policy::from_files(&[
        model,
        ("catalogue.toml", CATALOGUE.as_bytes()),
        ("policy.csv", b"p, role:viewer, *, videos, read, allow\n"),
        ("denials.csv", b"\n\np, role:trial, *, videos, *, deny\r\n"),
    ])
    .unwrap();
    let verdict = policy.decide(&Question {
        realm: &RealmName::parse("sandbox").unwrap(),
        subject: &Subject::parse("user:ann").unwrap(),
        roles: &["role:viewer", "role:trial"].map(|role| RoleName::parse(role).unwrap()),
        scope: &Scope::parse("videos:read").unwrap(),
    });
    assert_eq!(
        verdict,
        Verdict::Denied {
            reason: "denied by denials.csv:3".to_owned()
        }
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let rules = "p, role:veiwer, prodution, videos, raed, alow\nq, a\n";
    let codes: Vec<(&str, u32, u32)> = load(rules.as_bytes(), TEST)
        .unwrap_err()
        .diagnostics
        .iter()
        .map(|diagnostic| (diagnostic.code, diagnostic.line, diagnostic.column))
        .collect();
    assert_eq!(
        codes,
        [("P037", 1, 4), ("P038", 1, 17), ("P034", 1, 42), ("P030", 2, 1)]
    );
}

#[test]
fn carriage_returns_before_line_feeds_change_nothing() {
    let policy = load(RULES.replace('\n', "\r\n").as_bytes(), TEST).unwrap();
    assert_eq!(policy.rule_count(), 7);
}

proptest! {
    /// Casbin drops lines that it does not understand. With any file, either all rules are there or none.
    #[test]
    fn no_line_is_ever_dropped(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"pg, *#\"\r\n/:rolevdny\xc3\x00"[..])), 1..6),
    ) {
        let mut rules = RULES.as_bytes().to_vec();
        for (place, byte) in edits {
            let place = place.index(rules.len());
            rules[place] = byte;
        }
        if let Ok(policy) = load(&rules, TEST) {
            let text = String::from_utf8(rules).unwrap();
            let is_rule = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
            prop_assert_eq!(policy.rule_count(), text.lines().filter(is_rule).count(), "{}", text);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let model = Policy::default_files()[0];
        prop_assert!(Policy::from_files(&[model, ("catalogue.toml", &bytes), ("policy.csv", &bytes)]).is_err());
        prop_assert!(load(&bytes, TEST).is_err());
        prop_assert!(Policy::from_files(&[("model.conf", &bytes)]).is_err());
    }
}
