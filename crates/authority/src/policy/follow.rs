//! Following the policy in force: at the start, and when another node put it in force.

use tessera_core::{PolicyRevision, audit::Actor};
use tessera_policy::Work;
use tessera_store::{Reads, StoreError};

use crate::{
    error::Unavailable,
    heavy::OWN_BUDGET,
    policy::{
        error::ApplyError,
        files::{from_memory, load},
        policies::Policies,
    },
};

impl Policies {
    /// Reconciles live sessions with a policy that was changed while the authority was stopped, or whose
    /// application a crash cut off.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        loop {
            let in_force = self.in_force().await?;
            let is_done = self.has_followed_policy(in_force.as_ref()).await?
                || self
                    .put_in_force(self.shared.policy(), &Actor::Operator, in_force.as_ref())
                    .await?;
            // Otherwise another node was first.
            if is_done {
                break;
            }
        }
        if self.policy_reconciled().await?.as_ref() != Some(self.shared.policy().revision()) {
            let impact = self.reconcile(&Actor::Operator).await?.total();
            if impact.narrowed + impact.ended > 0 {
                tracing::info!(
                    narrowed = impact.narrowed,
                    ended = impact.ended,
                    "live sessions are updated to the policy"
                );
            }
        }
        self.history.reconciled();
        Ok(())
    }

    /// The policy in force, as the store has it.
    async fn in_force(&self) -> Result<Option<PolicyRevision>, StoreError> {
        let state = self.shared.store.read(Reads::default()).await?;
        Ok(state.policy_in_force().copied())
    }

    /// Whether a policy is in force by which other nodes decide too, and which this node follows: its directory
    /// proposes only what was not in force before.
    async fn has_followed_policy(&self, in_force: Option<&PolicyRevision>) -> Result<bool, StoreError> {
        let Some(in_force) = in_force.filter(|_| self.shared.is_one_of_several()) else {
            return Ok(false);
        };
        let own = *self.shared.policy().revision();
        if own == *in_force {
            return Ok(true);
        }
        if self.shared.store.policy_files(&own).await?.is_none() {
            return Ok(false);
        }
        tracing::warn!(
            directory = %own,
            %in_force,
            "the policy directory has a policy that was replaced: the one in force stays. `tessera policy apply` puts the directory's in force"
        );
        let followed = self.follow_policy(in_force).await;
        followed.map(|()| true).map_err(|_| StoreError::Failed {
            detail: format!("the policy in force, {in_force}, can't be used here: the log says why"),
        })
    }

    /// Decides by the policy that is in force, no matter which node applied it.
    pub(crate) async fn follow_policy(&self, revision: &PolicyRevision) -> Result<(), Unavailable> {
        if self.shared.policy.load().revision() == revision {
            return Ok(());
        }
        let files = self.shared.store.policy_files(revision).await?;
        let loaded = match files {
            Some(files) => load(move || from_memory(&files, &Work::within(OWN_BUDGET))).await,
            // It was too large to be kept.
            None => self.read_directory().await,
        };
        let followed = match loaded {
            Ok(policy) if policy.revision() == revision => self.check_realms(&policy).map(|()| policy),
            Ok(_) => Err(ApplyError::NoDirectory),
            Err(error) => Err(error),
        };
        match followed {
            Ok(policy) => {
                self.shared.swap_policy(policy);
                self.history.followed(self.shared.now());
                tracing::info!(policy = %revision, "follows the policy that another node put in force");
                Ok(())
            }
            Err(error) => {
                let before = self.unusable.lock().replace(*revision);
                if before.as_ref() != Some(revision) {
                    tracing::error!(
                        policy = %revision,
                        error = error.summary(),
                        "the policy in force can't be used here: this node answers nothing until it can, or another is applied"
                    );
                }
                Err(Unavailable::PolicyChanging)
            }
        }
    }
}
