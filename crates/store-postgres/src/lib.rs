//! The store on PostgreSQL: equal nodes, one order, one transaction for all waiting units.
//!
//! Each node gathers the units that wait, and runs them as one transaction of two round trips, under an advisory lock
//! that is held until the transaction is committed. So the groups of all nodes are in one sequence: the log has no gap,
//! a token's position in it is exact, and no decision uses state that another node has changed. There is no leader.
//!
//! `docs/postgres.md` says what is kept where, and what happens in failures.
#![forbid(unsafe_code)]

mod anew;
mod backup;
mod beats;
mod check;
mod committer;
mod connect;
mod durability;
mod error;
mod follower;
mod group;
mod node;
mod open;
mod options;
mod others;
mod partition;
mod place;
mod purge;
mod read;
mod read_set;
mod reader;
mod restore;
mod schema;
mod servers;
mod state;
mod statements;
mod transaction;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tessera_core::{ApiKey, ApiKeyId, LogId, RealmName, Sequence, SessionId};
use tessera_store::{
    Alone, AuditPage, AuditQuery, BackupEnd, BackupError, BackupVisitor, EventBatch, Log, NodeReport, Nodes,
    OtherNode, Page, PageRequest, Placed, Priority, PurgeBefore, PurgeReport, Reads, SessionIndex,
    SessionVisitor, Snapshot, Store, StoreError, StoreHealth, StoreReader, StoredSession, UnitOfWork,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use self::{
    committer::{Queue, Waiting, Work, Writer},
    follower::Looking,
    node::{Node, WRITERS},
    reader::{READERS, Reading},
};
pub use self::{
    error::OpenError,
    options::{Durability, Migrate, PostgresOptions},
    restore::PostgresRestore,
};

/// How many units may wait for the writers; further callers wait for a slot.
const WAITING_MAX: usize = 4096;
/// How many background units may wait for the commits of others at once.
const BACKGROUND_MAX: usize = 8;
/// How long a node may take to report its end.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// How many callers may wait at once until this node is current.
const LOOKING_MAX: usize = 4096;
/// How many callers may wait for rows; further callers wait for a slot.
const READING_MAX: usize = 4096;

/// A node of a store in a database that other nodes use, too.
///
/// Its connections run on the runtime that opened it. Dropping it without [`Store::close`] finishes the accepted work.
pub struct PostgresStore {
    node: Arc<Node>,
    /// `None` once it is closed.
    senders: Mutex<Option<Senders>>,
    writers: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    looking: mpsc::Sender<Looking>,
    reading: mpsc::Sender<Reading>,
    /// These tasks end with the store.
    keeping: tokio::sync::Mutex<JoinSet<()>>,
    /// Held while a backup is made.
    backing_up: Arc<tokio::sync::Mutex<()>>,
    commit_timeout: Duration,
}

#[derive(Clone)]
struct Senders {
    work: mpsc::Sender<Work>,
    background: mpsc::Sender<Waiting>,
}

impl PostgresStore {
    /// Opens the store, or creates one in an empty database. Call it on the runtime that is to run its connections.
    ///
    /// # Errors
    /// See [`OpenError`]: each variant says what to do.
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let node = open::open(&options).await?;
        let (work, for_work) = mpsc::channel(WAITING_MAX);
        let (background, for_background) = mpsc::channel(BACKGROUND_MAX);
        let (looking, for_looking) = mpsc::channel(LOOKING_MAX);
        let (reading, for_reading) = mpsc::channel(READING_MAX);
        let queue = Arc::new(tokio::sync::Mutex::new(Queue::new(for_work, for_background)));
        let writers = (0..WRITERS).map(|number| {
            let writer = Writer {
                number,
                node: Arc::clone(&node),
                queue: Arc::clone(&queue),
                connection: None,
            };
            tokio::spawn(writer.serve())
        });
        let writers = writers.collect::<Vec<_>>();
        let mut keeping = JoinSet::new();
        keeping.spawn(follower::follow(Arc::clone(&node), for_looking));
        keeping.spawn(follower::beat(Arc::clone(&node)));
        keeping.spawn(follower::make_room(Arc::clone(&node)));
        let callers = Arc::new(tokio::sync::Mutex::new(for_reading));
        for _ in 0..READERS {
            keeping.spawn(reader::serve(Arc::clone(&node), Arc::clone(&callers)));
        }
        Ok(Self {
            node,
            senders: Mutex::new(Some(Senders { work, background })),
            writers: tokio::sync::Mutex::new(writers),
            looking,
            reading,
            keeping: tokio::sync::Mutex::new(keeping),
            backing_up: Arc::default(),
            commit_timeout: options.commit_timeout,
        })
    }

    /// Brings the schema up to date, regardless of the option `migrate`. Returns its version before, 0 if there was
    /// none, and now.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn migrate(options: PostgresOptions) -> Result<(i32, i32), OpenError> {
        let mut options = options;
        options.migrate = Migrate::Auto;
        let connector = connect::Connector::new(&options)?;
        let (_, before) = open::ready(&connector, &options).await?;
        Ok((before, schema::known()))
    }

    /// Marks a schema that was restored from a copy: no node serves it until [`begin_new_log`](Self::begin_new_log),
    /// which the caller uses after it has ended everything in the schema. Opening the schema needs
    /// [`PostgresOptions::restores`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn mark_restoring(options: &PostgresOptions) -> Result<(), OpenError> {
        anew::mark(options).await
    }

    /// Begins a new log, far beyond the log of the copy, in a schema that no process has open, and removes the mark.
    /// Returns the log, and its first group.
    ///
    /// # Errors
    /// See [`OpenError`]: if it fails, the mark stays.
    pub async fn begin_new_log(options: &PostgresOptions) -> Result<(LogId, u64), OpenError> {
        anew::begin(options).await
    }

    fn senders(&self) -> Result<Senders, StoreError> {
        self.senders.lock().clone().ok_or(StoreError::Closed)
    }

    fn waiting(&self, unit: UnitOfWork) -> (Waiting, oneshot::Receiver<Result<Placed, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.commit_timeout;
        let waiting = Waiting {
            unit,
            answer,
            deadline,
        };
        (waiting, answered)
    }

    /// Sends a unit that is committed with others, or by itself once `max_delay` is over.
    async fn transact_behind(&self, unit: UnitOfWork, max_delay: Duration) -> Result<Placed, StoreError> {
        let senders = self.senders()?;
        let (waiting, mut answered) = self.waiting(unit);
        let sent = senders.background.send(waiting).await;
        sent.map_err(|_| StoreError::Closed)?;
        let result = tokio::select! {
            biased;
            result = &mut answered => result,
            () = sleep(max_delay) => {
                let nudged = senders.work.send(Work::Background).await;
                nudged.map_err(|_| StoreError::Closed)?;
                drop(senders);
                answered.await
            }
        };
        result.unwrap_or(Err(StoreError::Closed))
    }
}

