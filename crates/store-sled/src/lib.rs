//! The store on sled: one tree, one writer, one sync for all waiting units, and a seal against damage.
#![forbid(unsafe_code)]

mod api_keys;
mod archive;
mod archiving;
mod aside;
mod audit_rows;
mod backup;
mod changes;
mod checked;
mod committer;
mod contents;
mod directory;
mod disk;
mod error;
mod expiring_requests;
mod group;
mod lists;
mod open;
mod options;
mod progress;
mod purge;
mod read;
mod restore;
mod rows;
mod scan;
mod seal;
mod shared;
mod state;
mod state_hash;
mod syncing;
mod walk;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use sled::Db;
use tessera_core::{ApiKey, ApiKeyId, RealmName, Sequence, SessionId, Timestamp};
use tessera_store::{
    AuditPage, AuditQuery, BackupEnd, BackupError, BackupVisitor, EventBatch, Log, Page, PageRequest, Placed,
    Priority, PurgeBefore, PurgeReport, Reads, SessionIndex, SessionVisitor, Snapshot, Store, StoreError,
    StoreHealth, StoreReader, StoredSession, UnitOfWork,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use self::{
    archiving::Archiver,
    committer::{Answer, Waiting, Work},
    error::failed,
    open::WhichLog,
    purge::Purge,
    shared::Shared,
    state::State,
};
pub use self::{
    contents::Contents, error::OpenError, options::SledOptions, progress::StartProgress, restore::SledRestore,
};

/// How many units may wait for the writer; further callers wait for a slot.
const WAITING_MAX: usize = 4096;
/// How many background units may wait for the commits of others at once.
const BACKGROUND_MAX: usize = 8;

/// How many chunks of audit records one purge moves to files.
const CHUNKS_MAX: usize = 64;

/// A store in a directory of this machine, for one process.
///
/// Dropping it without [`Store::close`] also finishes the accepted work, but can't report whether that succeeded.
pub struct SledStore {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    work: Option<mpsc::Sender<Work>>,
    background: mpsc::Sender<Work>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
    archiver: Archiver,
    /// Held while a backup is made.
    backing_up: Arc<tokio::sync::Mutex<()>>,
}

impl SledStore {
    /// Opens the store in the directory `path`, or creates one if there is nothing. Reads every row once, to check that
    /// the rows are those that were last committed; so it blocks.
    ///
    /// # Errors
    /// See [`OpenError`]: each variant says what to do.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open(path: &Path, options: SledOptions) -> Result<Self, OpenError> {
        Self::open_with(path, &options, WhichLog::Same, &StartProgress::default(), |_| {
            Ok(())
        })
    }

    /// The same, while `progress` reports its progress. First, the content (`None` in a new directory) must be
    /// accepted: a directory that is refused stays byte for byte unchanged, and the refusal is returned.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open_checked<E>(
        path: &Path,
        options: SledOptions,
        progress: &StartProgress,
        accepts: impl FnOnce(Option<&Contents>) -> Result<(), E>,
    ) -> Result<Result<Self, E>, OpenError> {
        let mut refusal = None;
        let opened = Self::open_with(path, &options, WhichLog::Same, progress, |contents| {
            accepts(contents).map_err(|error| {
                refusal = Some(error);
                OpenError::Refused {
                    path: path.to_owned(),
                }
            })
        });
        match refusal {
            Some(refusal) => Ok(Err(refusal)),
            None => opened.map(Ok),
        }
    }

    /// Opens a directory that was restored from a copy, to begin another log: cursors of the earlier log are foreign to
    /// it, and each position in it is after all of theirs. The first group that is written makes that durable, together
    /// with its own writes; until then the directory is unchanged.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open_restored(path: &Path, options: SledOptions) -> Result<Self, OpenError> {
        Self::open_with(path, &options, WhichLog::New, &StartProgress::default(), |_| {
            Ok(())
        })
    }

    /// Rewrites the live rows of the directory `path`, so that removed rows take no space. No other process may have it
    /// open. Returns how many bytes the rows took before and take now.
    ///
    /// # Errors
    /// See [`OpenError`]: if it fails, the directory is unchanged.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn compact(path: &Path, options: SledOptions) -> Result<(u64, u64), OpenError> {
        open::compact(path, &options)
    }

    fn open_with(
        path: &Path,
        options: &SledOptions,
        log: WhichLog,
        progress: &StartProgress,
        accepts: impl FnOnce(Option<&Contents>) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let open = || open::open(path, options, log, progress, accepts);
        let (disk, shared, meta) = progress.told(open)?;
        let state = State {
            meta,
            times: shared.log.times(),
            policy: shared.policy(),
        };
        let archiver = Archiver::new(disk.audit_path(), options.audit_rows_max);
        let (work, for_work) = mpsc::channel(WAITING_MAX);
        let (background, for_background) = mpsc::channel(BACKGROUND_MAX);
        let waiting = Waiting {
            work: for_work,
            background: for_background,
        };
        let writer =
            committer::start(disk, Arc::clone(&shared), state, waiting).map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            shared,
            work: Some(work),
            background,
            writer: Arc::new(Mutex::new(Some(writer))),
            archiver,
            backing_up: Arc::default(),
        })
    }

    /// Sends work to the writer and waits for its answer.
    async fn ask<T>(&self, work: impl FnOnce(Answer<T>) -> Work) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(work(answer)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Moves audit records from the rows to files, and removes files that are too old. Returns whether there is more to
    /// do.
    async fn archive(&self, before: Timestamp) -> Result<bool, StoreError> {
        let _archiving = self.archiver.alone().await;
        for _ in 0..CHUNKS_MAX {
            let Some(archived) = self.archiver.next(&self.shared, before).await? else {
                return Ok(false);
            };
            let file = archived.file_to_remove();
            self.ask(|answer| Work::Archived { archived, answer }).await?;
            if let Some(file) = file {
                self.archiver.remove(file).await?;
            }
        }
        Ok(true)
    }

    /// Sends a unit that is committed with others, or by itself once `max_delay` is over.
    async fn transact_behind(&self, unit: UnitOfWork, max_delay: Duration) -> Result<Placed, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        let sent = self.background.send(Work::Unit { unit, answer }).await;
        sent.map_err(|_| StoreError::Closed)?;
        let result = tokio::select! {
            biased;
            result = &mut answered => result,
            () = sleep(max_delay) => {
                self.send(Work::Background).await?;
                answered.await
            }
        };
        result.unwrap_or(Err(StoreError::Closed))
    }

    async fn send(&self, work: Work) -> Result<(), StoreError> {
        let sender = self.work.as_ref().ok_or(StoreError::Closed)?;
        sender.send(work).await.map_err(|_| StoreError::Closed)
    }

    /// Reads pages outside the runtime's threads, since they may come from the disk.
    async fn read_apart<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Db, &Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(|db| act(db, &shared)))
            .await
            .unwrap_or_else(|error| Err(error::failed(error)))
    }
}

