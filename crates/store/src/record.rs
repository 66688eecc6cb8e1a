//! Stored records that `core` does not define.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tessera_core::{
    ClientName, Event, EventBody, PolicyRevision, RealmName, RequestId, Sequence, SessionId, Timestamp,
};

/// An event without its position in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the last access token that it can affect ends.
    pub tokens_until: Timestamp,
    /// How long the authority itself must remember it because it ends sessions too, if that is longer than verifiers
    /// must.
    pub sessions_until: Timestamp,
    /// The realm.
    pub realm: RealmName,
    /// The reason that the caller gave; may be empty.
    pub note: String,
    /// What happened.
    pub body: EventBody,
}

/// The files of a policy: names relative to its directory, with contents.
pub type PolicyFiles = Vec<(String, Vec<u8>)>;

/// The name of an idempotent request, within a client of a realm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The realm.
    pub realm: RealmName,
    /// The client.
    pub client: ClientName,
    /// The client's id for the request.
    pub request: RequestId,
}

/// The answer to an idempotent request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// A digest of the request: the same id with another request is an error of the caller.
    pub digest: [u8; 32],
    /// The session that was made.
    pub session: SessionId,
    /// When the record may be forgotten.
    pub expires_at: Timestamp,
}

/// What is kept once for the whole store, besides the policy in force and the times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The policy that all live sessions are reconciled with; `None` before the first.
    pub policy_reconciled: Option<PolicyRevision>,
    /// How long the required verifiers of each realm may keep answering by what they know. A realm that never had any
    /// is not listed.
    pub staleness_bounds: BTreeMap<RealmName, Duration>,
    /// Up to which position the audit trail was delivered to each sink.
    pub audit_sinks: BTreeMap<String, u64>,
    /// The clients that are disabled.
    pub disabled_clients: Vec<(RealmName, ClientName)>,
    /// The last backup; `None` before the first.
    pub last_backup: Option<LastBackup>,
}

/// A backup that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// The time.
    pub at: Timestamp,
    /// The position of the log that it has.
    pub position: Sequence,
}

/// Events read from the log.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// The events in order, without a gap.
    pub events: Vec<Arc<Event>>,
    /// The last committed sequence when they were read.
    pub committed: Sequence,
}

/// What a purge removes: everything that expired before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeBefore {
    /// Sessions whose [`removable_at`](tessera_core::Session::removable_at) has passed then, expired answers to
    /// requests, and events whose `relevant_until` has passed.
    pub horizon: Timestamp,
    /// Audit records that are older, and policies that were replaced before it.
    pub audit: Timestamp,
}

/// The result of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Sessions removed.
    pub sessions: usize,
    /// Events removed.
    pub events: usize,
    /// Request and audit records, and policies, removed.
    pub records: usize,
    /// Whether the limit ended it early.
    pub more: bool,
}

/// A group of units that became durable together, for measurements of the store.
#[derive(Clone, Copy, Debug)]
pub struct CommittedGroup<'a> {
    /// How many units it had, including units that wrote nothing.
    pub units: usize,
    /// How long it took, from its first decision until it was durable.
    pub took: Duration,
    /// The part of that time that was spent writing to the disk and waiting for it.
    pub synced: Duration,
    /// The events that it appended to the log.
    pub events: &'a [Arc<Event>],
}

/// A callback for each group that became durable. The writer calls it and waits for it.
pub type CommitObserver = Arc<dyn Fn(&CommittedGroup<'_>) + Send + Sync>;

/// The health of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether writes are possible: false forever after the first failure, unless it comes back.
    pub takes_writes: bool,
    /// Whether a store that takes no writes may take them again without being reopened, because its backend is only
    /// unavailable.
    pub comes_back: bool,
    /// How long the oldest commit in progress has taken so far; `None` if there is none. It grows while a disk does not
    /// respond.
    pub committing_for: Option<Duration>,
    /// The number of the last group of writes that is durable, which only grows; `None` if the store is not durable.
    pub group: Option<u64>,
    /// How many units wait for the writer.
    pub waiting: usize,
}

impl StoreHealth {
    /// Whether nothing will be written until the store is reopened.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.takes_writes && !self.comes_back
    }
}
