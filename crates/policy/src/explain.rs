//! Why a question is answered as it is: the deciding rule, the path to its holder, and the nearest misses.

use tessera_core::{PolicyRevision, RealmName, RoleName, Subject};

use crate::{
    explain::reach::Reach,
    permission::Permission,
    policy::{Asked, Policy, Question, Target, Verdict},
    rule::RuleAt,
};

mod miss;
pub(crate) mod reach;
mod trial;

pub use miss::{Miss, MissReason};

/// How many roles an explanation has with their paths.
const ROLES_MAX: usize = 100;
/// What is missing where Casbin itself answers.
const NOTE: &str = "casbin itself serves this model, and does not tell which rules nearly matched";

/// The answer to a question with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The revision that answered.
    pub revision: PolicyRevision,
    /// The realm.
    pub realm: RealmName,
    /// Whom the question is about.
    pub subject: Subject,
    /// The roles that counted, for this question, as if the subject had them.
    pub asserted: Vec<RoleName>,
    /// What was asked for, as `resource:action`.
    pub scope: String,
    /// The answer: what [`Policy::decide`] says.
    pub verdict: Verdict,
    /// The rule that decided: the first that denies, or else the first that allows.
    pub rule: Option<RuleAt>,
    /// How the subject comes to the holder of the deciding rule; empty where the rule names the subject.
    pub path: Vec<RoleStep>,
    /// The roles that the subject has in the realm, the nearest first, each with its shortest path; at most
    /// 100.
    pub roles: Vec<Vec<RoleStep>>,
    /// How many more roles the subject has.
    pub roles_left_out: usize,
    /// For a denial, the rules that would have allowed but for one thing, nearest first; at most 5.
    pub misses: Vec<Miss>,
    /// What the explanation can't tell, and why.
    pub note: Option<String>,
}

/// A step from a name to a role that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStep {
    /// The role.
    pub role: RoleName,
    /// Why whoever stands before has it.
    pub given: Given,
}

/// Why a name has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It was asserted with the question.
    Asserted,
    /// A `g` rule gives it.
    Rule(RuleAt),
}

impl Policy {
    /// Answers one question, and says why.
    ///
    /// Looks at every rule: some milliseconds with 100,000 of them, while [`Policy::decide`] looks at few.
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

    fn explain_target(&self, asked: &Asked<'_>, target: Target<'_>) -> Explanation {
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
            revision: self.revision().clone(),
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

    /// The holder of a `p` rule, where the model tells.
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
