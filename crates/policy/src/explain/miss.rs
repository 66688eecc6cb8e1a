//! The rules that would allow if one part were different.

use std::{cmp::Reverse, fmt};

use tessera_core::RealmName;

use super::{reach::Reach, trial::Trial};
use crate::{
    index::Decision,
    policy::{Policy, ResolvedSubject, Target},
    rule::{Effect, PolicyRule, RuleAt},
};

/// How many misses an explanation has.
const MISSES_MAX: usize = 5;

/// A rule that would allow if one part were different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The rule.
    pub rule: RuleAt,
    /// The part that does not match.
    pub reason: MissReason,
    /// A line for `policy.csv` that changes the answer to allowed; `None` if no single line does, or if the loader
    /// would refuse it.
    pub remedy: Option<String>,
}

/// Why a rule does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissReason {
    /// The rule is about another realm.
    OtherRealm {
        /// The realm of the rule.
        of_rule: String,
        /// The realm of the question.
        asked: RealmName,
    },
    /// The subject does not have the rule's role.
    RoleNotHad {
        /// The subject.
        subject: String,
        /// The role.
        role: String,
    },
    /// The rule is about another action.
    OtherAction {
        /// The action of the rule.
        of_rule: String,
        /// The action of the question.
        asked: String,
    },
    /// The rule is about another resource.
    OtherResource {
        /// The resource of the rule; it may end with `*`.
        of_rule: String,
        /// The resource of the question.
        asked: String,
    },
    /// The rule is about another subject.
    OtherSubject {
        /// The subject of the rule.
        of_rule: String,
        /// The subject of the question.
        asked: String,
    },
    /// The rule matches, but this one denies.
    Denied(RuleAt),
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRealm { of_rule, asked } => write!(f, "realm {of_rule} is not {asked}"),
            Self::RoleNotHad { subject, role } => write!(f, "{subject} does not have {role}"),
            Self::OtherAction { of_rule, asked } => write!(f, "action {of_rule} is not {asked}"),
            Self::OtherResource { of_rule, asked } => write!(f, "resource {of_rule} is not {asked}"),
            Self::OtherSubject { of_rule, asked } => write!(f, "subject {of_rule} is not {asked}"),
            Self::Denied(rule) => write!(f, "denied by {rule}"),
        }
    }
}

/// The parts of a rule, in the order in which a mistake in them is likely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Realm,
    Role,
    Action,
    Resource,
    Subject,
}

impl Policy {
    /// The nearest misses of a question that was answered by `decision`.
    pub(super) fn misses(
        &self,
        asked: &ResolvedSubject<'_>,
        target: Target<'_>,
        decision: Decision,
        reach: &Reach<'_>,
    ) -> Vec<Miss> {
        let is_known = target.exists && self.catalogue.has_realm(asked.realm);
        if decision.is_allowed() || !is_known || !self.is_compiled() {
            return Vec::new();
        }
        let question = Missed {
            policy: self,
            asked,
            target,
            reach,
        };
        match decision.deny.and_then(|number| self.rules.policy(number)) {
            Some(deny) => question.overruled(deny),
            None => question.nearest(),
        }
    }
}

/// A question that was denied.
struct Missed<'a> {
    policy: &'a Policy,
    asked: &'a ResolvedSubject<'a>,
    target: Target<'a>,
    reach: &'a Reach<'a>,
}

