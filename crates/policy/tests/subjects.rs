//! Subjects as identity systems provide them: rules, patterns and Casbin treat them literally.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use tessera_core::{ClientName, RealmName, Scope, Subject};
use tessera_policy::{Permission, Policy, Question, Verdict};

const CATALOGUE: &str = "\
realms.production = \"p\"
audiences.api = \"a\"
roles.\"role:viewer\" = \"v\"
scopes.\"videos:read\" = \"r\"
scopes.\"videos:write\" = \"w\"
";

/// Subjects that a rule can name: without a comma, a quote and `#`, and braces only if no pattern is meant.
const NAMED: [&str; 7] = [
    "spiffe://example.org/ns/prod/sa/videos",
    "arn:aws:iam::123456789012:user/Ann Smith",
    "o'neil@example.org",
    "jürgen@müller.example",
    "用户:安",
    "a%2Fb&c=d",
    "$^()[]|+?.~",
];

fn policy(rules: &str) -> Policy {
    let model = Policy::default_files()[0];
    let files = [
        model,
        ("catalogue.toml", CATALOGUE.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ];
    Policy::from_files(&files).unwrap_or_else(|error| panic!("{error}"))
}

fn may(policy: &Policy, subject: &str, scope: &str) -> bool {
    let verdict = policy.decide(&Question {
        realm: &RealmName::parse("production").unwrap(),
        subject: &Subject::parse(subject).unwrap(),
        roles: &[],
        scope: &Scope::parse(scope).unwrap(),
    });
    verdict == Verdict::Allowed
}

/// The loader asks Casbin about a sample of each policy, so a successful load shows that both treat the names the same
/// way.
#[test]
fn rules_name_subjects_letter_by_letter() {
    for subject in NAMED {
        let rules = format!("p, role:viewer, *, videos, read, allow\ng, {subject}, role:viewer, *\n");
        let granted = policy(&rules);
        assert!(may(&granted, subject, "videos:read"), "{subject}");
        assert!(!may(&granted, subject, "videos:write"), "{subject}");
        for other in NAMED.into_iter().filter(|other| *other != subject) {
            assert!(!may(&granted, other, "videos:read"), "{subject} {other}");
        }
        let mut shorter = subject.to_owned();
        shorter.pop();
        for other in [format!("{subject}x"), shorter.trim_end().to_owned()] {
            if Subject::parse(&other).is_ok() {
                assert!(!may(&granted, &other, "videos:read"), "{subject} {other}");
            }
        }
        let denied = policy(&format!(
            "p, {subject}, *, videos, *, deny\np, role:viewer, *, videos, read, allow\ng, {subject}, role:viewer, *\n"
        ));
        assert!(!may(&denied, subject, "videos:read"), "{subject}");
    }
}

#[test]
fn clients_issue_for_the_subjects_that_their_rules_name() {
    let app = ClientName::parse("client:app").unwrap();
    let production = RealmName::parse("production").unwrap();
    let permits = |rules: &str, subject: &str| {
        let rules = format!("p, role:viewer, *, videos, read, allow\n{rules}");
        let permission = Permission::IssueFor(Subject::parse(subject).unwrap());
        policy(&rules).permits(&production, &app, &permission)
    };
    let rule = |subjects: &str| format!("p, client:app, *, tessera/subjects/{subjects}, issue, allow\n");
    for subject in NAMED {
        assert!(permits(&rule("*"), subject), "{subject}");
        assert!(permits(&rule(subject), subject), "{subject}");
        assert!(!permits(&rule(&format!("{subject}x")), subject), "{subject}");
    }
    let spiffe = rule("spiffe://example.org/ns/prod/*");
    assert!(permits(&spiffe, "spiffe://example.org/ns/prod/sa/videos"));
    assert!(!permits(&spiffe, "spiffe://example.org/ns/production"));
    assert!(!permits(&spiffe, "spiffe://example.com/ns/prod/sa/videos"));
    // A dot-dot does not go up: names are texts, not paths.
    assert!(permits(&spiffe, "spiffe://example.org/ns/prod/../x"));
    assert!(!permits(&rule("user:*"), "users/user:ann"));
    assert!(permits(&rule("CN=Ann *"), "CN=Ann Smith"));
}

#[test]
fn a_permission_of_any_subject_is_read_as_it_is_written() {
    for subject in NAMED
        .into_iter()
        .chain(["a,b", "\"q\"", "{x}", "x:issue", "a/b:assert"])
    {
        let permission = Permission::IssueFor(Subject::parse(subject).unwrap());
        assert_eq!(
            Permission::parse(&permission.scope()),
            Some(permission),
            "{subject}"
        );
    }
}
