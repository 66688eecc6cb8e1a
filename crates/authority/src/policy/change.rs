//! What makes the authority read its policy, and the requested change.

use crate::policy::plan_id::PlanId;

/// The event that made the authority read its policy.
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

/// The requested change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// To whatever policy the directory has.
    Any,
    /// To the planned policy.
    Planned {
        plan: PlanId,
        /// The most live sessions that may lose scopes or end; `None`: any number.
        sessions_max: Option<u64>,
    },
}
