//! Plan: what a change of policy would do, before it is made.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tessera_core::{PolicyRevision, RealmName};
use tessera_policy::{Diff, LoadError, Permission, Policy, Sources, Stopped, Work, diff_within};

use crate::{
    Authority, Principal,
    apply::Applied,
    error::{ApplyError, Unavailable},
    reconcile::SessionImpact,
    reload::{Change, Trigger},
};

/// From which policy to which: `<revision>..<revision>`, as git writes a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanId {
    /// The policy that is in force.
    pub from: PolicyRevision,
    /// The policy that would be.
    pub to: PolicyRevision,
}

impl PlanId {
    /// Parses a plan.
    ///
    /// # Errors
    /// [`ApplyError::PlanInvalid`] where `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, ApplyError> {
        let revision = |text| PolicyRevision::parse(text).map_err(|_| ApplyError::PlanInvalid);
        let (from, to) = text.split_once("..").ok_or(ApplyError::PlanInvalid)?;
        Ok(Self {
            from: revision(from)?,
            to: revision(to)?,
        })
    }

    /// Refuses where one of the two is another by now.
    pub(crate) fn check(
        &self,
        in_force: &PolicyRevision,
        directory: &PolicyRevision,
    ) -> Result<(), ApplyError> {
        if self.from != *in_force {
            return Err(ApplyError::PlanStale(format!(
                "policy {in_force} is in force, the plan is for {}",
                self.from
            )));
        }
        if self.to != *directory {
            return Err(ApplyError::PlanStale(format!(
                "the directory has policy {directory}, the plan is for {}",
                self.to
            )));
        }
        Ok(())
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// What a change would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which policy to which.
    pub id: PlanId,
    /// Who gains and loses what.
    pub diff: Diff,
    /// The impact on live sessions, by realm.
    pub impact: BTreeMap<RealmName, SessionImpact>,
}

impl Authority {
    /// What putting `files` in force would do; none: the files of the policy directory. Changes nothing. Of one
    /// client, one plan is made after the other; dropped, it ends.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn plan_policy(
        &self,
        principal: &Principal,
        files: Option<Vec<(String, Vec<u8>)>>,
    ) -> Result<Plan, ApplyError> {
        self.require(principal, &Permission::ReadPolicies)?;
        let entered = self.heavy.enter(principal).await?;
        let new = match files {
            None => self.read_directory_for(principal, &entered).await?,
            Some(files) => entered.run(move |work| from_memory(&files, work)).await??,
        };
        let new = Arc::new(new);
        self.check_realms(&new)?;
        let old = self.policy();
        let impact = self.preview(&new, Some(entered.start())).await?;
        entered.check()?;
        let id = PlanId {
            from: old.revision().clone(),
            to: new.revision().clone(),
        };
        let diff = entered.run(move |work| diff_within(&old, &new, work)).await?;
        Ok(Plan {
            id,
            diff: diff.map_err(|Stopped| Unavailable::OutOfTime)?,
            impact: impact.by_realm,
        })
    }

    /// Puts in force what the policy directory has, if it is what was planned and no more than
    /// `sessions_max` live sessions of all realms would lose scopes or end.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn apply_plan(
        self: &Arc<Self>,
        principal: &Principal,
        plan: PlanId,
        sessions_max: Option<u64>,
    ) -> Result<Applied, ApplyError> {
        self.may_apply(principal)?;
        let turn = self.heavy.turn(principal).await?;
        let change = Change::Planned { plan, sessions_max };
        self.change_policy(Trigger::Call, principal.actor(), change, Some(turn))
            .await
    }
}

/// A policy from files that were sent or kept.
pub(crate) fn from_memory(files: &[(String, Vec<u8>)], work: &Work) -> Result<Policy, LoadError> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    Policy::from_sources_within(&Sources::from_memory(&files)?, work)
}
