//! The name of a planned change.

use std::fmt;

use tessera_core::PolicyRevision;

use crate::policy::error::ApplyError;

/// From which policy to which: `<revision>..<revision>`, as git writes a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanId {
    /// The policy that is in force.
    pub from: PolicyRevision,
    /// The policy that would be in force.
    pub to: PolicyRevision,
}

impl PlanId {
    /// Parses a plan.
    ///
    /// # Errors
    /// [`ApplyError::PlanInvalid`] if `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, ApplyError> {
        let revision = |text| PolicyRevision::parse(text).map_err(|_| ApplyError::PlanInvalid);
        let (from, to) = text.split_once("..").ok_or(ApplyError::PlanInvalid)?;
        Ok(Self {
            from: revision(from)?,
            to: revision(to)?,
        })
    }

    /// Refuses if one of the two has changed since.
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