impl Missed<'_> {
    /// The rules that allow, if one denies.
    fn overruled(&self, deny: &PolicyRule) -> Vec<Miss> {
        let allowing = self
            .allowing()
            .filter(|rule| self.mismatches(rule).next().is_none());
        let overruled = |rule: &PolicyRule| Miss {
            rule: rule.at(),
            reason: MissReason::Denied(deny.at()),
            remedy: None,
        };
        allowing.take(MISSES_MAX).map(overruled).collect()
    }

    /// The rules of which one part does not match.
    fn nearest(&self) -> Vec<Miss> {
        let mut missed: Vec<(Part, Reverse<usize>, usize, &PolicyRule)> = Vec::new();
        for (number, rule) in self.allowing().enumerate() {
            let mut mismatches = self.mismatches(rule);
            if let (Some(part), None) = (mismatches.next(), mismatches.next()) {
                missed.push((part, Reverse(self.likeness(rule)), number, rule));
            }
        }
        missed.sort_by_key(|(part, likeness, number, _)| (*part, *likeness, *number));
        missed.truncate(MISSES_MAX);
        missed
            .into_iter()
            .map(|(part, _, _, rule)| self.miss(part, rule))
            .collect()
    }

    fn allowing(&self) -> impl Iterator<Item = &PolicyRule> {
        let policies = self.policy.rules.policies.iter();
        policies.filter(|rule| rule.effect == Effect::Allow)
    }

    /// The parts of a rule that do not match the question.
    fn mismatches(&self, rule: &PolicyRule) -> impl Iterator<Item = Part> {
        let holder = if rule.holder.starts_with("role:") {
            Part::Role
        } else {
            Part::Subject
        };
        // The cheap comparisons first: the second mismatch ends the check of a rule.
        let parts = [
            (Part::Action, rule.action.admits(self.target.action)),
            (Part::Realm, rule.realm.admits(self.asked.realm.as_str())),
            (Part::Resource, rule.object.admits(self.target.resource)),
            (holder, self.reach.has(&rule.holder)),
        ];
        parts
            .into_iter()
            .filter(|(_, matches)| !matches)
            .map(|(part, _)| part)
    }

    /// How much of the resource is equal to the rule's.
    fn likeness(&self, rule: &PolicyRule) -> usize {
        let text = rule.object.to_text();
        let pairs = text.bytes().zip(self.target.resource.bytes());
        pairs.take_while(|(one, other)| one == other).count()
    }

    fn miss(&self, part: Part, rule: &PolicyRule) -> Miss {
        let line = self.changed(part, rule);
        let is_remedy = Trial::new(self.policy, &line).is_some_and(|trial| {
            trial.is_loaded() && trial.is_allowed(&self.asked.names(), self.asked.realm, self.target)
        });
        Miss {
            rule: rule.at(),
            reason: self.reason(part, rule),
            remedy: is_remedy.then_some(line),
        }
    }

    fn reason(&self, part: Part, rule: &PolicyRule) -> MissReason {
        let subject = self.asked.subject.to_string();
        let holder = rule.holder.as_ref().to_owned();
        match part {
            Part::Realm => MissReason::OtherRealm {
                of_rule: rule.realm.as_str().to_owned(),
                asked: self.asked.realm.clone(),
            },
            Part::Role => MissReason::RoleNotHad {
                subject,
                role: holder,
            },
            Part::Subject => MissReason::OtherSubject {
                of_rule: holder,
                asked: subject,
            },
            Part::Action => MissReason::OtherAction {
                of_rule: rule.action.as_str().to_owned(),
                asked: self.target.action.to_owned(),
            },
            Part::Resource => MissReason::OtherResource {
                of_rule: rule.object.to_text(),
                asked: self.target.resource.to_owned(),
            },
        }
    }

    /// A line that allows what was asked: a `g` rule for the missing role, otherwise a `p` rule for exactly this scope.
    fn changed(&self, part: Part, rule: &PolicyRule) -> String {
        let (subject, realm) = (self.asked.subject.to_string(), self.asked.realm);
        let Target { resource, action, .. } = self.target;
        let holder = match part {
            Part::Role => return format!("g, {subject}, {}, {realm}", rule.holder),
            Part::Subject => subject.as_str(),
            Part::Realm | Part::Action | Part::Resource => rule.holder.as_ref(),
        };
        format!("p, {holder}, {realm}, {resource}, {action}, allow")
    }
}
