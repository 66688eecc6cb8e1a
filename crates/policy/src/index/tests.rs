//! The index against Casbin.

mod figures;
mod sampled;

use std::sync::Arc;

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestError, TestRng, TestRunner},
};
use tessera_core::RealmName;

use super::*;
use crate::{
    diagnostic::{Findings, Place},
    oracle::{Effects, Oracle},
    roles,
    rule::{PolicyRule, RoleEdge},
};

const SUBJECTS: [&str; 3] = ["user:ann", "user:bob", "client:cms"];
const ROLES: [&str; 9] = [
    "role:a", "role:b", "role:c", "role:d", "role:e", "role:f", "role:g", "role:h", "role:i",
];
const REALMS: [&str; 3] = ["*", "production", "sandbox"];
const OBJECTS: [&str; 12] = [
    "*",
    "a*",
    "a/*",
    "a",
    "a/b",
    "a/b*",
    "a/b/*",
    "a/b/c",
    "ab",
    "b",
    "tessera/*",
    "tessera/subjects/user:*",
];
const RESOURCES: [&str; 10] = [
    "a",
    "a/b",
    "a/b/c",
    "ab",
    "b",
    "c",
    "a/bc",
    "tessera/tokens",
    "tessera/subjects/user:ann",
    "tessera",
];
const ACTIONS: [&str; 4] = ["*", "read", "write", "play"];

fn place() -> Place {
    Place::start("policy.csv")
}

fn star(text: &str) -> Star {
    if text == "*" {
        Star::Any
    } else {
        Star::Only(Arc::from(text))
    }
}

pub(crate) fn policy(holder: &str, realm: &str, object: &str, action: &str, is_deny: bool) -> PolicyRule {
    PolicyRule {
        place: place(),
        holder: Arc::from(holder),
        realm: star(realm),
        object: match object.strip_suffix('*') {
            Some(prefix) => Object::Prefix(Arc::from(prefix)),
            None => Object::Exactly(Arc::from(object)),
        },
        action: star(action),
        effect: if is_deny { Effect::Deny } else { Effect::Allow },
    }
}

pub(crate) fn edge(member: &str, role: &str, realm: &str) -> RoleEdge {
    RoleEdge {
        place: place(),
        member: Arc::from(member),
        role: Arc::from(role),
        realm: star(realm),
        has_realm: true,
    }
}

pub(crate) fn realms() -> Vec<RealmName> {
    ["production", "sandbox"]
        .map(|name| RealmName::parse(name).unwrap())
        .to_vec()
}

fn any_policy() -> impl Strategy<Value = PolicyRule> {
    let holder = prop_oneof![
        prop::sample::select(&ROLES[..]),
        prop::sample::select(&SUBJECTS[..])
    ];
    let (realm, object) = (
        prop::sample::select(&REALMS[..]),
        prop::sample::select(&OBJECTS[..]),
    );
    (
        holder,
        realm,
        object,
        prop::sample::select(&ACTIONS[..]),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(holder, realm, object, action, is_deny)| policy(holder, realm, object, action, is_deny))
}

/// Edges lead to a later role, so there are no cycles; half of them to the next, so chains get long.
fn any_edge() -> impl Strategy<Value = RoleEdge> {
    let from_role = (0..ROLES.len() - 1, 1..ROLES.len(), any::<bool>()).prop_map(|(from, step, is_next)| {
        let to = if is_next {
            from + 1
        } else {
            (from + step).min(ROLES.len() - 1)
        };
        (ROLES[from], ROLES[to])
    });
    let from_subject = (
        prop::sample::select(&SUBJECTS[..]),
        prop::sample::select(&ROLES[..]),
    );
    (
        prop_oneof![2 => from_role, 1 => from_subject],
        prop::sample::select(&REALMS[..]),
    )
        .prop_map(|((member, role), realm)| edge(member, role, realm))
}

pub(crate) fn any_rules() -> impl Strategy<Value = Rules> {
    (
        prop::collection::vec(any_policy(), 1..25),
        prop::collection::vec(any_edge(), 0..25),
    )
        .prop_map(|(policies, edges)| Rules {
            policies,
            edges,
            rows: Vec::new(),
        })
        .prop_filter("the loader refuses longer chains", |rules| {
            let mut findings = Findings::default();
            roles::check(&rules.edges, &realms(), &mut findings);
            findings.is_empty()
        })
}

