//! The policy in force, as operators and clients see it.

use tessera_policy::Permission;

use crate::{
    error::CallNotAllowed,
    policy::{history::PolicyStatus, policies::Policies},
    principal::Principal,
};

impl Policies {
    /// How many pieces of work for Plan, Check and Explain run, including those whose callers have left.
    #[must_use]
    pub fn policy_work_running(&self) -> usize {
        self.heavy.running()
    }

    /// The policy in force, and the last attempt to replace it.
    #[must_use]
    pub fn policy_status(&self) -> PolicyStatus {
        self.history.status(&self.shared.policy(), self.directory.clone())
    }

    /// The same for a client. One policy is in force in all realms, so every realm sees which one, and whether a change
    /// was refused. Only a client that acts for all realms sees the content and the location of the files.
    ///
    /// # Errors
    /// Refuses if policy does not permit it.
    pub fn policy_status_for(&self, principal: &Principal) -> Result<PolicyStatus, CallNotAllowed> {
        self.shared.require(principal, &Permission::ReadPolicies)?;
        let mut status = self.policy_status();
        if !self.shared.speaks_for_all_realms(principal) {
            status.directory = None;
            status.last_attempt.outcome = status.last_attempt.outcome.without_content();
        }
        Ok(status)
    }
}
