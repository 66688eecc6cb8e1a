//! The policy in force, its start time, and the last attempt to replace it.

use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use tessera_core::{PolicyRevision, Timestamp};
use tessera_policy::{Diagnostic, Policy};

use crate::policy::{applied::Applied, change::Trigger, error::ApplyError};

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
    pub(super) fn without_content(self) -> Self {
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

    /// The status, if `policy` is in force.
    pub(crate) fn status(&self, policy: &Policy, directory: Option<PathBuf>) -> PolicyStatus {
        let History {
            since,
            is_reconciled,
            last_attempt,
            applied,
            refused,
        } = self.lock().clone();
        PolicyStatus {
            policy: *policy.revision(),
            since,
            rules: policy.rule_count(),
            is_compiled: policy.is_compiled(),
            is_reconciled,
            directory,
            last_attempt,
            applied,
            refused,
        }
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