pub(crate) fn any_question() -> impl Strategy<Value = RawQuestion<'static>> {
    let subject = prop::sample::select(&["user:ann", "user:bob", "client:cms", "user:stranger"][..]);
    (
        prop::sample::select(&["production", "sandbox"][..]),
        subject,
        prop::sample::subsequence(&ROLES[..], 0..3),
        prop::sample::select(&RESOURCES[..]),
        prop::sample::select(&["read", "write", "play", "other"][..]),
    )
        .prop_map(|(realm, subject, roles, resource, action)| {
            let names = std::iter::once(subject).chain(roles).collect();
            RawQuestion {
                realm,
                names,
                resource,
                action,
            }
        })
}

fn effects(index: &Index, question: &RawQuestion<'_>) -> Effects {
    let Decision { allow, deny, .. } = index.answer(question);
    Effects {
        is_allowed: allow.is_some(),
        is_denied: deny.is_some(),
    }
}

/// Casbin's answer if the asserted roles are written as `g` rules of the subject.
fn with_roles_written(rules: &Rules, question: &RawQuestion<'_>) -> bool {
    let mut rules = rules.clone();
    let (subject, roles) = question.names.split_first().unwrap();
    rules
        .edges
        .extend(roles.iter().map(|role| edge(subject, role, question.realm)));
    let oracle = Oracle::new(&rules, &realms()).unwrap();
    oracle.is_allowed(subject, question).unwrap()
}

