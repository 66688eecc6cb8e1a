//! One revision of a policy, and its answers.

use std::{cell::OnceCell, fmt};

use tessera_core::{ClientName, PolicyRevision, RealmName, RoleName, Scope, ScopeSet, Subject};

use crate::{
    catalogue::Catalogue,
    index::{Decision, Holders, Index},
    oracle::RawQuestion,
    permission::Permission,
    routes::{Routes, case::CallCase},
    rule::{Object, Rules},
    served::{AskingFor, Served},
    sources::Sources,
    suite::Case,
    work::{Stopped, Work},
};

/// One immutable, checked revision of a policy.
///
/// Every answer comes from this one revision; share it behind an `Arc`, and replace it as a whole.
pub struct Policy {
    pub(super) sources: Sources,
    pub(crate) revision: PolicyRevision,
    pub(crate) catalogue: Catalogue,
    pub(crate) rules: Rules,
    /// Has only roles if Casbin itself answers.
    pub(crate) index: Index,
    pub(crate) served: Option<Served>,
    pub(crate) cases: Vec<Case>,
    pub(crate) calls: Vec<CallCase>,
    pub(super) routes: Option<Routes>,
}

/// May `subject`, with `roles` asserted for it, have `scope` in `realm`?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The realm.
    pub realm: &'a RealmName,
    /// The subject of the token.
    pub subject: &'a Subject,
    /// The roles that count, for this question, as if the subject had them.
    pub roles: &'a [RoleName],
    /// The requested scope.
    pub scope: &'a Scope,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// A rule allows it, and none denies it.
    Allowed,
    /// Anything else.
    Denied {
        /// Why, in one readable line.
        reason: String,
    },
}

/// The answer to many questions about one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    /// The scopes that are allowed.
    pub granted: ScopeSet,
    /// The others, each with the reason in one readable line.
    pub denied: Vec<(Scope, String)>,
}

impl Policy {
    /// The files that the policy was made from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The digest of all files that belong to the policy: its name in tokens, events and logs.
    #[must_use]
    pub fn revision(&self) -> &PolicyRevision {
        &self.revision
    }

    /// Every name that exists.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What requests to services behind proxies need; `None` if the policy has no `routes.toml`.
    #[must_use]
    pub fn routes(&self) -> Option<&Routes> {
        self.routes.as_ref()
    }

    /// How many rules the policy has, `p` and `g` together.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.count()
    }

    /// Whether decisions come from the compiled index. With another model they come from Casbin itself, which evaluates
    /// every rule for each decision: some milliseconds with 1,000 rules.
    #[must_use]
    pub fn is_compiled(&self) -> bool {
        self.served.is_none()
    }

    /// Answers one question.
    pub fn decide(&self, question: &Question<'_>) -> Verdict {
        let Question {
            realm,
            subject,
            roles,
            scope,
        } = *question;
        let asked = self.asked(realm, subject, roles);
        self.answer(&asked, scope)
    }

    /// Answers for many scopes of one subject, whose roles are resolved once.
    pub fn grant(
        &self,
        realm: &RealmName,
        subject: &Subject,
        roles: &[RoleName],
        scopes: &ScopeSet,
    ) -> Grant {
        let grant = self.grant_within(realm, subject, roles, scopes, &Work::unbounded());
        // This work can't be stopped; if it were, nothing would be granted.
        grant.unwrap_or_default()
    }

    /// The same as work that can be stopped: with another model each scope takes milliseconds.
    ///
    /// # Errors
    /// Fails if it is stopped.
    pub fn grant_within(
        &self,
        realm: &RealmName,
        subject: &Subject,
        roles: &[RoleName],
        scopes: &ScopeSet,
        work: &Work,
    ) -> Result<Grant, Stopped> {
        let _asking = AskingFor::new(work);
        let asked = self.asked(realm, subject, roles);
        let mut granted = Vec::with_capacity(scopes.len());
        let mut denied = Vec::new();
        for scope in scopes.iter() {
            match self.answer(&asked, scope) {
                Verdict::Allowed => granted.push(scope.clone()),
                Verdict::Denied { reason } => denied.push((scope.clone(), reason)),
            }
            // The answer may be incomplete if the work was stopped.
            work.check()?;
        }
        Ok(Grant {
            granted: granted.into_iter().collect(),
            denied,
        })
    }

    /// Whether the authority itself does this for a client.
    #[must_use]
    pub fn permits(&self, realm: &RealmName, client: &ClientName, permission: &Permission) -> bool {
        if !self.catalogue.has_realm(realm) {
            return false;
        }
        let (resource, action) = permission.parts();
        self.answer_raw(&RawQuestion {
            realm: realm.as_str(),
            names: vec![client.as_str()],
            resource: &resource,
            action,
        })
        .is_allowed()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("revision", &self.revision)
            .field("rules", &self.rule_count())
            .field("is_compiled", &self.is_compiled())
            .finish_non_exhaustive()
    }
}

// === answers ===

/// A subject with its resolved roles, so that they are resolved once for many scopes.
pub(crate) struct ResolvedSubject<'a> {
    pub(crate) realm: &'a RealmName,
    pub(crate) subject: &'a Subject,
    pub(crate) roles: &'a [RoleName],
    holders: Holders,
    /// All roles in words, for reasons: each of many denied scopes names them.
    described: OnceCell<String>,
}

