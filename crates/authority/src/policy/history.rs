//! The policy in force, its start time, and the last attempt to replace it.

use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use tessera_core::{PolicyRevision, Timestamp};
use tessera_policy::{Diagnostic, Permission};

use crate::{
    Authority,
    error::CallNotAllowed,
    policy::{apply::Applied, change::Trigger, error::ApplyError},
    principal::Principal,
};

/// One attempt to apply the directory's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub trigger: Trigger,
    /// The outcome.
    pub outcome: AttemptOutcome,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Another policy is in force.
    Applied,
    /// The directory has the policy that is in force.
    Unchanged,
    /// It was refused: the one before stays in force.
    Refused {
        /// The problem in one line.
        problem: String,
        /// Every finding in the files.
        diagnostics: Vec<Diagnostic>,
    },
}

impl AttemptOutcome {
    /// For a caller that may not read the policy's files: without any text out of them.
    fn without_content(self) -> Self {
        let Self::Refused { diagnostics, .. } = self else {
            return self;
        };
        let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::without_content).collect();
        let first = diagnostics.first().map(ToString::to_string);
        Self::Refused {
            problem: first.unwrap_or_else(|| "see the status with a key of a production realm".to_owned()),
            diagnostics,
        }
    }
}

/// The policy in force, and the last attempt to replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The policy in force.
    pub policy: PolicyRevision,
    /// Since when.
    pub since: Timestamp,
    /// How many rules it has.
    pub rules: usize,
    /// Whether it is compiled; otherwise Casbin itself answers, which is slow.
    pub is_compiled: bool,
    /// Whether every live session is reconciled with it.
    pub is_reconciled: bool,
    /// The directory that it is read from; `None`: it is built in.
    pub directory: Option<PathBuf>,
    /// The last attempt.
    pub last_attempt: Attempt,
    /// How often a policy was applied since the authority started.
    pub applied: u64,
    /// How often a policy was refused since then.
    pub refused: u64,
}

/// The part of the status that changes.
#[derive(Debug)]
pub(crate) struct PolicyHistory(Mutex<History>);

#[derive(Clone, Debug)]
struct History {
    since: Timestamp,
    is_reconciled: bool,
    last_attempt: Attempt,
    applied: u64,
    refused: u64,
}

impl PolicyHistory {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(History {
            since: now,
            is_reconciled: false,
            last_attempt: Attempt {
                at: now,
                trigger: Trigger::Start,
                outcome: AttemptOutcome::Applied,
            },
            applied: 0,
            refused: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock()
    }

    /// Live sessions are reconciled with the policy of the start.
    pub(crate) fn reconciled(&self) {
        self.set_reconciled(true);
    }

    /// Whether live sessions are reconciled with the policy in force, by any node.
    pub(crate) fn set_reconciled(&self, is_reconciled: bool) {
        self.lock().is_reconciled = is_reconciled;
    }

    /// Another node put another policy in force.
    pub(crate) fn followed(&self, now: Timestamp) {
        let mut history = self.lock();
        history.since = now;
        history.is_reconciled = false;
    }

    /// Records how an attempt ended, and whether another policy is in force since then: a policy that could not be
    /// written or reconciled completely is in force, too.
    pub(crate) fn note(
        &self,
        now: Timestamp,
        trigger: Trigger,
        is_another: bool,
        result: &Result<Applied, ApplyError>,
    ) {
        let mut history = self.lock();
        if is_another {
            history.since = now;
            history.applied += 1;
        }
        let outcome = match result {
            Ok(applied) => {
                history.is_reconciled = true;
                if applied.is_change() {
                    AttemptOutcome::Applied
                } else {
                    AttemptOutcome::Unchanged
                }
            }
            Err(error) => {
                history.refused += 1;
                if matches!(error, ApplyError::Unavailable(_)) {
                    // It may be in force without being reconciled with all sessions.
                    history.is_reconciled = false;
                }
                AttemptOutcome::Refused {
                    problem: error.summary(),
                    diagnostics: error.diagnostics().to_vec(),
                }
            }
        };
        history.last_attempt = Attempt {
            at: now,
            trigger,
            outcome,
        };
    }
}

impl Authority {
    /// The policy in force, and the last attempt to replace it.
    #[must_use]
    pub fn policy_status(&self) -> PolicyStatus {
        let policy = self.shared.policy();
        let History {
            since,
            is_reconciled,
            last_attempt,
            applied,
            refused,
        } = self.policy_history.lock().clone();
        PolicyStatus {
            policy: policy.revision().clone(),
            since,
            rules: policy.rule_count(),
            is_compiled: policy.is_compiled(),
            is_reconciled,
            directory: self.policy_directory.clone(),
            last_attempt,
            applied,
            refused,
        }
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