fn check_agreement(rules: &Rules, questions: &[RawQuestion<'_>]) -> Result<(), TestCaseError> {
    compare(&Index::new(rules, &realms()), rules, questions)
}

/// Fails if an index and Casbin over `rules` differ.
fn compare(index: &Index, rules: &Rules, questions: &[RawQuestion<'_>]) -> Result<(), TestCaseError> {
    let oracle = Oracle::new(rules, &realms()).unwrap();
    for question in questions {
        let (found, expected) = (effects(index, question), oracle.effects(question).unwrap());
        prop_assert_eq!(found, expected, "{:?}", question);
        for name in &question.names {
            for role in ROLES {
                let expected = oracle.has_role(question.realm, name, role).unwrap();
                prop_assert_eq!(
                    index.has_role(question.realm, name, role),
                    expected,
                    "{} {}",
                    name,
                    role
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn index_and_casbin_agree_on_every_question(
        rules in any_rules(),
        questions in prop::collection::vec(any_question(), 20),
    ) {
        check_agreement(&rules, &questions)?;
    }

    #[test]
    fn an_asserted_role_counts_as_if_the_subject_had_it(
        rules in any_rules(),
        questions in prop::collection::vec(any_question(), 5),
    ) {
        let index = Index::new(&rules, &realms());
        for question in &questions {
            let Effects { is_allowed, is_denied } = effects(&index, question);
            let expected = with_roles_written(&rules, question);
            prop_assert_eq!(is_allowed && !is_denied, expected, "{:?}", question);
        }
    }
}

/// A mistake in an index: its name, and the function that makes it.
type Mistake = (&'static str, fn(&mut Index));

const MISTAKES: [Mistake; 8] = [
    ("no denial", |index| {
        index.entries.retain(|entry| entry.effect == Effect::Allow);
    }),
    ("every effect allows", |index| {
        index
            .entries
            .iter_mut()
            .for_each(|entry| entry.effect = Effect::Allow);
    }),
    ("every realm", |index| {
        index.entries.iter_mut().for_each(|entry| entry.realm = ANY);
    }),
    ("every action", |index| {
        index.entries.iter_mut().for_each(|entry| entry.action = ANY);
    }),
    ("the longest patterns are not looked for", |index| {
        index.prefix_lengths.pop();
    }),
    ("a chain of roles ends too early", |index| {
        for closure in index.closures.values_mut() {
            *closure = closure.iter().copied().take(3).collect();
        }
    }),
    ("entries are not in order", |index| index.entries.reverse()),
    // No question is answered differently.
    ("roles without rules are forgotten", |index| {
        let holders: Vec<Id> = index.spans.keys().map(|(holder, _)| *holder).collect();
        for closure in index.closures.values_mut() {
            *closure = closure
                .iter()
                .copied()
                .filter(|role| holders.contains(role))
                .collect();
        }
    }),
];

#[test]
fn the_comparison_with_casbin_finds_each_seeded_mistake() {
    let config = ProptestConfig {
        cases: 256,
        // The smallest example is not needed.
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let cases = (any_rules(), prop::collection::vec(any_question(), 20));
    for (mistake, make) in MISTAKES {
        // Always the same cases, so that finding a mistake does not depend on chance.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let result = TestRunner::new_with_rng(config.clone(), rng).run(&cases, |(rules, questions)| {
            let mut index = Index::new(&rules, &realms());
            make(&mut index);
            compare(&index, &rules, &questions)
        });
        assert!(
            matches!(result, Err(TestError::Fail(..))),
            "{mistake} is not found: {result:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// Takes some minutes with
    /// `cargo test --release -p tessera-policy --lib -- --ignored a_million_questions`.
    #[test]
    #[ignore = "takes minutes"]
    fn index_and_casbin_agree_on_a_million_questions(
        rules in any_rules(),
        questions in prop::collection::vec(any_question(), 100),
    ) {
        check_agreement(&rules, &questions)?;
    }
}

#[test]
fn the_longest_chain_is_walked_to_its_end_also_behind_an_asserted_role() {
    let edges: Vec<RoleEdge> = ROLES.windows(2).map(|pair| edge(pair[0], pair[1], "*")).collect();
    assert_eq!(edges.len(), roles::CHAIN_MAX);
    let policies = vec![
        policy("role:a", "*", "a", "*", false),
        policy("role:i", "*", "a", "write", true),
    ];
    let rules = Rules {
        policies,
        edges,
        rows: Vec::new(),
    };
    let index = Index::new(&rules, &realms());
    for (action, expected) in [("read", true), ("write", false)] {
        let names = vec!["user:ann", "role:a"];
        let question = RawQuestion {
            realm: "production",
            names,
            resource: "a",
            action,
        };
        let Effects {
            is_allowed,
            is_denied,
        } = effects(&index, &question);
        assert_eq!(is_allowed && !is_denied, expected, "{action}");
        assert_eq!(with_roles_written(&rules, &question), expected, "{action}");
    }
}

#[test]
fn casbin_ignores_what_is_behind_its_depth_which_is_why_chains_are_limited() {
    // If a new Casbin walks further, this fails, and `CHAIN_MAX` may grow.
    let mut edges: Vec<RoleEdge> = ROLES.windows(2).map(|pair| edge(pair[0], pair[1], "*")).collect();
    edges.push(edge("role:i", "role:j", "*"));
    let rules = Rules {
        policies: vec![policy("role:j", "*", "a", "*", false)],
        edges,
        rows: Vec::new(),
    };
    let question = RawQuestion {
        realm: "production",
        names: vec!["role:a"],
        resource: "a",
        action: "read",
    };
    assert!(with_roles_written(&rules, &question));
    let names = vec!["user:ann", "role:a"];
    assert!(!with_roles_written(&rules, &RawQuestion { names, ..question }));
}

/// `count` rules, a tenth of them patterns, and as many users as there are rules, each with one role.
fn large(count: usize) -> Rules {
    let roles = count / 10;
    let rule = |number: usize| {
        let object = match number % 10 {
            0 => format!("films/{}/*", number / 10),
            _ => format!("films/{number}"),
        };
        policy(
            &format!("role:{}", number % roles),
            "production",
            &object,
            "read",
            false,
        )
    };
    let user = |number: usize| {
        edge(
            &format!("user:{number}"),
            &format!("role:{}", number % roles),
            "*",
        )
    };
    Rules {
        policies: (0..count).map(rule).collect(),
        edges: (0..count).map(user).collect(),
        rows: Vec::new(),
    }
}
