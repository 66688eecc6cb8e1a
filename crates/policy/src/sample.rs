//! Asks the index and Casbin the same questions at load. A difference is a defect, and the load is refused.

use std::collections::{HashMap, HashSet};

use crate::{
    code,
    diagnostic::{Findings, Place},
    index::Index,
    oracle::{Effects, Oracle, RawQuestion},
    rule::{Object, PolicyRule, Realms, RoleEdge, Rules, Star},
};

/// The most questions.
const QUESTIONS_MAX: usize = 256;
/// The limit of the questions' total cost, in rules that Casbin evaluates: about a microsecond each.
const COST_MAX: usize = 1_000_000;
/// The limit of the cost of one question; more expensive questions are left out.
const COST_OF_ONE_MAX: usize = COST_MAX / 8;
/// How many `p` rules Casbin is given; with more, every second, third, … one.
const POLICIES_MAX: usize = 1_000;
/// How many subjects with roles Casbin is given, each with all its edges.
const SUBJECTS_MAX: usize = 500;
/// Up to this many `g` rules, every member is compared with every role.
const ROLE_EDGES_MAX: usize = 32;
/// In how many realms roles are compared.
const REALMS_MAX: usize = 8;
/// A subject that no rule names.
const STRANGER: &str = "user:nobody-in-particular";

/// The rules that Casbin is given: all of a small policy, some of a large one. With 100,000 rules and as many users,
/// eight questions took Casbin over a minute. The compiler treats all rules alike, so a sample is enough.
struct Sample {
    rules: Rules,
    /// One of this many rules is in the sample.
    stride: usize,
}

