//! The port that every backend implements.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, Event, PolicyRevision, RealmName, Sequence, Session, SessionId, SigningKey,
};
use tokio::sync::watch;

use crate::{
    audit::{AuditHead, AuditPage, AuditQuery},
    backup::{BackupEnd, BackupError, BackupVisitor},
    commit_span::CommitSpan,
    error::StoreError,
    log::Log,
    node::{Alone, NodeReport, OtherNode},
    page::{Page, PageRequest, SessionIndex},
    record::{CommitObserver, EventBatch, PolicyFiles, PurgeBefore, PurgeReport, StoreHealth},
    unit::{Changes, Decision, Placed, Priority, Reads, Snapshot, StoredSession, UnitOfWork},
};

/// Whoever must see each session.
pub type SessionVisitor = Box<dyn FnMut(&Session) -> ControlFlow<()> + Send>;

/// Reading what is committed, for those who do not write.
#[async_trait]
pub trait StoreReader: Send + Sync + 'static {
    /// What is named, all from one state. A backend may show a moment earlier than its writer answers what that has
    /// just committed: whoever decides by what he reads decides within a unit of work.
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError>;

    /// An API key. Each call of a client asks for one, so backends keep those decoded that were asked for lately.
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let snapshot = self.read(Reads::default().api_key(id.clone())).await?;
        Ok(snapshot.api_keys.into_iter().next().map(Arc::new))
    }

    /// Whether other processes write to it, too: then more is committed than this one knows of, until it
    /// [catches up](Self::catch_up).
    fn is_shared(&self) -> bool {
        false
    }

    /// Brings the [log](Self::log) to everything that was committed when this was called, whoever committed it. A backend
    /// that one process writes to is always there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the backend can't prove that it is current.
    async fn catch_up(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What this process is called among those of a shared store; none where it is the only one.
    fn node_name(&self) -> Option<&str> {
        None
    }

    /// The processes that write to a shared store, or did lately, without this one.
    ///
    /// # Errors
    /// Fails where the backend can't be read.
    async fn other_nodes(&self) -> Result<Vec<OtherNode>, StoreError> {
        Ok(Vec::new())
    }

    /// One page of the sessions in an index, in the order of their ids (oldest first).
    async fn sessions(
        &self,
        index: SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError>;

    /// How many sessions of a realm there are, those that ended and are not removed yet included. It reads a number for
    /// each client, and no session.
    async fn session_count(&self, realm: &RealmName) -> Result<u64, StoreError>;

    /// Shows all sessions of all realms to `visit`, in the order of their ids, until it breaks off. It is
    /// called on a thread of its own, which gives way to those that answer calls, and may block.
    async fn walk_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError>;

    /// One page of a realm's API keys, in the order of their ids.
    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError>;

    /// All signing keys of all realms, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// The files of a policy that is or was in force, for as long as audit records can name it.
    async fn policy_files(&self, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError>;

    /// Up to `limit` committed events after `after`, in order.
    ///
    /// # Errors
    /// [`StoreError::EventsForgotten`] where events after `after` have been removed.
    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError>;

    /// Events below the floor of the log that still matter: dated so far ahead that the log does not wait for
    /// them.
    async fn events_below_floor(&self) -> Result<Vec<Arc<Event>>, StoreError>;

    /// A part of the audit trail. Records that were too old to be kept are passed over.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where records that should be there are not, or are not what was written.
    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// The last audit record that is durable; the receiver is woken when there is another one.
    fn audit_head(&self) -> watch::Receiver<AuditHead>;

    /// The revocation log, as far as it is held in memory.
    fn log(&self) -> &Log;
}

/// A durable home of the authority's state.
#[async_trait]
pub trait Store: StoreReader {
    /// Reads, decides and writes as one serializable transaction, durable before it answers. Callers use
    /// [`commit`](trait.Store.html#method.commit), which returns the answer of the decision.
    async fn transact(&self, work: UnitOfWork) -> Result<Placed, StoreError>;

    /// Waits until no other process of a shared store is alone with it, and is until the answer is dropped. It keeps nobody
    /// from [transactions](Self::transact).
    ///
    /// # Errors
    /// Fails where the backend can't be reached.
    async fn alone(&self) -> Result<Alone, StoreError> {
        Ok(Alone::default())
    }

    /// Tells the other processes of a shared store what this one says of itself, and up to which position of the log all
    /// its required subscribers know of it, or refuse by themselves. Without a report, the one before stays.
    ///
    /// # Errors
    /// Fails where the backend can't be written.
    async fn tell_others(
        &self,
        _fences: BTreeMap<RealmName, Sequence>,
        _report: Option<NodeReport>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes what is dead, at most `limit` rows; call again while [`PurgeReport::more`]. Events go oldest first, up to the
    /// first that still matters, so that the log stays gapless; those that matter for days to come stay behind
    /// below the floor, where only [`events_below_floor`](StoreReader::events_below_floor) has them.
    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError>;

    /// Shows everything that is kept to `visit`, while others go on writing, and answers of which one position that is:
    /// see [`BackupRecord`](crate::BackupRecord). The visitor is called on a thread of its own, and may block. One
    /// backup is made at a time.
    ///
    /// # Errors
    /// See [`BackupError`].
    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError>;

    /// Tells `observer` of each group that is durable from now on, instead of the one before.
    fn observe_commits(&self, observer: CommitObserver);

    /// How the store is.
    fn health(&self) -> StoreHealth;

    /// Writes out what is pending and releases what it holds. Later calls answer [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// What callers use of a store.
impl dyn Store {
    /// Reads, decides and writes as one serializable transaction, and answers once that is durable. The decision may be
    /// made more than once, on other snapshots: it is a pure function.
    ///
    /// # Errors
    /// Nothing was acknowledged where it fails.
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
    /// Nothing was acknowledged where it fails.
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

    /// Writes what needs no decision.
    ///
    /// # Errors
    /// Nothing was acknowledged where it fails.
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
    /// Fails where the store can't be read.
    pub async fn session(&self, id: SessionId) -> Result<Option<StoredSession>, StoreError> {
        let snapshot = self.read(Reads::default().session(id)).await?;
        Ok(snapshot.sessions.into_iter().next())
    }
}
