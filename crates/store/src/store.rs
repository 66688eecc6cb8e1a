//! The interface that every backend implements.

use std::{ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, Event, PolicyRevision, RealmName, Sequence, Session, SessionId, SigningKey,
};

use crate::{
    audit::{AuditPage, AuditQuery},
    backup::{BackupEnd, BackupError, BackupVisitor},
    commit_span::CommitSpan,
    error::StoreError,
    log::Log,
    node::{Alone, OtherNode},
    nodes::Nodes,
    page::{Page, PageRequest, SessionIndex},
    reads::Reads,
    record::{EventBatch, PolicyFiles, PurgeBefore, PurgeReport, StoreHealth},
    snapshot::{Snapshot, StoredSession},
    unit::{Changes, Decision, Placed, Priority, UnitOfWork},
};

/// A visitor that is shown each session.
pub type SessionVisitor = Box<dyn FnMut(&Session) -> ControlFlow<()> + Send>;

/// Reading what is committed, without writing.
#[async_trait]
pub trait StoreReader: Send + Sync + 'static {
    /// Everything that is named, all from one state. A backend may show a commit a moment before its writer
    /// acknowledges it. A caller whose decision depends on what it reads decides within a unit of work.
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError>;

    /// An API key. Each call of a client reads one, so this is not a [read](Self::read) like others: backends keep
    /// recently read ones decoded, and share them.
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let snapshot = self.read(Reads::default().api_key(*id)).await?;
        Ok(snapshot.api_keys.into_iter().next().map(Arc::new))
    }

    /// One page of the sessions in an index, in the order of their ids (oldest first).
    async fn sessions(
        &self,
        index: &SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError>;

    /// Shows all sessions of all realms to `visit`, in the order of their ids, until it breaks off. The visitor is
    /// called on a separate thread, which yields to threads that answer calls. It may block.
    async fn walk_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError>;

    /// One page of a realm's API keys, in the order of their ids.
    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError>;

    /// Up to `limit` committed events after `after`, in order.
    ///
    /// # Errors
    /// [`StoreError::EventsForgotten`] if events after `after` have been removed.
    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError>;

    /// A part of the audit trail. Records that were too old to be kept are skipped.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if records that should exist are missing, or are not what was written.
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// The part of the revocation log that is held in memory, and the end of the audit trail.
    fn log(&self) -> &Log;

    /// What a backend offers that several processes write to. `None`: only this process writes to it.
    fn nodes(&self) -> Option<&dyn Nodes> {
        None
    }
}

/// The durable storage of the authority's state.
#[async_trait]
pub trait Store: StoreReader {
    /// Reads, decides and writes as one serializable transaction, durable before it answers. Callers use
    /// [`commit`](trait.Store.html#method.commit), which returns the answer of the decision.
    async fn transact(&self, work: UnitOfWork) -> Result<Placed, StoreError>;

    /// Removes what is expired, at most `limit` rows; call again while [`PurgeReport::more`]. Events are removed oldest
    /// first, up to the first that still matters, so that the log has no gap. Events that matter for days to come stay
    /// below the floor, where only [`Reads::events_below_floor`] finds them.
    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError>;

    /// Shows everything that is kept to `visit`, while others keep writing, and returns the one position whose state
    /// that is: see [`BackupRecord`](crate::BackupRecord). The visitor is called on a separate thread, and may block.
    /// Only one backup is made at a time.
    ///
    /// # Errors
    /// See [`BackupError`].
    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError>;

    /// The health of the store.
    fn health(&self) -> StoreHealth;

    /// Writes what is pending and releases its resources. Later calls answer [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// Functions for callers, whether one process writes to the store or several.
impl dyn Store {
    /// Whether several processes write to it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.nodes().is_some()
    }

