//! One unit of work: it names its reads, its decision is a pure function, and its changes are data.
//!
//! A backend may batch units. One backend reads what a group of units names in one round trip, and writes their changes
//! in another. Another one runs each unit over the writes of the earlier ones, and syncs once.

use std::{ops::Range, sync::Arc, time::Duration};

use tessera_core::{
    ApiKey, AuditRecord, ClientName, KeyId, PolicyRevision, RealmName, Sequence, Session, SigningKey,
    Timestamp,
};

use crate::{
    reads::Reads,
    record::{LastBackup, NewEvent, PolicyFiles, RequestKey, RequestRecord},
    snapshot::Snapshot,
};

/// The writes of one decision: plain data, which a backend only translates. All of it is committed, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sessions, new or changed.
    pub sessions: Vec<Arc<Session>>,
    /// API keys, new or changed.
    pub api_keys: Vec<ApiKey>,
    /// API keys that are removed.
    pub removed_api_keys: Vec<ApiKey>,
    /// Clients that are disabled, or enabled again.
    pub clients: Vec<ClientChange>,
    /// Signing keys, new or changed.
    pub signing_keys: Vec<SigningKey>,
    /// Signing keys that are removed.
    pub removed_signing_keys: Vec<KeyId>,
    /// Answers to idempotent requests.
    pub requests: Vec<(RequestKey, RequestRecord)>,
    /// Policies whose files are kept; a policy that is kept already is not changed.
    pub policies: Vec<(PolicyRevision, PolicyFiles)>,
    /// Changes of what is kept once for the whole store.
    pub settings: Vec<SettingChange>,
    /// The records for the audit trail.
    pub audit: Vec<AuditRecord>,
    /// The events for the log, in order. If a token was issued with a later time than that of an event, the event is
    /// kept for that much longer.
    pub events: Vec<NewEvent>,
}

/// A client that is disabled, or enabled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChange {
    /// The realm.
    pub realm: RealmName,
    /// The client.
    pub client: ClientName,
    /// Whether none of its API keys works.
    pub is_disabled: bool,
}

/// A change of what is kept once for the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingChange {
    /// This policy is in force from now on.
    PolicyInForce(PolicyRevision),
    /// Live sessions are reconciled with the policy, which replaced the one before at this time.
    PolicyReconciled(PolicyRevision, Timestamp),
    /// How long a realm's required verifiers may keep answering by what they know.
    StalenessBound(RealmName, Duration),
    /// Everything in the audit trail up to a position was delivered to the sink with this name.
    AuditSink(String, u64),
    /// The authority serves.
    Alive {
        /// The time.
        now: Timestamp,
        /// The settled time: see [`Clock::settled`](tessera_core::Clock::settled).
        settled: Timestamp,
    },
    /// The authority serves again.
    Started {
        /// The time.
        now: Timestamp,
        /// The settled time.
        settled: Timestamp,
    },
    /// A backup was made.
    BackedUp(LastBackup),
}

/// The result of a decision.
#[derive(Debug)]
pub enum Decision<T> {
    /// Write these changes, and answer.
    Commit(Changes, T),
    /// Write nothing, and answer.
    Abort(T),
    /// Read these too, then decide again.
    ReadMore(Reads),
}

/// The priority of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A caller waits for it.
    #[default]
    Foreground,
    /// It is committed with the next commit of others, which then hardly takes longer, or alone after this time. If the
    /// caller no longer waits, it may not be committed.
    Background {
        /// How long it waits for others.
        max_delay: Duration,
    },
}

/// The positions of a unit's events in the log; empty if it wrote none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// From the first to the one after the last.
    pub events: Range<u64>,
}

impl Placed {
    /// The positions between the log's end before a unit and its end after it.
    #[must_use]
    pub fn between(before: Sequence, after: Sequence) -> Self {
        if before == after {
            return Self::default();
        }
        Self {
            events: before.next().0..after.next().0,
        }
    }

    /// The position of the last event.
    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        let last = self.events.end.checked_sub(1)?;
        (!self.events.is_empty()).then_some(Sequence(last))
    }
}

/// A unit of work for a backend. Its answer is kept separately, so that the trait has no type parameter.
pub struct UnitOfWork {
    reads: Reads,
    priority: Priority,
    decide: Decide,
}

/// A decision, which adds to the reads if it needs more.
type Decide = Box<dyn FnMut(&Snapshot, &mut Reads) -> Step + Send>;

/// The next step of a backend for a unit.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every one is a commit, and lives for a moment"
)]
pub enum Step {
    /// Write these changes.
    Commit(Changes),
    /// Write nothing.
    Abort,
    /// Read again, and decide again: the unit names more now.
    ReadMore,
}

impl UnitOfWork {
    /// A unit whose answer goes to `keep`.
    pub(crate) fn new<T>(
        reads: Reads,
        priority: Priority,
        mut decide: impl FnMut(&Snapshot) -> Decision<T> + Send + 'static,
        keep: impl Fn(T) + Send + 'static,
    ) -> Self {
        let decide = move |snapshot: &Snapshot, reads: &mut Reads| match decide(snapshot) {
            Decision::Commit(changes, value) => {
                keep(value);
                Step::Commit(changes)
            }
            Decision::Abort(value) => {
                keep(value);
                Step::Abort
            }
            // A unit that asks for what it already has is a defect, and must not block the writer.
            Decision::ReadMore(more) => {
                if reads.add(more) {
                    Step::ReadMore
                } else {
                    Step::Abort
                }
            }
        };
        Self {
            reads,
            priority,
            decide: Box::new(decide),
        }
    }

    /// Its reads.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Decides what to do; `snapshot` has what the unit names. It may be called more than once.
    pub fn decide(&mut self, snapshot: &Snapshot) -> Step {
        (self.decide)(snapshot, &mut self.reads)
    }
}
