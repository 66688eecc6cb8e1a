//! Plan: the effects of a change of policy, before it is made.

use std::{collections::BTreeMap, sync::Arc};

use tessera_core::RealmName;
use tessera_policy::{Diff, Permission, Stopped, diff_within};

use crate::{
    error::Unavailable,
    policy::{
        applied::Applied,
        change::{Change, Trigger},
        error::ApplyError,
        files::from_memory,
        impact::SessionImpact,
        plan_id::PlanId,
        policies::Policies,
    },
    principal::Principal,
};

/// The effects of a change.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which policy to which.
    pub id: PlanId,
    /// Which clients gain and lose what, and which requests need more or less. A client of a realm that is not a
    /// production realm sees only routes that name no other realm, if a production realm is served.
    pub diff: Diff,
    /// The impact on live sessions, by realm.
    pub impact: BTreeMap<RealmName, SessionImpact>,
}

impl Policies {
    /// The effects of putting `files` in force; `None`: the files of the policy directory. It changes nothing. Plans of
    /// one client are made one after the other; dropping the call ends the plan.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn plan_policy(
        &self,
        principal: &Principal,
        files: Option<Vec<(String, Vec<u8>)>>,
    ) -> Result<Plan, ApplyError> {
        self.shared.require(principal, &Permission::ReadPolicies)?;
        let entered = self.heavy.enter(principal).await?;
        let new = match files {
            None => self.read_directory_for(principal, &entered).await?,
            Some(files) => entered.run(move |work| from_memory(&files, work)).await??,
        };
        let new = Arc::new(new);
        self.check_realms(&new)?;
        let old = self.shared.policy();
        let impact = self.preview(&new, Some(entered.start())).await?;
        entered.check()?;
        let id = PlanId {
            from: *old.revision(),
            to: *new.revision(),
        };
        let diff = entered.run(move |work| diff_within(&old, &new, work)).await?;
        let mut diff = diff.map_err(|Stopped| Unavailable::OutOfTime)?;
        if !self.shared.speaks_for_all_realms(principal) {
            let realm = principal.realm_name();
            diff.routes.changes.retain(|change| change.names_only(realm));
        }
        Ok(Plan {
            id,
            diff,
            impact: impact.by_realm,
        })
    }

    /// Puts the policy of the directory in force if it is the planned one and at most `sessions_max` live sessions of
    /// all realms would lose scopes or end.
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