    /// See [`Nodes::catch_up`]. A store that one process writes to is always current.
    ///
    /// # Errors
    /// See there.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        match self.nodes() {
            Some(nodes) => nodes.catch_up().await,
            None => Ok(()),
        }
    }

    /// See [`Nodes::others`].
    ///
    /// # Errors
    /// See there.
    pub async fn other_nodes(&self) -> Result<Vec<OtherNode>, StoreError> {
        match self.nodes() {
            Some(nodes) => nodes.others().await,
            None => Ok(Vec::new()),
        }
    }

    /// See [`Nodes::alone`]. If only this process writes to the store, it always holds the lock.
    ///
    /// # Errors
    /// See there.
    pub async fn alone(&self) -> Result<Alone, StoreError> {
        match self.nodes() {
            Some(nodes) => nodes.alone().await,
            None => Ok(Alone::default()),
        }
    }
}

/// Functions for callers.
impl dyn Store {
    /// Reads, decides and writes as one serializable transaction, and answers once that is durable. The decision may be
    /// made more than once, on different snapshots: it is a pure function.
    ///
    /// # Errors
    /// If it fails, nothing was acknowledged.
    pub async fn commit<T: Send + 'static>(
        &self,
        reads: Reads,
        decide: impl FnMut(&Snapshot) -> Decision<T> + Send + 'static,
    ) -> Result<(T, Placed), StoreError> {
        self.commit_with(Priority::Foreground, reads, decide).await
    }

    /// The same, with a priority.
    ///
    /// # Errors
    /// If it fails, nothing was acknowledged.
    pub async fn commit_with<T: Send + 'static>(
        &self,
        priority: Priority,
        reads: Reads,
        decide: impl FnMut(&Snapshot) -> Decision<T> + Send + 'static,
    ) -> Result<(T, Placed), StoreError> {
        let span = CommitSpan::begin();
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let keep = move |value| *slot.lock() = Some(value);
        let unit = UnitOfWork::new(reads, priority, span.noting_when_decided(decide), keep);
        let placed = span.around(self.transact(unit)).await?;
        let value = answer.lock().take().ok_or_else(|| StoreError::Failed {
            detail: "a decision reads more without end".to_owned(),
        })?;
        Ok((value, placed))
    }

    /// Writes changes that need no decision.
    ///
    /// # Errors
    /// If it fails, nothing was acknowledged.
    pub async fn write(&self, changes: Changes) -> Result<Placed, StoreError> {
        let decide = move |_: &Snapshot| Decision::Commit(changes.clone(), ());
        let ((), placed) = self.commit(Reads::default(), decide).await?;
        Ok(placed)
    }

    /// Up to `limit` audit records after the position `after` (0: from the first), with their positions.
    ///
    /// # Errors
    /// See [`StoreReader::audit_page`].
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let page = self.audit_page(AuditQuery::after(after, limit)).await?;
        let entries = page.entries.into_iter();
        Ok(entries.map(|entry| (entry.position, entry.record)).collect())
    }

    /// A session.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn session(&self, id: SessionId) -> Result<Option<StoredSession>, StoreError> {
        let snapshot = self.read(Reads::default().session(id)).await?;
        Ok(snapshot.sessions.into_iter().next())
    }

    /// All signing keys of all realms, oldest first.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let snapshot = self.read(Reads::default().signing_keys()).await?;
        Ok(snapshot.signing_keys)
    }

    /// See [`Reads::policy`].
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn policy_files(
        &self,
        revision: &PolicyRevision,
    ) -> Result<Option<Arc<PolicyFiles>>, StoreError> {
        let snapshot = self.read(Reads::default().policy(*revision)).await?;
        Ok(snapshot.policy_files(revision).cloned())
    }

    /// How many sessions of a realm there are, including those that ended and are not removed yet.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn session_count(&self, realm: &RealmName) -> Result<u64, StoreError> {
        let snapshot = self.read(Reads::default().realm(realm.clone())).await?;
        Ok(snapshot.session_count(realm))
    }

    /// See [`Reads::events_below_floor`].
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn events_below_floor(&self) -> Result<Vec<Arc<Event>>, StoreError> {
        let snapshot = self.read(Reads::default().events_below_floor()).await?;
        Ok(snapshot.events_below_floor)
    }
}
