//! The sample of questions that compares a compiled policy with Casbin.

use super::*;
use crate::sample;

#[test]
fn the_sample_finds_an_index_of_other_rules() {
    let policies = |is_deny| Rules {
        policies: vec![
            policy("role:a", "*", "a", "read", false),
            policy("role:a", "*", "a/*", "*", is_deny),
        ],
        edges: vec![edge("user:ann", "role:a", "production")],
        rows: Vec::new(),
    };
    let (rules, other) = (policies(true), policies(false));
    for (compiled, is_same) in [(&rules, true), (&other, false)] {
        assert_eq!(defects(compiled, &rules).is_empty(), is_same);
    }
}

#[test]
fn the_sample_finds_roles_that_no_rule_is_about() {
    let rules = Rules {
        policies: vec![policy("role:a", "*", "a", "read", false)],
        edges: vec![edge("user:ann", "role:b", "sandbox")],
        rows: Vec::new(),
    };
    let without = Rules {
        edges: Vec::new(),
        ..rules.clone()
    };
    assert_eq!(defects(&rules, &rules), [] as [&str; 0]);
    assert_eq!(defects(&without, &rules), ["P061"]);
}

#[test]
fn the_sample_of_a_large_policy_finds_what_is_missing_or_too_much() {
    let rules = large(5_000);
    assert_eq!(defects(&rules, &rules), [] as [&str; 0]);
    let mut without_roles = rules.clone();
    without_roles.edges.clear();
    assert!(!defects(&without_roles, &rules).is_empty());
    let mut with_more = rules.clone();
    with_more
        .policies
        .iter_mut()
        .for_each(|rule| rule.realm = Star::Any);
    assert!(!defects(&with_more, &rules).is_empty());
    let mut denying = rules.clone();
    denying
        .policies
        .iter_mut()
        .for_each(|rule| rule.effect = Effect::Deny);
    assert!(!defects(&denying, &rules).is_empty());
}

#[test]
fn the_sample_of_subjects_with_many_roles_is_made_smaller_until_questions_can_be_asked() {
    // 500 subjects with 80 roles each: Casbin walks over all of these for each rule.
    let role = |number: usize| format!("role:{}", number % 80);
    let rules = Rules {
        policies: (0..1_000)
            .map(|number| {
                policy(
                    &role(number),
                    "production",
                    &format!("films/{number}"),
                    "read",
                    false,
                )
            })
            .collect(),
        edges: (0..40_000)
            .map(|number| edge(&format!("user:{}", number / 80), &role(number), "production"))
            .collect(),
        rows: Vec::new(),
    };
    let mut denying = rules.clone();
    denying
        .policies
        .iter_mut()
        .for_each(|rule| rule.effect = Effect::Deny);
    let (asked, found) = compared(&denying, &rules);
    assert!(asked >= 8, "{asked} questions");
    assert!(!found.is_empty());
}

/// The codes that a comparison of an index of `compiled` with Casbin over `rules` finds.
fn defects(compiled: &Rules, rules: &Rules) -> Vec<&'static str> {
    let (asked, found) = compared(compiled, rules);
    assert!(asked > 0);
    found
}

/// The same, with the number of questions that were asked.
fn compared(compiled: &Rules, rules: &Rules) -> (usize, Vec<&'static str>) {
    let mut findings = Findings::default();
    let index = Index::new(compiled, &realms());
    let asked = sample::compare(&index, rules, &realms(), &[], &mut findings);
    let found = findings
        .into_result()
        .map_or_else(|error| error.diagnostics, |()| Vec::new());
    assert!(found.iter().all(|diagnostic| diagnostic.code == "P061"));
    (asked, found.iter().map(|diagnostic| diagnostic.code).collect())
}
