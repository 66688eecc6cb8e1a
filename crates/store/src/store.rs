//! The trait that every backend implements.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, EventBody, Label, LogId, PolicyRevision, RealmName,
    RequestId, Revocations, Sequence, Session, SessionId, SigningKey, Subject, Timestamp,
};
use tokio::sync::watch;

use crate::{error::StoreError, times::Times};

/// A durable home of the authority's state.
///
/// Reads see what is committed. Writes go through [`StoreExt::transact`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Runs `job` against a transaction and commits what it wrote, durably, before answering. Jobs are
    /// serialized: each sees everything that the jobs before it wrote. A job that answers an error
    /// writes nothing. Callers use [`StoreExt::transact`], which returns the job's value.
    async fn run(&self, job: Job) -> Result<(), StoreError>;

    /// Like [`run`](Store::run), for a job that can wait: it is committed together with the next job of
    /// others, which then waits hardly longer, and by itself once `patience` is over. Where the caller no
    /// longer waits it may not run. A store whose commits cost nothing need not wait.
    async fn run_patiently(&self, job: Job, patience: Patience) -> Result<(), StoreError> {
        drop(patience);
        self.run(job).await
    }

    /// A session.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// One page of the sessions in an index, in the order of their ids (oldest first).
    async fn sessions(
        &self,
        index: SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>, StoreError>;

    /// Shows all sessions of all realms to `visit`, in the order of their ids, until it breaks off. It is
    /// called on a thread of its own, which gives way to those that answer calls, and may block.
    async fn visit_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError>;

    /// The files of a policy that is or was in force, for as long as audit records can name it.
    async fn policy(&self, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError>;

    /// The policy that all live sessions are reconciled with; none before the first.
    async fn reconciled_policy(&self) -> Result<Option<PolicyRevision>, StoreError>;

    /// How long the required verifiers of each realm may go on answering by what they know, as it was noted
    /// last. A realm that never had any is not named.
    async fn staleness_bounds(&self) -> Result<BTreeMap<RealmName, Duration>, StoreError>;

    /// An API key.
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError>;

    /// One page of a realm's API keys, in the order of their ids.
    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError>;

    /// The clients of all realms that are disabled.
    async fn disabled_clients(&self) -> Result<Vec<(RealmName, ClientName)>, StoreError>;

    /// All signing keys of all realms, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// Up to `limit` committed events after `after`, in order.
    ///
    /// # Errors
    /// [`StoreError::EventsForgotten`] where events after `after` have been removed.
    async fn events_after(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError>;

    /// Events below the floor of the log that still matter: dated so far ahead that the log does not wait for
    /// them.
    async fn events_left(&self) -> Result<Vec<Arc<Event>>, StoreError>;

    /// Up to `limit` audit records after the position `after` (0: from the first), with their positions.
    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError>;

    /// The last event that was removed: the log has everything after it.
    fn events_floor(&self) -> Sequence;

    /// How far [`purge`](Store::purge) has come, kept with the data to within an hour; none before the
    /// first.
    fn purged_through(&self) -> Option<Timestamp>;

    /// What was last committed of times.
    fn times(&self) -> Times;

    /// What is revoked now. Folded in no later than it is durable; possibly a moment earlier, which
    /// only refuses too soon.
    fn revocations(&self) -> &SharedRevocations;

    /// The last committed sequence; a receiver is woken when it grows.
    fn committed(&self) -> watch::Receiver<Sequence>;

    /// The identity of this log.
    fn log_id(&self) -> LogId;

    /// Removes what is dead before `horizon`: sessions whose [`Session::removable_at`] has passed,
    /// events whose `relevant_until` has passed (oldest first, up to the first that still matters, so
    /// that the log stays gapless; those that matter for days to come stay behind below the floor, where only
    /// [`events_left`](Store::events_left) has them), expired request records, audit records older than `audit_before`, and
    /// policies that were replaced before it. At most `limit` rows; call again while [`PurgeReport::more`].
    async fn purge(
        &self,
        horizon: Timestamp,
        audit_before: Timestamp,
        limit: usize,
    ) -> Result<PurgeReport, StoreError>;

    /// The number of the last group of writes that is durable, which only grows; none where nothing is kept.
    fn group(&self) -> Option<u64> {
        None
    }

    /// For how long the oldest commit that is under way has been; none while there is none. A disk that stands
    /// still makes it grow.
    fn committing_for(&self) -> Option<Duration> {
        None
    }

    /// Whether writes are possible: false for ever after the first failure.
    fn is_healthy(&self) -> bool;

    /// Writes out what is pending and releases the lock of the directory. Later calls answer
    /// [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// Revocations behind a lock that is held for look-ups only, never across an await.
pub type SharedRevocations = Arc<RwLock<Revocations>>;

/// One atomic read-decide-write. It may run twice, so it must be pure but for what it does to the
/// transaction.
pub type Job = Box<dyn FnMut(&mut dyn Transaction) -> Result<(), StoreError> + Send>;

/// Over when a job that can wait shall wait no longer.
pub type Patience = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever must see each session.
pub type SessionVisitor = Box<dyn FnMut(&Session) -> ControlFlow<()> + Send>;

/// What a job may do. Reads see the job's own writes, and those of all jobs before it.
pub trait Transaction {
    /// A session.
    fn session(&mut self, id: SessionId) -> Result<Option<Session>, StoreError>;
    /// An API key.
    fn api_key(&mut self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError>;
    /// Whether a client is disabled: none of its keys works.
    fn is_disabled(&mut self, realm: &RealmName, client: &ClientName) -> Result<bool, StoreError>;
    /// How many sessions are kept for a client, those that ended and are not removed yet included.
    fn sessions_of(&mut self, realm: &RealmName, client: &ClientName) -> Result<u64, StoreError>;
    /// What was answered to an earlier request with this key.
    fn request(&mut self, key: &RequestKey) -> Result<Option<RequestRecord>, StoreError>;
    /// The last sequence of the log, this transaction's events included.
    fn last_sequence(&self) -> Sequence;
    /// Why a session ended together with others, if it did: see [`Revocations::revokes_session`]. Knows
    /// this transaction's events and all before it.
    fn revokes_session(&self, session: &Session) -> Option<tessera_core::RevokeReason>;

    /// Writes a session, new or changed, with its index entries.
    fn put_session(&mut self, session: &Session) -> Result<(), StoreError>;
    /// Writes an API key, new or changed.
    fn put_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError>;
    /// Removes an API key that is dead.
    fn remove_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError>;
    /// Notes whether a client is disabled.
    fn put_disabled(
        &mut self,
        realm: &RealmName,
        client: &ClientName,
        is_disabled: bool,
    ) -> Result<(), StoreError>;
    /// Writes a signing key, new or changed.
    fn put_signing_key(&mut self, key: &SigningKey) -> Result<(), StoreError>;
    /// Remembers what was answered to a request.
    fn put_request(&mut self, key: &RequestKey, record: &RequestRecord) -> Result<(), StoreError>;
    /// Keeps the files of a policy; one that is kept already stays as it is.
    fn put_policy(&mut self, revision: &PolicyRevision, files: &PolicyFiles) -> Result<(), StoreError>;
    /// Notes that all live sessions are reconciled with the policy, which replaced the one before at `now`.
    fn put_reconciled_policy(&mut self, revision: &PolicyRevision, now: Timestamp) -> Result<(), StoreError>;
    /// Notes how long a realm's required verifiers may go on answering by what they know.
    fn put_staleness_bound(&mut self, realm: &RealmName, bound: Duration) -> Result<(), StoreError>;
    /// What is known of times. An audit record moves them by itself.
    fn times(&mut self) -> &mut Times;
    /// Appends an event to the log and gives its sequence. Where a token was issued with a later time than
    /// that of the event, it is kept for as much longer.
    fn append(&mut self, event: NewEvent) -> Result<Sequence, StoreError>;
    /// Appends an audit record.
    fn audit(&mut self, record: &AuditRecord) -> Result<(), StoreError>;
}

/// An event without its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When the last access token that it can affect ends.
    pub tokens_until: Timestamp,
    /// How long the authority itself must remember it, because it ends sessions too: where that is
    /// longer than verifiers must.
    pub sessions_until: Timestamp,
    /// The realm.
    pub realm: RealmName,
    /// What the caller gave as the reason; may be empty.
    pub note: String,
    /// What happened.
    pub body: EventBody,
}

/// The files of a policy: names relative to its directory, with contents.
pub type PolicyFiles = Vec<(String, Vec<u8>)>;

/// Names a request that was made idempotent, within a client of a realm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// The realm.
    pub realm: RealmName,
    /// The client.
    pub client: ClientName,
    /// Its id for the request.
    pub request: RequestId,
}

/// What was answered to an idempotent request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// A digest of the request: the same id with another request is a mistake of the caller.
    pub digest: [u8; 32],
    /// The session that was made.
    pub session: SessionId,
    /// When the record may be forgotten.
    pub expires_at: Timestamp,
}

/// What sessions can be listed by, within a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionIndex {
    /// Those of a subject.
    Subject(RealmName, Subject),
    /// Those of a client.
    Client(RealmName, ClientName),
    /// Those that carry a label.
    Label(RealmName, Label),
    /// Those that an API key began.
    ApiKey(RealmName, ApiKeyId),
    /// All of a realm.
    Realm(RealmName),
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// The last key of the page before; none for the first page.
    pub after: Option<K>,
    /// How many items at most.
    pub limit: usize,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items.
    pub items: Vec<T>,
    /// The last key, where there is another page.
    pub next: Option<K>,
}

