//! Casbin serving the built-in model, compared with the index.

use proptest::prelude::*;

use super::*;
use crate::{
    index::{
        Index,
        tests::{any_question, any_rules, realms},
    },
    oracle::RawQuestion,
};

/// The rules in the form of another model.
fn as_rows(rules: &Rules) -> Rules {
    let row = |rule: &crate::rule::PolicyRule| Row {
        place: rule.place.clone(),
        fields: rule.to_line().split(", ").skip(1).map(Arc::from).collect(),
    };
    Rules {
        policies: Vec::new(),
        edges: rules.edges.clone(),
        rows: rules.policies.iter().map(row).collect(),
    }
}

/// Casbin keeps one of two equal rules; the loader refuses the second.
fn without_doubles(mut rules: Rules) -> Rules {
    let mut seen = HashSet::new();
    rules.policies.retain(|rule| seen.insert(rule.to_line()));
    rules
}

fn serve(rules: &Rules) -> Served {
    Served::new(&Model::ours(), &as_rows(rules), &realms()).unwrap()
}

fn ask(served: &Served, question: &RawQuestion<'_>) -> Decision {
    served.decide(
        question.realm,
        &question.names,
        question.resource,
        question.action,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn casbin_serves_our_model_as_the_index_does(
        rules in any_rules().prop_map(without_doubles),
        questions in prop::collection::vec(any_question(), 20),
    ) {
        let index = Index::new(&rules, &realms());
        let served = serve(&rules);
        // A pattern that does not name the authority's own resources does not reach them; the loader refuses such
        // patterns of the built-in model.
        for question in questions.iter().filter(|question| !own::is_own(question.resource)) {
            let (expected, found) = (index.answer(question), ask(&served, question));
            prop_assert_eq!(found.is_allowed(), expected.is_allowed(), "{:?}", question);
            // Casbin stops at the first denial; of the rules that allow, the index finds the first too.
            let rule = if expected.is_allowed() { expected.allow } else { expected.deny };
            prop_assert_eq!(found.rule(), rule, "{:?}", question);
        }
    }
}

#[test]
fn a_question_is_stopped_in_its_midst_and_leaves_the_next_alone() {
    let policy =
        |number: usize| crate::index::tests::policy("user:ann", "*", &format!("a{number}"), "read", false);
    let rules = Rules {
        policies: (0..50).map(policy).collect(),
        ..Rules::default()
    };
    let served = serve(&rules);
    let ask = || served.decide("production", &["user:ann"], "a49", "read");
    let work = Work::unbounded();
    work.cancel();
    {
        let _asking = AskingFor::new(&work);
        assert!(!ask().is_allowed());
        assert_eq!(FOUND.get().passed, 0);
    }
    assert!(ask().is_allowed());
}

#[test]
fn nothing_is_remembered_from_one_question_to_the_next() {
    let rules = Rules {
        policies: vec![crate::index::tests::policy("role:a", "*", "a", "read", false)],
        ..Rules::default()
    };
    let served = serve(&rules);
    let question = |names: &[&'static str]| RawQuestion {
        realm: "production",
        names: names.to_vec(),
        resource: "a",
        action: "read",
    };
    assert!(ask(&served, &question(&["user:ann", "role:a"])).is_allowed());
    assert!(!ask(&served, &question(&["user:ann"])).is_allowed());
    assert_eq!(ask(&served, &question(&[])), Decision::NOTHING);
}

#[test]
fn the_roles_of_casbin_are_the_roles_that_it_is_given() {
    // A chain of the maximum length, after an asserted role: Casbin's own manager has the same depth.
    let names = [
        "role:a", "role:b", "role:c", "role:d", "role:e", "role:f", "role:g", "role:h", "role:i",
    ];
    let edges = names
        .windows(2)
        .map(|pair| crate::index::tests::edge(pair[0], pair[1], "sandbox"))
        .collect();
    let rules = Rules {
        policies: vec![crate::index::tests::policy("role:i", "*", "a", "read", false)],
        edges,
        rows: Vec::new(),
    };
    let served = serve(&rules);
    for (realm, expected) in [("sandbox", true), ("production", false)] {
        assert_eq!(
            served
                .decide(realm, &["user:ann", "role:a"], "a", "read")
                .is_allowed(),
            expected
        );
        assert!(!served.decide(realm, &["user:ann"], "a", "read").is_allowed());
    }
}

#[test]
fn a_rule_at_which_casbin_fails_denies_and_is_named() {
    // No accepted matcher is known to fail: a matcher that ends in a text is refused.
    let model = Model {
        matcher: "r.sub == p.sub && r.obj == p.obj && (r.act == p.act || keyGet(r.act, p.act))".to_owned(),
        effect: "some(where (p.eft == allow))",
        is_ours: false,
        ..Model::ours()
    };
    let policy = |action| crate::index::tests::policy("user:ann", "*", "a", action, false);
    let rules = Rules {
        policies: vec![policy("read"), policy("edit")],
        ..Rules::default()
    };
    let served = Served::new(&model, &as_rows(&rules), &realms()).unwrap();
    let ask = |action| served.decide("production", &["user:ann"], "a", action);
    for _ in 0..3 {
        assert!(ask("read").is_allowed());
        // The rule that allows it comes after the one at which Casbin fails.
        let denied = ask("edit");
        assert_eq!((denied.is_allowed(), denied.failed), (false, Some(0)));
    }
}
