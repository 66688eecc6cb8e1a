//! Differences of random policies, compared with every question to both.

use std::time::Instant;

use proptest::prelude::*;
use tessera_core::{RoleName, Scope};

use super::*;
use crate::oracle::RawQuestion;

const ROLES: [&str; 4] = ["role:a", "role:b", "role:c", "role:d"];
const SUBJECTS: [&str; 2] = ["user:ann", "client:cms"];
const REALMS: [&str; 3] = ["production", "sandbox", "*"];
const OBJECTS: [&str; 14] = [
    "a/~*",
    "a",
    "a/1",
    "a/12",
    "a/1*",
    "a/*",
    "a*",
    "a/1/c",
    "a/2/*",
    "b",
    "b*",
    "tessera/subjects/user:*",
    "tessera/subjects/user:ann",
    "tessera/roles/*",
];
const ACTIONS: [&str; 3] = ["read", "write", "*"];
const IDS: [&str; 6] = ["1", "12", "1x", "2", "z", "~~"];

/// What may be missing from a catalogue.
#[derive(Clone, Debug)]
struct Missing(Vec<&'static str>);

fn missing() -> impl Strategy<Value = Missing> {
    let names = [
        "sandbox",
        "role:c",
        "role:d",
        "a/{id}:write",
        "a/{x}/c:read",
        "b:read",
    ];
    prop_oneof![
        3 => Just(Missing(Vec::new())),
        1 => prop::sample::subsequence(names.to_vec(), 1..3).prop_map(Missing),
    ]
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    let name = prop_oneof![3 => prop::sample::select(&ROLES[..]), 1 => prop::sample::select(&SUBJECTS[..])];
    let policy = (
        name,
        prop::sample::select(&REALMS[..]),
        prop::sample::select(&OBJECTS[..]),
        prop::sample::select(&ACTIONS[..]),
        prop::bool::weighted(0.3),
    );
    let policy = policy.prop_map(|(holder, realm, object, action, is_deny)| {
        let action = match object {
            "tessera/roles/*" => "assert",
            _ if object.starts_with("tessera/") => "issue",
            _ => action,
        };
        format!(
            "p, {holder}, {realm}, {object}, {action}, {}",
            if is_deny { "deny" } else { "allow" }
        )
    });
    let edge = (
        0..ROLES.len() + 2,
        0..ROLES.len(),
        prop::sample::select(&REALMS[..]),
    );
    let edge = edge.prop_filter_map("no cycles", |(member, role, realm)| {
        let member = match member.checked_sub(ROLES.len()) {
            Some(subject) => SUBJECTS[subject],
            None if member < role => ROLES[member],
            None => return None,
        };
        Some(format!("g, {member}, {}, {realm}", ROLES[role]))
    });
    prop::collection::vec(prop_oneof![2 => policy, 1 => edge], 1..14)
}

/// Rules of two revisions: those that both have, and those that only one has.
fn pair() -> impl Strategy<Value = [(Vec<String>, Missing); 2]> {
    (lines(), lines(), lines(), missing(), missing()).prop_map(|(both, before, after, lacks, lacks_too)| {
        let side = |own: &[String], missing| {
            let own = own.iter().take(4);
            let mut all: Vec<String> = both.iter().chain(own).cloned().collect();
            all.sort();
            all.dedup();
            (all, missing)
        };
        [side(&before, lacks), side(&after, lacks_too)]
    })
}

fn catalogue(missing: &Missing) -> String {
    let mut text = String::new();
    for (table, names) in [
        ("realms", &["production", "sandbox"][..]),
        ("roles", &ROLES[..]),
        (
            "scopes",
            &[
                "a:read",
                "a:write",
                "a/{id}:read",
                "a/{id}:write",
                "a/{x}/c:read",
                "b:read",
                "b:write",
            ][..],
        ),
        ("audiences", &["api"][..]),
    ] {
        text.push_str(&format!("[{table}]\n"));
        for name in names.iter().filter(|name| !missing.0.contains(name)) {
            text.push_str(&format!("\"{name}\" = \"x\"\n"));
        }
    }
    text
}

fn load((lines, missing): &(Vec<String>, Missing)) -> Option<Policy> {
    let mut rules = String::new();
    for line in lines {
        // A rule of all realms beside one of a realm would be refused.
        let anywhere = line.rsplit_once(", ").map(|(start, _)| format!("{start}, *"));
        let is_covered = line.starts_with('g')
            && anywhere.is_some_and(|anywhere| anywhere != *line && lines.contains(&anywhere));
        if !is_covered
            && !missing
                .0
                .iter()
                .any(|name| line.contains(&format!(" {name},")) || line.ends_with(name))
        {
            rules.push_str(line);
            rules.push('\n');
        }
    }
    Policy::from_files(&[
        Policy::default_files()[0],
        ("catalogue.toml", catalogue(missing).as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ])
    .ok()
}

fn is_allowed(policy: &Policy, realm: &RealmName, holder: &str, scope: &str) -> bool {
    let (resource, action) = scope.rsplit_once(':').unwrap();
    let exists = match resource.strip_prefix("tessera/roles/") {
        Some(role) => policy.catalogue().has_role(&RoleName::parse(role).unwrap()),
        None => own::is_own(resource) || policy.catalogue().has_scope(&Scope::parse(scope).unwrap()),
    };
    exists
        && policy.catalogue().has_realm(realm)
        && policy
            .index
            .answer(&RawQuestion {
                realm: realm.as_str(),
                names: vec![holder],
                resource,
                action,
            })
            .is_allowed()
}

/// Many scopes: each one without a parameter, and each other one for several values.
fn universe() -> Vec<String> {
    let mut scopes: Vec<String> = [
        "a:read",
        "a:write",
        "b:read",
        "b:write",
        "tessera/tokens:introspect",
    ]
    .map(str::to_owned)
    .to_vec();
    for id in IDS {
        scopes.extend([
            format!("a/{id}:read"),
            format!("a/{id}:write"),
            format!("a/{id}/c:read"),
        ]);
        scopes.push(format!("tessera/subjects/user:{id}:issue"));
    }
    scopes.push("tessera/subjects/user:ann:issue".to_owned());
    scopes.push("tessera/subjects/client:x:issue".to_owned());
    scopes.extend(ROLES.map(|role| format!("tessera/roles/{role}:assert")));
    scopes
}

/// Whether a scope with a parameter, as a change shows it, represents a concrete one.
fn stands_for(shown: &str, scope: &str) -> bool {
    let Some((start, rest)) = shown.split_once('{') else {
        return shown == scope;
    };
    let end = rest.split_once('}').unwrap().1;
    scope
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end))
        .is_some_and(|id| !id.contains('/'))
}

