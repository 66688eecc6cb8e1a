//! The decision of policy on one request.

use tessera_core::{
    AccessClaims, ClientName, PolicyRevision, RealmName, RoleName, SPANS, Scope, ScopeSet, Session, Subject,
};
use tessera_policy::{Explanation, Permission, Policy, Question, Stopped, Work};

use crate::error::CallNotAllowed;

/// The decision of the policy for one request.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) granted: ScopeSet,
    pub(crate) denied: Vec<(Scope, String)>,
    pub(crate) revision: PolicyRevision,
}

impl Grant {
    pub(crate) fn denied_scopes(&self) -> ScopeSet {
        self.denied.iter().map(|(scope, _)| scope.clone()).collect()
    }
}

/// The subject of a token, and the client that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer<'a> {
    pub(crate) realm: &'a RealmName,
    pub(crate) client: &'a ClientName,
    pub(crate) subject: &'a Subject,
    pub(crate) roles: &'a [RoleName],
}

impl<'a> Bearer<'a> {
    pub(crate) fn of_session(session: &'a Session) -> Self {
        Self {
            realm: &session.realm,
            client: &session.client,
            subject: &session.subject,
            roles: &session.roles,
        }
    }

    pub(crate) fn of_token(claims: &'a AccessClaims) -> Self {
        Self {
            realm: &claims.realm,
            client: &claims.client,
            subject: &claims.subject,
            roles: &claims.roles,
        }
    }

    /// Refuses a client that may not issue for this subject, or may not assert one of the roles.
    pub(crate) fn check(&self, policy: &Policy) -> Result<(), CallNotAllowed> {
        match self.missing(policy) {
            None => Ok(()),
            Some(permission) => Err(CallNotAllowed {
                required: permission.scope(),
                client: self.client.clone(),
                realm: self.realm.clone(),
            }),
        }
    }

    /// The permission that the client lacks to act for this bearer.
    fn missing(&self, policy: &Policy) -> Option<Permission> {
        let is_own = *self.subject == self.client.to_subject();
        let issue = (!is_own).then(|| Permission::IssueFor(self.subject.clone()));
        let assert = self.roles.iter().map(|role| Permission::Assert(role.clone()));
        issue
            .into_iter()
            .chain(assert)
            .find(|permission| !policy.permits(self.realm, self.client, permission))
    }

    /// Why [`grant`](Self::grant) grants or denies each scope. If the client may not act for this bearer, the scopes
    /// are not checked: the answer is only why it may not.
    pub(crate) fn explain(
        &self,
        policy: &Policy,
        asked: &ScopeSet,
        work: &Work,
    ) -> Result<Vec<Explanation>, Stopped> {
        if let Some(permission) = self.missing(policy) {
            let client = self.client.to_subject();
            return Ok(vec![policy.explain_permission(self.realm, &client, &permission)]);
        }
        let explained = asked.iter().map(|scope| {
            work.check()?;
            Ok(policy.explain(&Question {
                realm: self.realm,
                subject: self.subject,
                roles: self.roles,
                scope,
            }))
        });
        explained.collect()
    }

    /// The scopes out of `asked` that policy grants now. A client that may no longer act for this bearer is granted
    /// nothing.
    pub(crate) fn grant(&self, policy: &Policy, asked: &ScopeSet) -> Grant {
        let span = tracing::info_span!(
            target: SPANS,
            "policy decision",
            "tessera.scopes.asked" = asked.len(),
            "tessera.scopes.granted" = tracing::field::Empty,
        )
        .entered();
        let revision = *policy.revision();
        if let Err(refused) = self.check(policy) {
            let denied = asked
                .iter()
                .map(|scope| (scope.clone(), refused.to_string()))
                .collect();
            return Grant {
                granted: ScopeSet::default(),
                denied,
                revision,
            };
        }
        let decided = policy.grant(self.realm, self.subject, self.roles, asked);
        span.record("tessera.scopes.granted", decided.granted.len());
        Grant {
            granted: decided.granted,
            denied: decided.denied,
            revision,
        }
    }
}
