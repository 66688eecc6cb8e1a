//! One of two policies, in one realm.

use std::collections::{HashMap, HashSet};

use tessera_core::RealmName;

use super::scopes::Template;
use crate::{
    index::Decision,
    oracle::RawQuestion,
    policy::Policy,
    roles::RoleGraph,
    rule::{Effect, Object, PolicyRule, RuleAt, Star},
};

/// The effect of a rule on its holder in a realm.
pub(super) type Meaning<'a> = (&'a Object, &'a Star, Effect);

/// A policy in one realm.
pub(super) struct Side<'a> {
    policy: &'a Policy,
    realm: &'a RealmName,
    closures: HashMap<&'a str, Vec<&'a str>>,
    rules: HashMap<&'a str, Vec<&'a PolicyRule>>,
}

/// Every name in the rules of a policy.
pub(super) fn holders(policy: &Policy) -> impl Iterator<Item = &str> {
    let count = u32::try_from(policy.rules.count()).unwrap_or(u32::MAX);
    let policies = (0..count).filter_map(|number| policy.holder(number));
    let edges = policy.rules.edges.iter();
    policies.chain(edges.flat_map(|edge| [edge.member.as_ref(), edge.role.as_ref()]))
}

impl<'a> Side<'a> {
    pub(super) fn new(policy: &'a Policy, realm: &'a RealmName) -> Self {
        let mut side = Self {
            policy,
            realm,
            closures: HashMap::new(),
            rules: HashMap::new(),
        };
        if side.has_realm() {
            side.closures = RoleGraph::new(&policy.rules.edges, realm.as_str()).closures();
            let rules = policy.rules.policies.iter();
            for rule in rules.filter(|rule| rule.realm.admits(realm.as_str())) {
                side.rules.entry(&rule.holder).or_default().push(rule);
            }
        }
        side
    }

    pub(super) fn has_realm(&self) -> bool {
        self.policy.catalogue.has_realm(self.realm)
    }

    /// The names that have rules directly.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.rules.keys().copied()
    }

    /// The holder and its roles, only those that have rules, in order.
    pub(super) fn names_with_rules(&self, holder: &'a str) -> Vec<&'a str> {
        let only_itself = [holder];
        let closure = self
            .closures
            .get(holder)
            .map_or(only_itself.as_slice(), Vec::as_slice);
        let mut names: Vec<&str> = closure
            .iter()
            .copied()
            .filter(|name| self.rules.contains_key(name))
            .collect();
        names.sort_unstable();
        names
    }

    /// The combined effects of the rules of these names.
    pub(super) fn meanings(&self, names: &[&str]) -> HashSet<Meaning<'a>> {
        let rules = names.iter().filter_map(|name| self.rules.get(name)).flatten();
        rules
            .map(|rule| (&rule.object, &rule.action, rule.effect))
            .collect()
    }

    pub(super) fn decide(&self, holder: &str, template: &Template, resource: &str) -> Decision {
        if !self.has_realm() || !template.exists(&self.policy.catalogue, resource) {
            return Decision::NOTHING;
        }
        self.policy.answer_raw(&RawQuestion {
            realm: self.realm.as_str(),
            names: vec![holder],
            resource,
            action: template.action(),
        })
    }

    pub(super) fn rule(&self, number: u32) -> Option<RuleAt> {
        self.policy.rules.at(number)
    }
}
