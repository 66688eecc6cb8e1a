//! Errors of a change of policy.

use tessera_core::{PolicyRevision, RealmName};
use tessera_policy::{Diagnostic, LoadError, PolicyError};

use crate::error::{CallNotAllowed, Unavailable, from_store};

/// A policy can't be put in force.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The policy was built into the program.
    #[error(
        "the authority has no policy directory, and nothing to reload: its policy is built in (`tessera dev --policy DIR`, or [policy] path)"
    )]
    NoDirectory,
    /// The files are wrong.
    #[error("{0}")]
    Refused(#[from] PolicyError),
    /// A realm that is served is not in the catalogue.
    #[error("realm `{realm}` is served, and not in the policy's catalogue.toml: add it under [realms]")]
    RealmUnknown {
        /// The realm.
        realm: RealmName,
    },
    /// The plan was made for another policy in force, or another policy in the directory.
    #[error("the plan is out of date: {0}")]
    PlanStale(String),
    /// Not a plan of this authority.
    #[error("not a plan of this authority")]
    PlanInvalid,
    /// More live sessions would lose scopes or end than the caller allows.
    #[error("{touched} live sessions would lose scopes or end, and at most {max} may")]
    TooManySessions {
        /// How many.
        touched: u64,
        /// How many may.
        max: u64,
    },
    /// Reading the authority's own policy took longer than it may.
    #[error("reading the policy took longer than it may: make it smaller")]
    TooLong,
    /// Reading the policy panicked: a defect, whose trace is in the log.
    #[error("the policy could not be read: a defect, see the log")]
    Panicked,
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The authority can't answer now. The policy may be in force already, and not reconciled with every live session:
    /// apply it again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl ApplyError {
    /// Whether the same files may be applied later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Panicked)
    }

    /// The problem in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = self.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// The same for a caller that may not read the files: without any text out of them.
    #[must_use]
    pub(crate) fn without_content(self) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.without_content()),
            other => other,
        }
    }

    /// The findings in the files.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Refused(error) => &error.diagnostics,
            _ => &[],
        }
    }
}

/// A decision can't be explained.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExplainError {
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The audit trail of the realm has no such decision.
    #[error("the audit trail has no decision with this id: records are kept for the audit retention")]
    DecisionUnknown,
    /// The policy that decided is not kept.
    #[error("policy {0} is no longer kept, so its decisions can't be explained")]
    PolicyForgotten(PolicyRevision),
    /// The policy that decided is refused by this version.
    #[error("policy {0} can't be read by this version, so its decisions can't be explained")]
    PolicyUnreadable(PolicyRevision),
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<LoadError> for ApplyError {
    /// For work of a caller; the authority's own work has another bound.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(error) => Self::Refused(error),
            LoadError::Stopped => Self::Unavailable(Unavailable::OutOfTime),
        }
    }
}

from_store!(ApplyError, ExplainError);