#[async_trait]
impl StoreReader for PostgresStore {
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError> {
        self.node.ensure_open()?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let sent = self.reading.send(Reading { reads, answer }).await;
            sent.map_err(|_| StoreError::Closed)?;
            answered.await.unwrap_or(Err(StoreError::Closed))
        };
        // The readers may wait for a connection, one after the other.
        timeout(self.commit_timeout, asked)
            .await
            .unwrap_or_else(|_| Err(read::late(self.commit_timeout)))
    }

    fn nodes(&self) -> Option<&dyn Nodes> {
        Some(self)
    }

    async fn sessions(
        &self,
        index: &SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError> {
        read::sessions(&self.node, index, &page).await
    }

    async fn walk_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError> {
        read::walk(&self.node, visit).await
    }

    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        read::api_keys(&self.node, realm, &page).await
    }

    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.node.ensure_open()?;
        let log = &self.node.log;
        let committed = log.committed();
        if after < log.floor() {
            return Err(StoreError::EventsForgotten);
        }
        let events = if after >= committed || limit == 0 {
            Vec::new()
        } else {
            match log.recent_after(after, committed, limit) {
                Some(events) => events,
                None => read::events(&self.node, after, committed, limit).await?,
            }
        };
        Ok(EventBatch { events, committed })
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        read::audit_page(&self.node, &query).await
    }

    fn log(&self) -> &Log {
        &self.node.log
    }
}

#[async_trait]
impl Nodes for PostgresStore {
    fn name(&self) -> &str {
        &self.node.name
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        let (looking, looked) = oneshot::channel();
        let sent = self.looking.send(looking).await;
        sent.map_err(|_| StoreError::Closed)?;
        looked.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn others(&self) -> Result<Vec<OtherNode>, StoreError> {
        others::nodes(&self.node).await
    }

    async fn alone(&self) -> Result<Alone, StoreError> {
        others::alone(&self.node).await
    }

    async fn tell(
        &self,
        fences: BTreeMap<RealmName, Sequence>,
        report: Option<NodeReport>,
    ) -> Result<(), StoreError> {
        others::tell(&self.node, fences, report.as_ref()).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn transact(&self, unit: UnitOfWork) -> Result<Placed, StoreError> {
        if let Priority::Background { max_delay } = unit.priority() {
            return self.transact_behind(unit, max_delay).await;
        }
        self.node.ensure_open()?;
        let senders = self.senders()?;
        let (waiting, answered) = self.waiting(unit);
        let sent = senders.work.send(Work::Unit(Box::new(waiting))).await;
        sent.map_err(|_| StoreError::Closed)?;
        drop(senders);
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
        self.senders()?;
        purge::purge(&self.node, before, limit).await
    }

    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError> {
        let alone = Arc::clone(&self.backing_up).try_lock_owned();
        let _alone = alone.map_err(|_| BackupError::Busy)?;
        backup::back_up(&self.node, visit).await
    }

    fn health(&self) -> StoreHealth {
        let senders = self.senders.lock();
        let waiting = senders
            .as_ref()
            .map(|senders| senders.work.max_capacity() - senders.work.capacity());
        StoreHealth {
            takes_writes: waiting.is_some() && self.node.ensure_current().is_ok(),
            comes_back: waiting.is_some() && self.node.ensure_open().is_ok(),
            committing_for: self.node.committing_for(),
            group: Some(self.node.durable()),
            waiting: waiting.unwrap_or_default(),
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut writers = self.writers.lock().await;
        drop(self.senders.lock().take().ok_or(StoreError::Closed)?);
        for writer in writers.drain(..) {
            writer.await.map_err(|error| read::failed(&error))?;
        }
        // From now on nothing reports that this node is running.
        self.keeping.lock().await.shutdown().await;
        if !matches!(
            timeout(LEAVE_TIME_MAX, others::leave(&self.node)).await,
            Ok(Ok(()))
        ) {
            tracing::debug!("other nodes find out by themselves that this one has ended");
        }
        self.node.close();
        Ok(())
    }
}
