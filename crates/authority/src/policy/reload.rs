//! Reload: reading the policy directory again, and the outcome.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tessera_core::{PolicyRevision, audit::Actor};
use tessera_policy::{Permission, Policy, Work};
use tessera_store::StoreError;

use crate::{
    error::CallNotAllowed,
    heavy::{Entered, OWN_BUDGET},
    policy::{
        applied::Applied,
        change::{Change, Trigger},
        error::ApplyError,
        files::load,
        policies::Policies,
    },
    principal::Principal,
    turns::Turn,
};

/// How many findings of one change are logged: `tessera policy check` shows all of them.
const FINDINGS_LOGGED_MAX: usize = 20;

impl Policies {
    /// The directory that the policy is read from; `None`: the policy is built in.
    #[must_use]
    pub fn policy_directory(&self) -> Option<&PathBuf> {
        self.directory.as_ref()
    }

    /// Reads the policy directory and puts its policy in force. On any failure the policy before stays, and the status,
    /// the log and the metrics say why.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn reload(self: &Arc<Self>, trigger: Trigger) -> Result<Applied, ApplyError> {
        self.change_policy(trigger, Actor::Operator, Change::Any, None)
            .await
    }

    /// The same for a client.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn reload_for(self: &Arc<Self>, principal: &Principal) -> Result<Applied, ApplyError> {
        self.may_apply(principal)?;
        // Nothing is attempted, so nothing is recorded as refused.
        if self.directory.is_none() {
            return Err(ApplyError::NoDirectory);
        }
        let turn = self.heavy.turn(principal).await?;
        self.change_policy(Trigger::Call, principal.actor(), Change::Any, Some(turn))
            .await
    }

    /// One change at a time, and each is recorded. A caller that leaves while it waits makes no change; a change that
    /// has begun runs to its end, since it must not be half made.
    pub(crate) async fn change_policy(
        self: &Arc<Self>,
        trigger: Trigger,
        actor: Actor,
        change: Change,
        turn: Option<Turn>,
    ) -> Result<Applied, ApplyError> {
        let policies = Arc::clone(self);
        let alone = Arc::clone(&self.changes).lock_owned().await;
        let changed = tokio::spawn(async move {
            let _held = (alone, turn);
            let before = policies.shared.policy();
            let result = policies.make(trigger, &change, &actor).await;
            let is_another = !Arc::ptr_eq(&before, &policies.shared.policy());
            let now = policies.shared.clock.now();
            policies.history.note(now, trigger, is_another, &result);
            if let Err(error) = &result {
                policies.log_refusal(trigger, error);
            }
            result
        });
        changed.await.unwrap_or(Err(ApplyError::Panicked))
    }

    fn log_refusal(&self, trigger: Trigger, error: &ApplyError) {
        let findings = error.diagnostics();
        tracing::error!(
            trigger = trigger.as_str(),
            in_force = %self.shared.policy().revision(),
            findings = findings.len(),
            error = error.summary(),
            "a change of policy failed"
        );
        for finding in findings.iter().take(FINDINGS_LOGGED_MAX) {
            tracing::error!(
                code = finding.code,
                place = format!("{}:{}:{}", finding.file, finding.line, finding.column),
                problem = finding.message,
                help = finding.help,
                "found in the policy"
            );
        }
    }

    async fn make(&self, trigger: Trigger, change: &Change, actor: &Actor) -> Result<Applied, ApplyError> {
        // The policy that another node put in force is the one that this change replaces.
        self.shared.current().await?;
        let in_force = *self.shared.policy().revision();
        let policy = self.read_directory().await?;
        if trigger == Trigger::Change && self.was_replaced(&policy, &in_force).await? {
            tracing::warn!(
                directory = %policy.revision(),
                %in_force,
                "the policy directory has a policy that was replaced, and other nodes may have a later one: the one in force stays. `tessera policy apply` puts the directory's in force"
            );
            return Ok(Applied {
                previous: in_force,
                policy: in_force,
                impact: BTreeMap::new(),
            });
        }
        if let Change::Planned { plan, sessions_max } = change {
            plan.check(&in_force, policy.revision())?;
            if let Some(max) = *sessions_max {
                let impact = self.preview(&policy, None).await?.total();
                let touched = impact.narrowed + impact.ended;
                if touched > max {
                    return Err(ApplyError::TooManySessions { touched, max });
                }
            }
        }
        self.apply(policy, actor, in_force).await
    }

    /// Whether a policy was in force before and is not now, if several nodes each have a directory: files that reach
    /// one node later than another must not put a replaced policy in force again.
    async fn was_replaced(&self, policy: &Policy, in_force: &PolicyRevision) -> Result<bool, StoreError> {
        if !self.shared.is_one_of_several() || policy.revision() == in_force {
            return Ok(false);
        }
        Ok(self.shared.store.policy_files(policy.revision()).await?.is_some())
    }

    pub(crate) async fn read_directory(&self) -> Result<Arc<Policy>, ApplyError> {
        let directory = self.directory.clone().ok_or(ApplyError::NoDirectory)?;
        load(move || Policy::load_within(&directory, &Work::within(OWN_BUDGET))).await
    }

    /// The same for a client, which may not see the content of the files.
    pub(crate) async fn read_directory_for(
        &self,
        principal: &Principal,
        entered: &Entered,
    ) -> Result<Policy, ApplyError> {
        let directory = self.directory.clone().ok_or(ApplyError::NoDirectory)?;
        let read = entered
            .run(move |work| Policy::load_within(&directory, work))
            .await?;
        let read = read.map_err(ApplyError::from);
        if self.shared.speaks_for_all_realms(principal) {
            return read;
        }
        read.map_err(ApplyError::without_content)
    }

    /// A change of policy applies to every realm.
    pub(crate) fn may_apply(&self, principal: &Principal) -> Result<(), CallNotAllowed> {
        self.shared.require(principal, &Permission::ApplyPolicies)?;
        if !self.shared.speaks_for_all_realms(principal) {
            let required = format!("{} in a production realm", Permission::ApplyPolicies.scope());
            return Err(principal.not_allowed(required));
        }
        Ok(())
    }
}
