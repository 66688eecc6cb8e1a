//! The store on sled: one tree, one writer, one sync for all that wait, and a seal against damage.

mod archive;
mod archiving;
mod aside;
mod checked;
mod committer;
mod directory;
mod disk;
mod open;
mod purge;
mod read;
mod recent;
mod rows;
mod scan;
mod seal;
mod shared;
mod stage;
mod state_hash;
mod visit;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use ::sled::Db;
use async_trait::async_trait;
use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, Event, LogId, PolicyRevision, RealmName, Sequence, Session,
    SessionId, SigningKey, Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    archiving::Archiver,
    committer::{Answer, Waiting, Work},
    open::Log,
    purge::Purge,
    shared::Shared,
};
use crate::{
    error::{OpenError, StoreError},
    store::{
        EventBatch, Job, Page, PageRequest, Patience, PolicyFiles, PurgeReport, SessionIndex, SessionVisitor,
        SharedRevocations, Store,
    },
    times::Times,
};

/// How many jobs may wait for the writer; whoever comes later waits for a place.
const WAITING_MAX: usize = 4096;
/// How many jobs may go with those of others at once.
const PATIENT_MAX: usize = 8;

/// How many chunks of audit records one purge moves to files.
const CHUNKS_MAX: usize = 64;

/// How a [`SledStore`] uses the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// How much of the rows is held in memory, in bytes.
    pub cache_capacity_bytes: u64,
    /// How many audit records the rows keep at most after a purge; those before are in files of their own.
    pub audit_rows_max: u64,
}

/// A store in a directory of this machine, for one process.
///
/// Dropping it without [`Store::close`] finishes what was accepted, too, but can't tell whether that
/// succeeded.
pub struct SledStore {
    shared: Arc<Shared>,
    /// None only while it is dropped.
    work: Option<mpsc::Sender<Work>>,
    patient: mpsc::Sender<Work>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
    archiver: Archiver,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_capacity_bytes: 128 * 1024 * 1024,
            audit_rows_max: 4096,
        }
    }
}

impl SledStore {
    /// Opens the store in the directory `path`, or makes one where there is nothing. Reads every row
    /// once, to check that they are those that were last committed; so it blocks.
    ///
    /// # Errors
    /// See [`OpenError`]: each says what to do.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open(path: &Path, options: SledOptions) -> Result<Self, OpenError> {
        Self::open_with(path, &options, Log::Same)
    }

    /// Opens a directory that was restored from a copy, to begin another log: cursors of the one before are
    /// foreign to it, and each place in it is after all of theirs. The first group that is written makes
    /// that durable, together with what it writes itself; until then the directory is as it was.
    ///
    /// # Errors
    /// See [`OpenError`].
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn open_restored(path: &Path, options: SledOptions) -> Result<Self, OpenError> {
        Self::open_with(path, &options, Log::New)
    }

    /// Writes the live rows of the directory `path` anew, so that those which are gone take no space. No other
    /// process may have it open. Answers how many bytes the rows took before and take now.
    ///
    /// # Errors
    /// See [`OpenError`]: the directory is as it was where it fails.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for one call")]
    pub fn compact(path: &Path, options: SledOptions) -> Result<(u64, u64), OpenError> {
        open::compact(path, &options)
    }

    fn open_with(path: &Path, options: &SledOptions, log: Log) -> Result<Self, OpenError> {
        let (disk, shared, meta) = open::open(path, options, log)?;
        let archiver = Archiver::new(disk.audit_path(), options.audit_rows_max);
        let (work, for_work) = mpsc::channel(WAITING_MAX);
        let (patient, for_patient) = mpsc::channel(PATIENT_MAX);
        let waiting = Waiting {
            work: for_work,
            patient: for_patient,
        };
        let writer =
            committer::start(disk, Arc::clone(&shared), meta, waiting).map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            shared,
            work: Some(work),
            patient,
            writer: Arc::new(Mutex::new(Some(writer))),
            archiver,
        })
    }

    /// Hands work to the writer and waits for its answer.
    async fn ask<T>(&self, work: impl FnOnce(Answer<T>) -> Work) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.send(work(answer)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Moves audit records from the rows to files, and removes the files that are too old. Answers whether there
    /// is more to do.
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

    async fn send(&self, work: Work) -> Result<(), StoreError> {
        let sender = self.work.as_ref().ok_or(StoreError::Closed)?;
        sender.send(work).await.map_err(|_| StoreError::Closed)
    }

    /// Reads pages off the runtime's threads: they may come from the disk.
    async fn read_apart<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Db, &Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(|db| act(db, &shared)))
            .await
            .unwrap_or_else(|error| Err(disk::failed(error)))
    }
}

// Point reads run on the caller's thread: they take microseconds, and the cache has most. They may see a
// group that is applied and not yet durable. Whoever decides by what he reads decides again within his
// job; whoever only looks learns of something a moment before the one who did it.
#[async_trait]
impl Store for SledStore {
    async fn run(&self, job: Job) -> Result<(), StoreError> {
        self.ask(|answer| Work::Job { job, answer }).await
    }