#[async_trait]
impl StoreReader for SledStore {
    async fn read(&self, reads: Reads) -> Result<Snapshot, StoreError> {
        if read::is_long(&reads) {
            return self
                .read_apart(move |db, shared| read::snapshot(db, shared, &reads))
                .await;
        }
        // On the caller's thread: it takes microseconds, and most rows are in the cache.
        self.shared.read(|db| read::snapshot(db, &self.shared, &reads))
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let shared = &self.shared;
        shared.read(|db| shared.api_keys.get(id, || read::api_key(db, id)))
    }

    async fn sessions(
        &self,
        index: &SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<StoredSession, SessionId>, StoreError> {
        let list = rows::list_of(index);
        self.read_apart(move |db, shared| read::sessions(db, shared, &list, &page))
            .await
    }

    async fn walk_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError> {
        walk::start(Arc::clone(&self.shared), visit).await
    }

    async fn api_keys(
        &self,
        realm: &RealmName,
        page: PageRequest<ApiKeyId>,
    ) -> Result<Page<ApiKey, ApiKeyId>, StoreError> {
        let realm = realm.clone();
        self.read_apart(move |db, _| read::api_keys(db, &realm, &page))
            .await
    }

    async fn events(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.shared.ensure_open()?;
        let log = &self.shared.log;
        // Later events may be applied and not yet durable: they are not shown.
        let committed = log.committed();
        if after < log.floor() {
            return Err(StoreError::EventsForgotten);
        }
        if after >= committed || limit == 0 {
            return Ok(EventBatch {
                events: Vec::new(),
                committed,
            });
        }
        let events = match log.recent_after(after, committed, limit) {
            Some(events) => events,
            None => {
                self.read_apart(move |db, shared| read::events(db, shared, after, committed, limit))
                    .await?
            }
        };
        Ok(EventBatch { events, committed })
    }

    async fn audit_page(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let (shared, archive) = (Arc::clone(&self.shared), self.archiver.archive().clone());
        tokio::task::spawn_blocking(move || archiving::page(&shared, &archive, &query))
            .await
            .unwrap_or_else(|error| Err(failed(error)))
    }

    fn log(&self) -> &Log {
        &self.shared.log
    }
}

#[async_trait]
impl Store for SledStore {
    async fn transact(&self, unit: UnitOfWork) -> Result<Placed, StoreError> {
        match unit.priority() {
            Priority::Foreground => self.ask(|answer| Work::Unit { unit, answer }).await,
            Priority::Background { max_delay } => self.transact_behind(unit, max_delay).await,
        }
    }

