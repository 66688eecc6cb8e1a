//! The reasons for an answer: the deciding rule, the path to its holder, and the nearest misses.

use tessera_core::{PolicyRevision, RealmName, RoleName, Subject};

use crate::{
    explain::reach::Reach,
    permission::Permission,
    policy::{Policy, Question, ResolvedSubject, Target, Verdict},
    rule::RuleAt,
};

mod miss;
pub(crate) mod reach;
mod role_step;
mod trial;

pub use miss::{Miss, MissReason};
pub use role_step::{Given, RoleStep};

/// How many roles with their paths an explanation has.
const ROLES_MAX: usize = 100;
/// The note for a policy that Casbin itself serves.
const NOTE: &str = "casbin itself serves this model, and does not tell which rules nearly matched";

/// The answer to a question, with all its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The revision that answered.
    pub revision: PolicyRevision,
    /// The realm.
    pub realm: RealmName,
    /// The subject of the question.
    pub subject: Subject,
    /// The roles that counted, for this question, as if the subject had them.
    pub asserted: Vec<RoleName>,
    /// The requested scope, as `resource:action`.
    pub scope: String,
    /// The answer: the result of [`Policy::decide`].
    pub verdict: Verdict,
    /// The rule that decided: the first that denies, otherwise the first that allows.
    pub rule: Option<RuleAt>,
    /// The path from the subject to the holder of the deciding rule; empty if the rule names the subject.
    pub path: Vec<RoleStep>,
    /// The roles that the subject has in the realm, the nearest first, each with its shortest path; at most
    /// 100.
    pub roles: Vec<Vec<RoleStep>>,
    /// How many more roles the subject has.
    pub roles_left_out: usize,
    /// For a denial, the rules of which only one part does not match, nearest first; at most 5.
    pub misses: Vec<Miss>,
    /// What the explanation does not contain, and why.
    pub note: Option<String>,
}

impl Policy {
    /// Answers one question, with the reasons.
    ///
    /// It evaluates every rule: some milliseconds with 100,000 of them, while [`Policy::decide`] evaluates few.
    #[must_use]
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let asked = self.asked(question.realm, question.subject, question.roles);
        self.explain_target(&asked, self.target(question.scope))
    }

    /// Whether the authority itself does this for a subject, and why.
    #[must_use]
    pub fn explain_permission(
        &self,
        realm: &RealmName,
        subject: &Subject,
        permission: &Permission,
    ) -> Explanation {
        let (resource, action) = permission.parts();
        let target = Target {
            resource: &resource,
            action,
            exists: true,
        };
        self.explain_target(&self.asked(realm, subject, &[]), target)
    }

    fn explain_target(&self, asked: &ResolvedSubject<'_>, target: Target<'_>) -> Explanation {
        let decision = self.decision(asked, target);
        let asserted = asked.roles.iter().map(RoleName::as_str);
        let reach = Reach::new(
            &self.rules.edges,
            asked.realm.as_str(),
            asked.subject.as_str(),
            asserted,
        );
        let rule = decision.rule();
        Explanation {
            revision: *self.revision(),
            realm: asked.realm.clone(),
            subject: asked.subject.clone(),
            asserted: asked.roles.to_vec(),
            scope: format!("{}:{}", target.resource, target.action),
            verdict: self.verdict(asked, target, decision),
            rule: rule.and_then(|number| self.rules.at(number)),
            path: rule
                .and_then(|number| self.holder(number))
                .map(|holder| reach.path(holder))
                .unwrap_or_default(),
            roles: reach
                .roles()
                .iter()
                .take(ROLES_MAX)
                .map(|role| reach.path(role))
                .collect(),
            roles_left_out: reach.roles().len().saturating_sub(ROLES_MAX),
            misses: self.misses(asked, target, decision, &reach),
            note: (!self.is_compiled()).then(|| NOTE.to_owned()),
        }
    }

    /// The holder of a `p` rule, if the model has one.
    pub(crate) fn holder(&self, number: u32) -> Option<&str> {
        if let Some(served) = &self.served {
            let row = self.rules.rows.get(usize::try_from(number).ok()?)?;
            return served.holder(row);
        }
        self.rules.policy(number).map(|rule| rule.holder.as_ref())
    }
}

#[cfg(test)]
mod tests;