    async fn run_patiently(&self, job: Job, patience: Patience) -> Result<(), StoreError> {
        let (answer, mut answered) = oneshot::channel();
        let sent = self.patient.send(Work::Job { job, answer }).await;
        sent.map_err(|_| StoreError::Closed)?;
        let result = tokio::select! {
            biased;
            result = &mut answered => result,
            () = patience => {
                self.send(Work::Patience).await?;
                answered.await
            }
        };
        result.unwrap_or(Err(StoreError::Closed))
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.shared.read(|db| read::session(db, id))
    }

    async fn sessions(
        &self,
        index: SessionIndex,
        page: PageRequest<SessionId>,
    ) -> Result<Page<Session, SessionId>, StoreError> {
        self.read_apart(move |db, _| read::sessions(db, &index, &page))
            .await
    }

    async fn visit_sessions(&self, visit: SessionVisitor) -> Result<(), StoreError> {
        visit::start(Arc::clone(&self.shared), visit).await
    }

    async fn policy(&self, revision: &PolicyRevision) -> Result<Option<PolicyFiles>, StoreError> {
        let revision = revision.clone();
        self.read_apart(move |db, _| read::policy(db, &revision)).await
    }

    async fn reconciled_policy(&self) -> Result<Option<PolicyRevision>, StoreError> {
        self.shared.read(read::reconciled_policy)
    }

    async fn staleness_bounds(&self) -> Result<BTreeMap<RealmName, Duration>, StoreError> {
        self.shared.read(read::staleness_bounds)
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.shared.read(|db| read::api_key(db, id))
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

    async fn disabled_clients(&self) -> Result<Vec<(RealmName, ClientName)>, StoreError> {
        self.shared.read(read::disabled_clients)
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.shared.read(read::signing_keys)
    }

    async fn events_after(&self, after: Sequence, limit: usize) -> Result<EventBatch, StoreError> {
        self.shared.ensure_open()?;
        // Events beyond this may be applied and not yet durable: nobody is shown them.
        let committed = self.shared.committed();
        if after < self.shared.floor() {
            return Err(StoreError::EventsForgotten);
        }
        if after >= committed || limit == 0 {
            return Ok(EventBatch {
                events: Vec::new(),
                committed,
            });
        }
        let events = match self.shared.recent_after(after, committed, limit) {
            Some(events) => events,
            None => {
                self.read_apart(move |db, shared| read::events(db, shared, after, committed, limit))
                    .await?
            }
        };
        Ok(EventBatch { events, committed })
    }

    async fn events_left(&self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.read_apart(|db, shared| read::events_left(db, shared.floor()))
            .await
    }

    async fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let (shared, archive) = (Arc::clone(&self.shared), self.archiver.archive().clone());
        tokio::task::spawn_blocking(move || archiving::records(&shared, &archive, after, limit))
            .await
            .unwrap_or_else(|error| Err(disk::failed(error)))
    }

    fn events_floor(&self) -> Sequence {
        self.shared.floor()
    }

    fn purged_through(&self) -> Option<Timestamp> {
        self.shared.purged()
    }

    fn times(&self) -> Times {
        self.shared.times()
    }

    fn revocations(&self) -> &SharedRevocations {
        &self.shared.revocations
    }

    fn committed(&self) -> watch::Receiver<Sequence> {
        self.shared.committed.subscribe()
    }

    fn log_id(&self) -> LogId {
        self.shared.log_id
    }

    async fn purge(
        &self,
        horizon: Timestamp,
        audit_before: Timestamp,
        limit: usize,
    ) -> Result<PurgeReport, StoreError> {
        let mut total = PurgeReport::default();
        let mut left = limit;
        loop {
            let purge = Purge {
                horizon,
                audit_before,
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
        purge::forget(&self.shared.revocations, horizon);
        total.more |= self.archive(audit_before).await?;
        Ok(total)
    }

    fn group(&self) -> Option<u64> {
        Some(self.shared.group())
    }

    fn committing_for(&self) -> Option<Duration> {
        self.shared.committing_for()
    }

    fn is_healthy(&self) -> bool {
        self.shared.is_healthy()
    }

    async fn close(&self) -> Result<(), StoreError> {
        let closed = self.ask(|answer| Work::Close { answer }).await;
        let writer = Arc::clone(&self.writer);
        // The thread is at its end, but until it is over it may hold the directory.
        let joined = tokio::task::spawn_blocking(move || join(&writer)).await;
        closed.and(joined.map_err(disk::failed))
    }
}

impl Drop for SledStore {
    /// Waits for the writer to finish what it has. That takes no longer than a close, and nobody can
    /// send it more.
    fn drop(&mut self) {
        self.work = None;
        join(&self.writer);
    }
}

fn join(writer: &Mutex<Option<JoinHandle<()>>>) {
    let Some(writer) = writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    // A job that holds the last handle to its own store drops it on the writer's thread.
    if writer.thread().id() != thread::current().id() && writer.join().is_err() {
        tracing::error!("the store's writer panicked");
    }
}
