//! Explanations of random policies: each part is verified.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tessera_core::Scope;

use super::*;
use crate::{
    oracle::{Oracle, RawQuestion},
    rule::Rules,
};

const CATALOGUE: &str = r#"
[realms]
production = "p"
sandbox = "s"
[roles]
"role:a" = "a"
"role:b" = "b"
"role:c" = "c"
"role:d" = "d"
"role:e" = "e"
"role:f" = "f"
"role:g" = "g"
"role:h" = "h"
"role:i" = "i"
[scopes]
"a:read" = "x"
"a:write" = "x"
"a/{id}:read" = "x"
"a/{id}:write" = "x"
"b:read" = "x"
"b:write" = "x"
[audiences]
api = "x"
"#;

const SUBJECTS: [&str; 4] = ["user:ann", "user:bob", "client:cms", "a"];
const ROLES: [&str; 9] = [
    "role:a", "role:b", "role:c", "role:d", "role:e", "role:f", "role:g", "role:h", "role:i",
];
const REALMS: [&str; 3] = ["production", "sandbox", "*"];
const OBJECTS: [&str; 6] = ["a", "a/1", "a/*", "a*", "b", "tessera/tokens"];
const ACTIONS: [&str; 3] = ["read", "write", "*"];
const SCOPES: [&str; 7] = [
    "a:read",
    "a:write",
    "a/1:read",
    "a/2:write",
    "b:read",
    "b:write",
    "c:read",
];

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => prop::sample::select(&ROLES[..]), 1 => prop::sample::select(&SUBJECTS[..3])]
}

fn policy_line() -> impl Strategy<Value = String> {
    let parts = (
        name(),
        prop::sample::select(&REALMS[..]),
        prop::sample::select(&OBJECTS[..]),
        prop::sample::select(&ACTIONS[..]),
        prop::bool::weighted(0.15),
    );
    parts.prop_map(|(holder, realm, object, action, is_deny)| {
        let action = if object.starts_with("tessera/") {
            "introspect"
        } else {
            action
        };
        let effect = if is_deny { "deny" } else { "allow" };
        format!("p, {holder}, {realm}, {object}, {action}, {effect}")
    })
}

/// Roles are given to names before them, so there is no cycle. Each pair is there once, so no line is refused.
fn edge_lines() -> impl Strategy<Value = Vec<String>> {
    let edge = (
        0..ROLES.len() + 3,
        0..ROLES.len(),
        prop::sample::select(&REALMS[..]),
    );
    prop::collection::vec(edge, 0..14).prop_map(|edges| {
        let mut lines = BTreeMap::new();
        for (member, role, realm) in edges {
            let (member, role) = match member.checked_sub(ROLES.len()) {
                Some(subject) => (SUBJECTS[subject], ROLES[role]),
                None if member == role => continue,
                None => (ROLES[member.min(role)], ROLES[member.max(role)]),
            };
            lines.insert((member, role), format!("g, {member}, {role}, {realm}"));
        }
        lines.into_values().collect()
    })
}

fn rules() -> impl Strategy<Value = String> {
    (prop::collection::btree_set(policy_line(), 1..12), edge_lines()).prop_map(|(policies, edges)| {
        let mut lines: Vec<String> = policies.into_iter().collect();
        lines.extend(edges);
        lines.join("\n") + "\n"
    })
}

#[derive(Clone, Debug)]
struct Asking {
    realm: RealmName,
    subject: Subject,
    roles: Vec<RoleName>,
    scope: Scope,
}

impl Asking {
    /// The loader refuses the subject `a`, since `role:a` may be meant.
    fn can_be_tested(&self) -> bool {
        self.subject.as_str() != "a"
    }

    fn question(&self) -> Question<'_> {
        Question {
            realm: &self.realm,
            subject: &self.subject,
            roles: &self.roles,
            scope: &self.scope,
        }
    }
}

