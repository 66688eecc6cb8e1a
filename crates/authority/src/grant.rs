//! What policy decides for one request.

use tessera_core::{PolicyRevision, RoleName, Scope, ScopeSet, Subject};
use tessera_policy::{Permission, Policy};

use crate::{Principal, error::CallNotAllowed};

/// The decision of the policy for one request.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) granted: ScopeSet,
    pub(crate) denied: Vec<(Scope, String)>,
    pub(crate) revision: PolicyRevision,
}

/// Whom a token is for.
pub(crate) struct Bearer<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) roles: &'a [RoleName],
}

impl Bearer<'_> {
    /// Refuses a principal that may not issue for this subject, or may not assert one of the roles.
    pub(crate) fn check(&self, policy: &Policy, principal: &Principal) -> Result<(), CallNotAllowed> {
        let permits = |permission: Permission| {
            if policy.permits(principal.realm_name(), principal.client(), &permission) {
                Ok(())
            } else {
                Err(CallNotAllowed {
                    required: permission.scope(),
                })
            }
        };
        if *self.subject != principal.client().to_subject() {
            permits(Permission::IssueFor(self.subject.clone()))?;
        }
        self.roles
            .iter()
            .try_for_each(|role| permits(Permission::Assert(role.clone())))
    }

    /// The scopes out of `asked` that policy grants now. A principal that may no longer speak for this
    /// bearer is granted nothing.
    pub(crate) fn grant(&self, policy: &Policy, principal: &Principal, asked: &ScopeSet) -> Grant {
        let revision = policy.revision().clone();
        if let Err(refused) = self.check(policy, principal) {
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
        let decided = policy.grant(principal.realm_name(), self.subject, self.roles, asked);
        Grant {
            granted: decided.granted,
            denied: decided.denied,
            revision,
        }
    }
}