fn check(old: &Policy, new: &Policy) {
    let found = diff(old, new);
    assert_eq!(found.gained + found.lost, found.changes.len());
    for change in &found.changes {
        // A value that no rule names.
        let scope = change.scope.split_once('{').map_or_else(
            || change.scope.clone(),
            |(start, rest)| format!("{start}QQ{}", rest.split_once('}').unwrap().1),
        );
        let (before, after) = (
            is_allowed(old, &change.realm, &change.holder, &scope),
            is_allowed(new, &change.realm, &change.holder, &scope),
        );
        assert_eq!(
            (before, after),
            (change.kind == ChangeKind::Lost, change.kind == ChangeKind::Gained),
            "{change:?}"
        );
        let rule = change.rule.as_ref().unwrap();
        assert!(
            change.kind == ChangeKind::Lost || rule.text.ends_with("allow"),
            "{change:?}"
        );
    }
    for realm in ["production", "sandbox"].map(|realm| RealmName::parse(realm).unwrap()) {
        for holder in ROLES.iter().chain(&SUBJECTS) {
            for scope in universe() {
                let kind = match (
                    is_allowed(old, &realm, holder, &scope),
                    is_allowed(new, &realm, holder, &scope),
                ) {
                    (false, true) => ChangeKind::Gained,
                    (true, false) => ChangeKind::Lost,
                    _ => continue,
                };
                let is_told = found.changes.iter().any(|change| {
                    change.realm == realm
                        && change.holder == *holder
                        && change.kind == kind
                        && stands_for(&change.scope, &scope)
                });
                assert!(is_told, "{kind:?} {realm} {holder} {scope}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_difference_is_what_asking_everything_finds(pair in pair()) {
        let [Some(old), Some(new)] = [load(&pair[0]), load(&pair[1])] else { return Ok(()) };
        check(&old, &new);
        prop_assert!(diff(&old, &old).is_empty());
        let (there, back) = (diff(&old, &new), diff(&new, &old));
        prop_assert_eq!((there.gained, there.lost), (back.lost, back.gained));
    }
}

fn policy(rules: &str) -> Policy {
    load(&(rules.lines().map(str::to_owned).collect(), Missing(Vec::new()))).unwrap()
}

fn told(old: &Policy, new: &Policy) -> Vec<String> {
    let changes = diff(old, new).changes;
    changes
        .iter()
        .map(|change| {
            let sign = if change.kind == ChangeKind::Gained {
                '+'
            } else {
                '-'
            };
            let rule = change.rule.as_ref().unwrap();
            format!(
                "{sign} {} {} {} by line {}",
                change.realm, change.holder, change.scope, rule.line
            )
        })
        .collect()
}

#[test]
fn a_change_names_who_what_and_the_rule() {
    let old = policy(
        "p, role:a, production, a/*, read, allow\np, role:b, *, b, read, allow\ng, user:ann, role:a, *",
    );
    let new = policy(
        "p, role:a, production, a/*, read, allow\np, role:a, *, a/1*, read, deny\ng, user:ann, role:a, *\np, role:b, *, b, *, allow",
    );
    assert_eq!(
        told(&old, &new),
        [
            "- production role:a a/1{id}:read by line 2",
            "- production role:a a/1{x}/c:read by line 2",
            "+ production role:b b:write by line 4",
            "- production user:ann a/1{id}:read by line 2",
            "- production user:ann a/1{x}/c:read by line 2",
            "+ sandbox role:b b:write by line 4",
        ]
    );
}

#[test]
fn rules_written_otherwise_are_no_change() {
    let old = policy("p, role:a, *, b, *, allow\ng, role:b, role:a, *\ng, user:ann, role:b, *");
    let new = policy(
        "# the same\np, role:a, sandbox, b, *, allow\np, role:a, production, b, read, allow\n\
         p, role:a, production, b, write, allow\ng, role:b, role:a, *\ng, user:ann, role:b, *\ng, user:ann, role:a, *",
    );
    assert_eq!(told(&old, &new), [] as [&str; 0]);
    assert!(diff(&old, &new).is_empty());
}

#[test]
fn a_permission_of_the_authority_is_marked() {
    let old = policy("p, client:cms, *, tessera/subjects/user:ann, issue, allow");
    let new = policy("p, client:cms, *, tessera/subjects/user:*, issue, allow");
    let found = diff(&old, &new);
    assert_eq!(
        told(&old, &new),
        [
            "+ production client:cms tessera/subjects/user:{subject}:issue by line 1",
            "+ sandbox client:cms tessera/subjects/user:{subject}:issue by line 1",
        ]
    );
    assert!(found.gains().all(Change::is_permission));
    assert_eq!(found.losses().count(), 0);
}

#[test]
fn names_of_one_catalogue_are_told_with_what_goes_with_them() {
    let rules = vec!["p, role:a, *, a*, *, allow".to_owned()];
    let old = load(&(rules.clone(), Missing(vec!["role:d"]))).unwrap();
    let new = load(&(rules, Missing(vec!["a/{id}:write", "sandbox"]))).unwrap();
    let found = diff(&old, &new);
    let names: Vec<String> = found
        .catalogue
        .iter()
        .map(|change| {
            format!(
                "{}{} {}",
                if change.is_added { '+' } else { '-' },
                change.kind,
                change.name
            )
        })
        .collect();
    assert_eq!(names, ["-realm sandbox", "+role role:d", "-scope a/{id}:write"]);
    assert_eq!((found.gained, found.lost), (0, 1 + 5));
    assert_eq!(told(&old, &new)[0], "- production role:a a/{id}:write by line 1");
}

/// `count` rules and `count` users in a tenth as many roles; some differ where `is_changed`.
fn large(count: usize, is_changed: bool) -> Policy {
    let roles = count / 10;
    let mut catalogue =
        String::from("[realms]\nproduction = \"p\"\nsandbox = \"s\"\n[audiences]\napi = \"a\"\n");
    catalogue.push_str("[scopes]\n\"films/{id}:play\" = \"f\"\n\"films:read\" = \"f\"\n[roles]\n");
    (0..roles).for_each(|role| catalogue.push_str(&format!("\"role:r{role}\" = \"r\"\n")));
    let policies = (0..count).map(|rule| {
        let effect = if is_changed && rule % 100 == 0 {
            "deny"
        } else {
            "allow"
        };
        format!("p,role:r{},*,films/{rule},play,{effect}\n", rule % roles)
    });
    let users = (0..count).map(|user| {
        let moved = usize::from(is_changed && user % 50 == 7);
        format!("g,u{user},role:r{},*\n", (user + moved) % roles)
    });
    let rules: String = policies.chain(users).collect();
    Policy::from_files(&[
        Policy::default_files()[0],
        ("catalogue.toml", catalogue.as_bytes()),
        ("policy.csv", rules.as_bytes()),
    ])
    .unwrap()
}

#[test]
fn changes_beyond_the_limit_are_counted() {
    let (old, new) = (large(2_000, false), large(2_000, true));
    let found = diff(&old, &new);
    assert_eq!(found.changes.len(), (found.gained + found.lost).min(CHANGES_MAX));
    assert_eq!(found.left_out(), found.gained + found.lost - found.changes.len());
    assert_eq!(found.gained, 2 * 40 * 10);
}

/// Run with `cargo test --release -p tessera-policy --lib -- --ignored --nocapture figures_of_diff`.
#[test]
#[ignore = "measures"]
fn figures_of_diff() {
    for count in [1_000, 10_000, 100_000] {
        let (old, new) = (large(count, false), large(count, true));
        let started = Instant::now();
        let found = diff(&old, &new);
        println!(
            "{} rules: {:?}, {} gained, {} lost",
            old.rule_count(),
            started.elapsed(),
            found.gained,
            found.lost
        );
    }
}
