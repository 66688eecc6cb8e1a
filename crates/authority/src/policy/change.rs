//! What makes the authority read its policy, and which change is wanted.

use crate::policy::plan_id::PlanId;

/// What made the authority read its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Its start.
    Start,
    /// A change in the directory.
    Change,
    /// SIGHUP.
    Signal,
    /// `PolicyService`.
    Call,
}

impl Trigger {
    /// The trigger in logs, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Change => "change",
            Self::Signal => "signal",
            Self::Call => "call",
        }
    }
}

/// Which change is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// To whatever the directory has.
    Any,
    /// To what was planned.
    Planned {
        plan: PlanId,
        /// The most live sessions that may lose scopes or end; none: any number.
        sessions_max: Option<u64>,
    },
}