/// Events read from the log.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// The events in order, without a gap.
    pub events: Vec<Arc<Event>>,
    /// The last committed sequence when they were read.
    pub committed: Sequence,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Sessions removed.
    pub sessions: usize,
    /// Events removed.
    pub events: usize,
    /// Request and audit records, and policies, removed.
    pub records: usize,
    /// Whether the limit ended it before it was done.
    pub more: bool,
}

/// What callers use of a [`Store`].
#[async_trait]
pub trait StoreExt {
    /// Runs `job` as one atomic read-decide-write and answers its value once that is durable. `job` may
    /// run twice, so it must be pure but for what it does to the transaction.
    async fn transact<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static;

    /// Like [`transact`](StoreExt::transact), for what can wait until `patience` is over: see
    /// [`Store::run_patiently`].
    async fn transact_patiently<T, F>(&self, patience: Patience, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static;
}

#[async_trait]
impl StoreExt for dyn Store {
    async fn transact<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    {
        let value = Value::default();
        self.run(value.of(job)).await?;
        value.take()
    }

    async fn transact_patiently<T, F>(&self, patience: Patience, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    {
        let value = Value::default();
        self.run_patiently(value.of(job), patience).await?;
        value.take()
    }
}

/// What a job answers besides its success.
struct Value<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Value<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Send + 'static> Value<T> {
    /// The job that leaves its answer here.
    fn of(&self, mut job: impl FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static) -> Job {
        let slot = Arc::clone(&self.0);
        Box::new(move |transaction| {
            let value = job(transaction)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        })
    }

    fn take(&self) -> Result<T, StoreError> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Not reached: `run` answers Ok only after the job did.
        value.ok_or(StoreError::Closed)
    }
}