/// Compares both on `first`, and on questions made from the rules. Returns the number of questions.
pub(crate) fn compare(
    index: &Index,
    rules: &Rules,
    realms: &Realms,
    first: &[RawQuestion<'_>],
    findings: &mut Findings,
) -> usize {
    let first = first.get(..QUESTIONS_MAX / 2).unwrap_or(first);
    let sample = Sample::new(rules, first);
    let place = Place::start("policy.csv");
    let oracle = match Oracle::new(&sample.rules, realms) {
        Ok(oracle) => oracle,
        Err(_) => {
            findings.add(code::CASBIN, &place, "casbin refuses the policy");
            return 0;
        }
    };
    for difference in sample.role_differences(index, &oracle, realms) {
        findings.add(code::DEFECT, &place, format!("a defect: {difference}"));
    }
    let resources: Vec<String> = sample.rules.policies.iter().map(resource_of).collect();
    let made = questions(&sample.rules, realms, &resources);
    let (mut budget, mut asked) = (COST_MAX, 0);
    for question in first.iter().cloned().chain(made).take(QUESTIONS_MAX) {
        if findings.is_full() {
            break;
        }
        let cost = cost_of(&question, &sample.rules);
        if cost > COST_OF_ONE_MAX {
            continue;
        }
        let Some(rest) = budget.checked_sub(cost) else {
            break;
        };
        budget = rest;
        asked += 1;
        if let Some(difference) = sample.difference(index, &oracle, &question) {
            let RawQuestion {
                realm,
                names,
                resource,
                action,
            } = &question;
            let names = names.join(", ");
            let message = format!("a defect: {resource}:{action} for {names} in {realm}: {difference}");
            let help = "the policy may be right; report this with the policy's files".to_owned();
            findings.advise(code::DEFECT, &place, message, help);
        }
    }
    if asked == 0 {
        tracing::warn!("casbin was asked nothing about the policy: each question would take it too long");
    }
    asked
}

impl Sample {
    /// As many rules and subjects as keep a question about a subject and an asserted role within the cost limit.
    fn new(rules: &Rules, first: &[RawQuestion<'_>]) -> Self {
        let (mut policies_max, mut subjects_max) = (POLICIES_MAX, SUBJECTS_MAX);
        loop {
            let sample = Self::of_at_most(policies_max, subjects_max, rules, first);
            let cost = cost_of_names(2, &sample.rules);
            if cost <= COST_OF_ONE_MAX || policies_max == 1 {
                return sample;
            }
            // The cost of each subject is not known before: with many roles each, it is high.
            policies_max = (policies_max / 2).max(1);
            subjects_max = (subjects_max / 2).max(1);
        }
    }

    fn of_at_most(
        policies_max: usize,
        subjects_max: usize,
        rules: &Rules,
        first: &[RawQuestion<'_>],
    ) -> Self {
        let stride = rules.policies.len().div_ceil(policies_max).max(1);
        let policies = rules.policies.iter().step_by(stride).cloned().collect();
        let mut seen = HashSet::new();
        let is_subject = |edge: &&RoleEdge| !edge.member.starts_with("role:");
        let subjects: Vec<&str> = rules
            .edges
            .iter()
            .filter(is_subject)
            .map(|edge| edge.member.as_ref())
            .filter(|subject| seen.insert(*subject))
            .collect();
        let every = subjects.len().div_ceil(subjects_max).max(1);
        let asked = first.iter().flat_map(|question| question.names.iter().copied());
        let chosen: HashSet<&str> = subjects.iter().step_by(every).copied().chain(asked).collect();
        // Every edge between roles, so that each subject in the sample has all its roles.
        let is_kept = |edge: &&RoleEdge| !is_subject(edge) || chosen.contains(edge.member.as_ref());
        let edges = rules.edges.iter().filter(is_kept).cloned().collect();
        Self {
            rules: Rules {
                policies,
                edges,
                rows: Vec::new(),
            },
            stride,
        }
    }

    /// The differences between the index and Casbin's role manager in who has which role, one per realm.
    ///
    /// Questions do not show all of them: no question depends on a role without rules.
    fn role_differences(&self, index: &Index, oracle: &Oracle, realms: &Realms) -> Vec<String> {
        let edges = &self.rules.edges;
        let every = edges.len().div_ceil(ROLE_EDGES_MAX).max(1);
        let chosen = || edges.iter().step_by(every);
        let differs = |realm: &str, name: &str, role: &str| {
            let found = index.has_role(realm, name, role);
            match oracle.has_role(realm, name, role) {
                Ok(expected) if expected == found => None,
                Ok(expected) => Some(format!(
                    "whether {name} has {role} in {realm}: the index says {found} and casbin {expected}"
                )),
                Err(_) => Some("casbin failed".to_owned()),
            }
        };
        let in_realm = |realm: &tessera_core::RealmName| {
            let mut pairs = chosen().flat_map(|edge| chosen().map(move |other| (&edge.member, &other.role)));
            pairs.find_map(|(name, role)| differs(realm.as_str(), name, role))
        };
        realms.iter().take(REALMS_MAX).filter_map(in_realm).collect()
    }

    /// The answers of the index and Casbin, if they differ.
    fn difference(&self, index: &Index, oracle: &Oracle, question: &RawQuestion<'_>) -> Option<String> {
        let found = index.answer(question);
        match oracle.effects(question) {
            Ok(Effects {
                is_allowed,
                is_denied,
            }) if self.agrees(found.allow, is_allowed) && self.agrees(found.deny, is_denied) => None,
            Ok(expected) => Some(format!("the index says {found:?} and casbin {expected:?}")),
            Err(_) => Some("casbin failed".to_owned()),
        }
    }

    /// Whether the rule that the index found, if any, is a rule that Casbin could find.
    fn agrees(&self, found: Option<u32>, is_expected: bool) -> bool {
        match found.and_then(|number| usize::try_from(number).ok()) {
            None => !is_expected,
            // Casbin has this rule, so it must have found it, or another one.
            Some(number) if number % self.stride == 0 => is_expected,
            Some(_) => true,
        }
    }
}

/// Casbin's cost of a question: each rule for each name and effect, and for each a walk over roles.
fn cost_of(question: &RawQuestion<'_>, rules: &Rules) -> usize {
    // A name without an edge is searched among all names.
    let search = if question.names.contains(&STRANGER) {
        rules.policies.len() * question.names.len() * 2 * (rules.edges.len() / 50)
    } else {
        0
    };
    cost_of_names(question.names.len(), rules) + search
}

/// The same for this many names, each with an edge.
fn cost_of_names(names: usize, rules: &Rules) -> usize {
    let walk = rules.edges.len() / 500;
    rules.policies.len() * names * 2 * (1 + walk)
}

/// Questions distributed over rules and subjects: those that a rule matches, and those that one just does not match.
fn questions<'a>(
    rules: &'a Rules,
    realms: &'a Realms,
    resources: &'a [String],
) -> impl Iterator<Item = RawQuestion<'a>> {
    let mut members: HashMap<&str, &str> = HashMap::new();
    for edge in &rules.edges {
        members.entry(&edge.role).or_insert(&edge.member);
    }
    let stride = (rules.policies.len() / (QUESTIONS_MAX / 4)).max(1);
    let chosen = rules.policies.iter().zip(resources).enumerate().step_by(stride);
    chosen.flat_map(move |(number, (rule, resource))| {
        let holder = rule.holder.as_ref();
        let realm = realm_of(rule, realms, number);
        let action = action_of(rule);
        let other_realm = realms
            .get((number + 1) % realms.len().max(1))
            .map_or(realm, |realm| realm.as_str());
        let someone = rules.edges.get((number * 7) % rules.edges.len().max(1));
        let ask = |realm, names, action| RawQuestion {
            realm,
            names,
            resource,
            action,
        };
        let member = members.get(holder).copied().unwrap_or(holder);
        let by_stranger = ask(realm, vec![STRANGER, holder], action);
        let by_someone = someone.map(|edge| ask(realm, vec![edge.member.as_ref(), holder], action));
        [
            ask(realm, vec![member], action),
            ask(other_realm, vec![holder], "read"),
            by_stranger,
        ]
        .into_iter()
        .chain(by_someone)
    })
}

/// A resource that the rule matches.
fn resource_of(rule: &PolicyRule) -> String {
    match &rule.object {
        Object::Exactly(resource) => resource.as_ref().to_owned(),
        Object::Prefix(prefix) => format!("{prefix}x"),
    }
}

fn realm_of<'a>(rule: &'a PolicyRule, realms: &'a Realms, number: usize) -> &'a str {
    match &rule.realm {
        Star::Only(realm) => realm,
        Star::Any => realms
            .get(number % realms.len().max(1))
            .map_or("*", |realm| realm.as_str()),
    }
}

fn action_of(rule: &PolicyRule) -> &str {
    match &rule.action {
        Star::Only(action) => action,
        Star::Any => "read",
    }
}
