//! Reload: reading the policy directory again, and what came of it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tessera_core::{PolicyRevision, RealmKind, Timestamp, audit::Actor};
use tessera_policy::{Diagnostic, LoadError, Permission, Policy, Work};

use crate::{
    Authority, Principal,
    apply::Applied,
    error::{ApplyError, CallNotAllowed},
    heavy::{Entered, OWN_BUDGET, Turn},
    plan::PlanId,
};

/// How many findings of one change are logged: `tessera policy check` shows all of them.
const FINDINGS_LOGGED_MAX: usize = 20;

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

/// One attempt to apply what the directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub trigger: Trigger,
    /// What came of it.
    pub outcome: AttemptOutcome,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Another policy is in force.
    Applied,
    /// The directory has the policy that is in force.
    Unchanged,
    /// It was refused: the one before stays in force.
    Refused {
        /// In one line.
        problem: String,
        /// Every finding in the files.
        diagnostics: Vec<Diagnostic>,
    },
}

impl AttemptOutcome {
    /// As whoever may not read the policy's files may see it: no text out of them.
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
    /// The directory that it is read from; none: it is built in.
    pub directory: Option<PathBuf>,
    /// The last attempt.
    pub last_attempt: Attempt,
    /// How often a policy was applied since the authority started.
    pub applied: u64,
    /// How often one was refused since.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Live sessions are reconciled with the policy of the start.
    pub(crate) fn reconciled(&self) {
        self.lock().is_reconciled = true;
    }

    /// Notes how an attempt ended, and whether another policy is in force since: one that could not be written
    /// or reconciled to the end is, too.
    fn note(&self, now: Timestamp, trigger: Trigger, is_another: bool, result: &Result<Applied, ApplyError>) {
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
                    // It may be in force, and not reconciled with all sessions.
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
        let policy = self.policy();
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

    /// The same for a client. One policy is in force in all realms, so every realm sees which, and whether a
    /// change was refused; what the files say and where they are, only who speaks for all
    /// realms.
    ///
    /// # Errors
    /// Refuses where policy does not permit.
    pub fn policy_status_for(&self, principal: &Principal) -> Result<PolicyStatus, CallNotAllowed> {
        self.require(principal, &Permission::ReadPolicies)?;
        let mut status = self.policy_status();
        if !self.speaks_for_all_realms(principal) {
            status.directory = None;
            status.last_attempt.outcome = status.last_attempt.outcome.without_content();
        }
        Ok(status)
    }

    /// The directory that the policy is read from; none: it is built in.
    #[must_use]
    pub fn policy_directory(&self) -> Option<&PathBuf> {
        self.policy_directory.as_ref()
    }

    /// Reads the policy directory and puts what it has in force. On any failure the policy before stays, and
    /// the status, the log and the metrics say why.
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
        let turn = self.heavy.turn(principal).await?;
        self.change_policy(Trigger::Call, principal.actor(), Change::Any, Some(turn))
            .await
    }

    /// One change at a time, and each leaves its trace. Whoever leaves while it waits makes none; what has begun
    /// runs to its end: half of it must not be.
    pub(crate) async fn change_policy(
        self: &Arc<Self>,
        trigger: Trigger,
        actor: Actor,
        change: Change,
        turn: Option<Turn>,
    ) -> Result<Applied, ApplyError> {
        let authority = Arc::clone(self);
        let alone = Arc::clone(&self.policy_changes).lock_owned().await;
        let changed = tokio::spawn(async move {
            let _held = (alone, turn);
            let before = authority.policy();
            let result = authority.make(&change, &actor).await;
            let is_another = !Arc::ptr_eq(&before, &authority.policy());
            let now = authority.clock.now();
            authority.policy_history.note(now, trigger, is_another, &result);
            if let Err(error) = &result {
                authority.log_refusal(trigger, error);
            }
            result
        });
        changed.await.unwrap_or(Err(ApplyError::Panicked))
    }

    fn log_refusal(&self, trigger: Trigger, error: &ApplyError) {
        let findings = error.diagnostics();
        tracing::error!(
            trigger = trigger.as_str(),
            in_force = %self.policy().revision(),
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

    async fn make(&self, change: &Change, actor: &Actor) -> Result<Applied, ApplyError> {
        let policy = self.read_directory().await?;
        if let Change::Planned { plan, sessions_max } = change {
            plan.check(self.policy().revision(), policy.revision())?;
            if let Some(max) = *sessions_max {
                let impact = self.preview(&policy, None).await?.total();
                let touched = impact.narrowed + impact.ended;
                if touched > max {
                    return Err(ApplyError::TooManySessions { touched, max });
                }
            }
        }
        self.apply(policy, actor).await
    }

    pub(crate) async fn read_directory(&self) -> Result<Arc<Policy>, ApplyError> {
        let directory = self.policy_directory.clone().ok_or(ApplyError::NoDirectory)?;
        load(move || Policy::load_within(&directory, &Work::within(OWN_BUDGET))).await
    }

    /// The same for a client, which may not be told what the files say.
    pub(crate) async fn read_directory_for(
        &self,
        principal: &Principal,
        entered: &Entered,
    ) -> Result<Policy, ApplyError> {
        let directory = self.policy_directory.clone().ok_or(ApplyError::NoDirectory)?;
        let read = entered
            .run(move |work| Policy::load_within(&directory, work))
            .await?;
        let read = read.map_err(ApplyError::from);
        if self.speaks_for_all_realms(principal) {
            return read;
        }
        read.map_err(ApplyError::without_content)
    }

    /// Whether a client's key is of a production realm, where one is served: what concerns every realm is
    /// nothing for a sandbox.
    pub(crate) fn speaks_for_all_realms(&self, principal: &Principal) -> bool {
        let mut realms = self.realms.values();
        principal.realm().kind == RealmKind::Production
            || !realms.any(|realm| realm.kind == RealmKind::Production)
    }

    /// A change of policy applies to every realm.
    pub(crate) fn may_apply(&self, principal: &Principal) -> Result<(), CallNotAllowed> {
        self.require(principal, &Permission::ApplyPolicies)?;
        if !self.speaks_for_all_realms(principal) {
            let required = format!("{} in a production realm", Permission::ApplyPolicies.scope());
            return Err(CallNotAllowed::new(required, principal));
        }
        Ok(())
    }
}

/// Reads and compiles a policy away from the async threads. A panic is a refusal.
pub(crate) async fn load(
    read: impl FnOnce() -> Result<Policy, LoadError> + Send + 'static,
) -> Result<Arc<Policy>, ApplyError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(policy)) => Ok(Arc::new(policy)),
        Ok(Err(LoadError::Refused(error))) => Err(error.into()),
        Ok(Err(LoadError::Stopped)) => Err(ApplyError::TooLong),
        // What a panic says may repeat the files.
        Err(_) => {
            tracing::error!("reading a policy panicked");
            Err(ApplyError::Panicked)
        }
    }
}