    async fn purge(&self, before: PurgeBefore, limit: usize) -> Result<PurgeReport, StoreError> {
        let mut total = PurgeReport::default();
        let mut left = limit;
        loop {
            let purge = Purge {
                before,
                limit: left.min(purge::STEP),
            };
            let step = self.ask(|answer| Work::Purge { purge, answer }).await?;
            total.sessions += step.sessions;
            total.events += step.events;
            total.records += step.records;
            total.more = step.more;
            left = left.saturating_sub(purge::STEP);
            if !step.more || left == 0 {
                break;
            }
        }
        self.shared.log.forget_expired(before.horizon);
        match self.archive(before.audit).await {
            Ok(more) => total.more |= more,
            // Audit records stay in the rows until their files can be written; the rest of the purge continues.
            Err(error) if self.shared.is_healthy() => {
                tracing::warn!(%error, "audit records stay where they are until their files can be written");
            }
            Err(error) => return Err(error),
        }
        Ok(total)
    }

    async fn back_up(&self, visit: BackupVisitor) -> Result<BackupEnd, BackupError> {
        let alone = Arc::clone(&self.backing_up).try_lock_owned();
        let alone = alone.map_err(|_| BackupError::Busy)?;
        let writer = self.work.as_ref().ok_or(StoreError::Closed)?.downgrade();
        let archive = self.archiver.archive().clone();
        backup::start(Arc::clone(&self.shared), archive, writer, visit, alone).await
    }

    fn health(&self) -> StoreHealth {
        StoreHealth {
            takes_writes: self.shared.is_healthy(),
            comes_back: false,
            committing_for: self.shared.committing_for(),
            group: Some(self.shared.group()),
            waiting: self
                .work
                .as_ref()
                .map_or(0, |work| work.max_capacity() - work.capacity()),
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        let closed = self.ask(|answer| Work::Close { answer }).await;
        let writer = Arc::clone(&self.writer);
        // The thread is at its end, but until it has exited it may hold the directory.
        let joined = tokio::task::spawn_blocking(move || join(&writer)).await;
        closed.and(joined.map_err(failed))
    }
}

impl Drop for SledStore {
    /// Waits for the writer to finish its work. That takes no longer than a close, and no more work can be sent.
    fn drop(&mut self) {
        self.work = None;
        join(&self.writer);
    }
}

fn join(writer: &Mutex<Option<JoinHandle<()>>>) {
    let Some(writer) = writer.lock().take() else {
        return;
    };
    // A unit that holds the last handle to its own store drops the store on the writer's thread.
    if writer.thread().id() != thread::current().id() && writer.join().is_err() {
        tracing::error!("the store's writer panicked");
    }
}