impl<'a> ResolvedSubject<'a> {
    /// The subject and its asserted roles.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        let roles = self.roles.iter().map(RoleName::as_str);
        std::iter::once(self.subject.as_str()).chain(roles).collect()
    }
}

/// The requested scope: one of the catalogue, or one of the authority's own.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) resource: &'a str,
    pub(crate) action: &'a str,
    /// Casbin does not know the catalogue: `p, …, *, …` would match names that do not exist.
    pub(crate) exists: bool,
}

/// How many roles a reason names.
const ROLES_NAMED_MAX: usize = 8;

impl Policy {
    pub(crate) fn asked<'a>(
        &self,
        realm: &'a RealmName,
        subject: &'a Subject,
        roles: &'a [RoleName],
    ) -> ResolvedSubject<'a> {
        let names = std::iter::once(subject.as_str()).chain(roles.iter().map(RoleName::as_str));
        ResolvedSubject {
            realm,
            subject,
            roles,
            holders: self.index.holders(realm.as_str(), names),
            described: OnceCell::new(),
        }
    }

    pub(crate) fn target<'a>(&self, scope: &'a Scope) -> Target<'a> {
        Target {
            resource: scope.resource(),
            action: scope.action(),
            exists: self.catalogue.has_scope(scope),
        }
    }

    /// The rules that decide; `Decision::NOTHING` if the catalogue lacks a name.
    pub(crate) fn decision(&self, asked: &ResolvedSubject<'_>, target: Target<'_>) -> Decision {
        let Target {
            resource,
            action,
            exists,
        } = target;
        if !exists || !self.catalogue.has_realm(asked.realm) {
            return Decision::NOTHING;
        }
        match &self.served {
            None => self.index.decide(&asked.holders, resource, action),
            Some(served) => served.decide(asked.realm.as_str(), &asked.names(), resource, action),
        }
    }

    /// The verdict of a decision.
    pub(crate) fn verdict(
        &self,
        asked: &ResolvedSubject<'_>,
        target: Target<'_>,
        decision: Decision,
    ) -> Verdict {
        if decision.is_allowed() {
            return Verdict::Allowed;
        }
        let Target {
            resource,
            action,
            exists,
        } = target;
        let reason = if !self.catalogue.has_realm(asked.realm) {
            format!("the catalogue has no realm {}", asked.realm)
        } else if !exists {
            format!("the catalogue has no scope {resource}:{action}")
        } else if let Some(number) = decision.failed {
            self.failure(number)
        } else if let Some(number) = decision.deny {
            self.denial(number)
        } else {
            self.absence(asked, target)
        };
        Verdict::Denied { reason }
    }

    fn answer(&self, asked: &ResolvedSubject<'_>, scope: &Scope) -> Verdict {
        let target = self.target(scope);
        self.verdict(asked, target, self.decision(asked, target))
    }

    /// The rules that decide, whether or not the catalogue has the names.
    pub(crate) fn answer_raw(&self, question: &RawQuestion<'_>) -> Decision {
        let RawQuestion {
            realm,
            names,
            resource,
            action,
        } = question;
        match &self.served {
            None => self.index.answer(question),
            Some(served) => served.decide(realm, names, resource, action),
        }
    }

    /// The resources of the `p` rules.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Object> {
        let objects = self.rules.policies.iter().map(|rule| rule.object.clone());
        let rows = self.rules.rows.iter();
        objects.chain(rows.filter_map(|row| self.served.as_ref()?.object(row)))
    }

    /// The reason for a denial because Casbin could not answer.
    pub(crate) fn failure(&self, number: u32) -> String {
        self.rules.place(number).map_or_else(
            || "casbin failed".to_owned(),
            |place| format!("casbin failed at {place}"),
        )
    }

    fn denial(&self, number: u32) -> String {
        self.rules.place(number).map_or_else(
            || "denied by a rule".to_owned(),
            |place| format!("denied by {place}"),
        )
    }

    fn absence(&self, asked: &ResolvedSubject<'_>, target: Target<'_>) -> String {
        let Target { resource, action, .. } = target;
        let roles = asked.described.get_or_init(|| self.describe_roles(asked));
        format!(
            "no rule allows {resource}:{action} to {} ({roles})",
            asked.subject
        )
    }

    fn describe_roles(&self, asked: &ResolvedSubject<'_>) -> String {
        let mut roles: Vec<&str> = asked.roles.iter().map(RoleName::as_str).collect();
        roles.extend(
            self.index
                .names(&asked.holders)
                .filter(|name| name.starts_with("role:")),
        );
        roles.sort_unstable();
        roles.dedup();
        let more = roles.len().saturating_sub(ROLES_NAMED_MAX);
        roles.truncate(ROLES_NAMED_MAX);
        match (roles.join(", "), more) {
            (names, _) if names.is_empty() => "no roles".to_owned(),
            (names, 0) => format!("roles: {names}"),
            (names, more) => format!("roles: {names} and {more} more"),
        }
    }
}
