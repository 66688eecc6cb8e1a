//! The answers of a policy with one more rule.

use std::collections::HashSet;

use tessera_core::RealmName;

use crate::{
    oracle::RawQuestion,
    policy::{Policy, Target, load::each},
    roles::CHAIN_MAX,
    rule::Rules,
    rule_file::{RULES_MAX, read_line},
};

/// A policy with one more rule, which gives a role to a subject or allows something.
pub(super) struct Trial<'a> {
    policy: &'a Policy,
    added: Rules,
}

impl<'a> Trial<'a> {
    /// Adds a line; `None` if the loader would refuse it.
    pub(super) fn new(policy: &'a Policy, line: &str) -> Option<Self> {
        let added = read_line(&policy.catalogue, line)?;
        Some(Self { policy, added })
    }

    /// Whether the policy with the rule would be loaded: no chain gets too long, and no test fails.
    pub(super) fn is_loaded(&self) -> bool {
        self.policy.rule_count() < RULES_MAX
            && !self.is_chain_too_long()
            && each(&self.policy.cases).all(|(case, expectation)| {
                self.answers(&case.question(expectation)) == expectation.is_allowed
            })
    }

    /// Whether the policy with the rule would allow it.
    pub(super) fn is_allowed(&self, names: &[&str], realm: &RealmName, target: Target<'_>) -> bool {
        self.answers(&RawQuestion {
            realm: realm.as_str(),
            names: names.to_vec(),
            resource: target.resource,
            action: target.action,
        })
    }

    fn answers(&self, question: &RawQuestion<'_>) -> bool {
        let RawQuestion {
            realm,
            resource,
            action,
            ..
        } = *question;
        // No other name gets the role: only roles have members, and an edge is only ever added to a subject.
        let given = self.added.edges.iter().filter(|edge| edge.realm.admits(realm));
        let given = given.filter(|edge| question.names.contains(&edge.member.as_ref()));
        let names: Vec<&str> = question
            .names
            .iter()
            .copied()
            .chain(given.map(|edge| edge.role.as_ref()))
            .collect();
        let holders = self.policy.index.holders(realm, names.iter().copied());
        let is_holder =
            |name: &str| names.contains(&name) || self.policy.index.names(&holders).any(|had| had == name);
        let found = self.policy.index.decide(&holders, resource, action);
        let is_matched = self.added.policies.iter().any(|rule| {
            rule.realm.admits(realm)
                && rule.object.admits(resource)
                && rule.action.admits(action)
                && is_holder(&rule.holder)
        });
        found.deny.is_none() && (found.allow.is_some() || is_matched)
    }

    /// Whether the longest chain that begins with the added edge is too long. It can't create a cycle, as a subject has
    /// no members.
    fn is_chain_too_long(&self) -> bool {
        self.added.edges.iter().any(|added| {
            let mut members: HashSet<&str> = HashSet::from([added.role.as_ref()]);
            let mut length = 1;
            while length <= CHAIN_MAX && !members.is_empty() {
                let edges = self.policy.rules.edges.iter();
                let leaving = edges.filter(|edge| {
                    members.contains(edge.member.as_ref()) && edge.realm.admits(added.realm.as_str())
                });
                let next: HashSet<&str> = leaving.map(|edge| edge.role.as_ref()).collect();
                length += usize::from(!next.is_empty());
                members = next;
            }
            length > CHAIN_MAX
        })
    }
}