fn asking() -> impl Strategy<Value = Asking> {
    let parts = (
        prop::sample::select(&["production", "sandbox", "elsewhere"][..]),
        prop::sample::select(&SUBJECTS[..]),
        prop::sample::subsequence(&ROLES[..], 0..3),
        prop::sample::select(&SCOPES[..]),
    );
    parts.prop_map(|(realm, subject, roles, scope)| Asking {
        realm: RealmName::parse(realm).unwrap(),
        subject: Subject::parse(subject).unwrap(),
        roles: roles
            .into_iter()
            .map(|role| RoleName::parse(role).unwrap())
            .collect(),
        scope: Scope::parse(scope).unwrap(),
    })
}

fn load(rules: &str, tests: &str) -> Option<Policy> {
    let mut files = vec![
        Policy::default_files()[0],
        ("catalogue.toml", CATALOGUE.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ];
    if !tests.is_empty() {
        files.push(("tests/t.toml", tests.as_bytes()));
    }
    Policy::from_files(&files).ok()
}

/// A test that the answers to these questions stay as they are.
fn tests_of(policy: &Policy, askings: &[Asking]) -> String {
    let mut tests = String::new();
    let known = askings.iter().filter(|asking| {
        asking.can_be_tested()
            && policy.catalogue().has_realm(&asking.realm)
            && policy.catalogue().has_scope(&asking.scope)
    });
    for (number, asking) in known.enumerate() {
        let roles: Vec<String> = asking.roles.iter().map(|role| format!("\"{role}\"")).collect();
        let key = match policy.decide(&asking.question()) {
            Verdict::Allowed => "allow",
            Verdict::Denied { .. } => "deny",
        };
        tests.push_str(&format!(
            "[[test]]\nname = \"{number}\"\nrealm = \"{}\"\nsubject = \"{}\"\nroles = [{}]\n{key} = [\"{}\"]\n",
            asking.realm,
            asking.subject,
            roles.join(", "),
            asking.scope
        ));
    }
    tests
}

fn check_path(explained: &Explanation, rules: &str) {
    let Some(rule) = &explained.rule else {
        assert!(explained.path.is_empty());
        return;
    };
    let lines: Vec<&str> = rules.lines().collect();
    assert_eq!(lines[rule.line as usize - 1], rule.text);
    let holder = rule.text.split(", ").nth(1).unwrap();
    check_steps(explained, &explained.path, holder, &lines);
    for path in &explained.roles {
        check_steps(explained, path, path.last().unwrap().role.as_str(), &lines);
    }
}

fn check_steps(explained: &Explanation, path: &[RoleStep], holder: &str, lines: &[&str]) {
    let mut name = explained.subject.as_str();
    for (position, RoleStep { role, given }) in path.iter().enumerate() {
        match given {
            Given::Asserted => assert!(position == 0 && explained.asserted.contains(role)),
            Given::Rule(at) => {
                assert_eq!(lines[at.line as usize - 1], at.text);
                let [kind, member, given, realm] = at.text.split(", ").collect::<Vec<_>>()[..] else {
                    panic!("{at}");
                };
                assert_eq!((kind, member, given), ("g", name, role.as_str()));
                assert!(realm == "*" || realm == explained.realm.as_str());
            }
        }
        name = role.as_str();
    }
    assert_eq!(name, holder);
}

/// Casbin, given only the deciding rule and the roles, finds that it matches.
fn check_with_casbin(policy: &Policy, explained: &Explanation, asking: &Asking) {
    let Some(rule) = &explained.rule else { return };
    let deciding = policy
        .rules
        .policies
        .iter()
        .find(|known| known.at() == *rule)
        .unwrap();
    let rules = Rules {
        policies: vec![deciding.clone()],
        edges: policy.rules.edges.clone(),
        rows: Vec::new(),
    };
    let oracle = Oracle::new(&rules, policy.catalogue().realms()).unwrap();
    let names = std::iter::once(asking.subject.as_str()).chain(asking.roles.iter().map(RoleName::as_str));
    let effects = oracle
        .effects(&RawQuestion {
            realm: asking.realm.as_str(),
            names: names.collect(),
            resource: asking.scope.resource(),
            action: asking.scope.action(),
        })
        .unwrap();
    assert!(effects.is_allowed || effects.is_denied);
}

fn check_remedies(explained: &Explanation, asking: &Asking, rules: &str, tests: &str) -> usize {
    let remedies: Vec<&String> = explained
        .misses
        .iter()
        .filter_map(|miss| miss.remedy.as_ref())
        .collect();
    for remedy in &remedies {
        let changed = load(&format!("{rules}{remedy}\n"), tests)
            .unwrap_or_else(|| panic!("`{remedy}` is refused after\n{rules}"));
        assert_eq!(
            changed.decide(&asking.question()),
            Verdict::Allowed,
            "{remedy}\n{rules}"
        );
    }
    remedies.len()
}

/// The rules of which only one part does not match, counted independently of the explanation.
fn count_misses(policy: &Policy, explained: &Explanation, asking: &Asking) -> usize {
    let names: Vec<&str> = std::iter::once(asking.subject.as_str())
        .chain(
            explained
                .roles
                .iter()
                .map(|path| path.last().unwrap().role.as_str()),
        )
        .collect();
    let is_denied = explained.rule.is_some();
    let wanted = if is_denied { 4 } else { 3 };
    let allowing = policy
        .rules
        .policies
        .iter()
        .filter(|rule| rule.at().text.ends_with("allow"));
    let matched = allowing.map(|rule| {
        usize::from(names.contains(&rule.holder.as_ref()))
            + usize::from(rule.realm.admits(asking.realm.as_str()))
            + usize::from(rule.object.admits(asking.scope.resource()))
            + usize::from(rule.action.admits(asking.scope.action()))
    });
    matched.filter(|matched| *matched == wanted).count().min(5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_part_of_an_explanation_is_true(
        rules in rules(),
        askings in prop::collection::vec(asking(), 8),
    ) {
        let Some(policy) = load(&rules, "") else { return Ok(()) };
        // Half of the questions are also tests, which a remedy must not break.
        let tests = tests_of(&policy, &askings[..4]);
        let policy = load(&rules, &tests).unwrap();
        for (number, asking) in askings.iter().enumerate() {
            let explained = policy.explain(&asking.question());
            prop_assert_eq!(&explained.verdict, &policy.decide(&asking.question()));
            check_path(&explained, &rules);
            check_with_casbin(&policy, &explained, asking);
            let remedies = check_remedies(&explained, asking, &rules, &tests);
            if number < 4 && asking.can_be_tested() && explained.verdict != Verdict::Allowed {
                prop_assert_eq!(remedies, 0, "a test says that it is denied");
            }
            let is_known = policy.catalogue().has_realm(&asking.realm)
                && policy.catalogue().has_scope(&asking.scope);
            if is_known && explained.verdict != Verdict::Allowed {
                prop_assert_eq!(explained.misses.len(), count_misses(&policy, &explained, asking));
            } else {
                prop_assert!(explained.misses.is_empty());
            }
        }
    }
}

const WORKERS: &str = "\
p, role:a, sandbox, a, read, allow
p, role:b, *, a, read, allow
g, client:cms, role:c, *
g, role:c, role:a, production
p, user:bob, production, a/*, *, allow
p, role:c, production, b, write, deny
p, role:a, production, b, *, allow
";

fn explain(rules: &str, subject: &str, roles: &[&str], scope: &str) -> Explanation {
    let policy = load(rules, "").unwrap();
    policy.explain(&Question {
        realm: &RealmName::parse("production").unwrap(),
        subject: &Subject::parse(subject).unwrap(),
        roles: &roles
            .iter()
            .map(|role| RoleName::parse(role).unwrap())
            .collect::<Vec<_>>(),
        scope: &Scope::parse(scope).unwrap(),
    })
}

/// Role paths and misses as lines to compare.
fn lines_of(explained: &Explanation) -> Vec<String> {
    let path = |path: &Vec<RoleStep>| {
        let steps: Vec<String> = path
            .iter()
            .map(|step| match &step.given {
                Given::Asserted => format!("{} asserted", step.role),
                Given::Rule(at) => format!("{} by {}:{}", step.role, at.file, at.line),
            })
            .collect();
        steps.join(", ")
    };
    let misses = explained.misses.iter().map(|miss| {
        let remedy = miss.remedy.as_deref().unwrap_or("no remedy");
        format!("{} | {} | {remedy}", miss.rule, miss.reason)
    });
    explained.roles.iter().map(path).chain(misses).collect()
}

#[test]
fn a_denial_names_the_nearest_rules_and_what_would_help() {
    assert_eq!(
        lines_of(&explain(WORKERS, "client:cms", &[], "a:read")),
        [
            "role:c by policy.csv:3",
            "role:c by policy.csv:3, role:a by policy.csv:4",
            "policy.csv:1  p, role:a, sandbox, a, read, allow | realm sandbox is not production | \
             p, role:a, production, a, read, allow",
            "policy.csv:2  p, role:b, *, a, read, allow | client:cms does not have role:b | \
             g, client:cms, role:b, production",
            "policy.csv:7  p, role:a, production, b, *, allow | resource b is not a | \
             p, role:a, production, a, read, allow",
        ]
    );
    let other = explain(WORKERS, "user:ann", &[], "a/1:write");
    assert_eq!(
        lines_of(&other),
        [
            "policy.csv:5  p, user:bob, production, a/*, *, allow | subject user:bob is not user:ann | \
          p, user:ann, production, a/1, write, allow"
        ]
    );
}

#[test]
fn a_rule_that_denies_is_the_reason_and_no_line_helps() {
    let explained = explain(WORKERS, "client:cms", &[], "b:write");
    let deny = "policy.csv:6  p, role:c, production, b, write, deny";
    assert_eq!(explained.rule.as_ref().unwrap().to_string(), deny);
    assert_eq!(explained.path.len(), 1);
    let miss = format!("policy.csv:7  p, role:a, production, b, *, allow | denied by {deny} | no remedy");
    assert_eq!(lines_of(&explained)[2..], [miss]);
}

#[test]
fn an_asserted_role_is_the_first_step() {
    let explained = explain(WORKERS, "user:ann", &["role:c"], "b:read");
    assert_eq!(explained.verdict, Verdict::Allowed);
    let steps: Vec<&Given> = explained.path.iter().map(|step| &step.given).collect();
    assert_eq!(steps[0], &Given::Asserted);
    assert!(matches!(steps[1], Given::Rule(at) if at.line == 4));
    assert_eq!(
        lines_of(&explained),
        ["role:c asserted", "role:c asserted, role:a by policy.csv:4"]
    );
}

#[test]
fn a_remedy_that_the_loader_would_refuse_is_not_given() {
    // The chain from `role:a` has eight edges already, and a subject called `a` is taken for the role.
    let mut rules: String = ROLES
        .windows(2)
        .map(|pair| format!("g, {}, {}, *\n", pair[0], pair[1]))
        .collect();
    rules.push_str("p, role:a, production, a, read, allow\np, user:bob, production, b, read, allow\n");
    let explained = explain(&rules, "user:ann", &[], "a:read");
    assert_eq!(
        (explained.misses.len(), explained.misses[0].remedy.as_deref()),
        (1, None)
    );
    let explained = explain(&rules, "a", &[], "b:read");
    assert_eq!(
        (explained.misses.len(), explained.misses[0].remedy.as_deref()),
        (1, None)
    );
}

#[test]
fn a_permission_is_explained_as_it_is_decided() {
    let rules =
        "p, role:a, production, tessera/tokens, introspect, allow\ng, client:cms, role:a, production\n";
    let policy = load(rules, "").unwrap();
    for (client, is_permitted) in [("client:cms", true), ("client:other", false)] {
        let realm = RealmName::parse("production").unwrap();
        let client = tessera_core::ClientName::parse(client).unwrap();
        let explained = policy.explain_permission(&realm, &client.to_subject(), &Permission::Introspect);
        assert_eq!(
            policy.permits(&realm, &client, &Permission::Introspect),
            is_permitted
        );
        assert_eq!(explained.verdict == Verdict::Allowed, is_permitted);
        assert_eq!(explained.scope, "tessera/tokens:introspect");
        assert_eq!(explained.misses.len(), usize::from(!is_permitted));
    }
}
