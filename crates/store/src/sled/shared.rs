//! What the readers and the writer share.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::sled::Db;
use tessera_core::{Event, LogId, Revocations, Sequence, Timestamp};
use tokio::sync::watch;

use super::{archive::Place, recent::Recent, rows::Meta};
use crate::{caught::caught, error::StoreError, store::SharedRevocations, times::Times};

pub(super) struct Shared {
    /// None once the store is closed. Readers hold the lock while they read, never across an await, so
    /// that closing it means that nobody reads any more.
    db: RwLock<Option<Db>>,
    healthy: AtomicBool,
    floor: AtomicU64,
    audit_committed: AtomicU64,
    archive: Mutex<Option<Place>>,
    purged: Mutex<Option<Timestamp>>,
    times: Mutex<Times>,
    recent: Mutex<Recent>,
    /// Whether the writer is at a group that somebody waits for.
    is_awaited: Mutex<bool>,
    /// Since when the writer has been at the group that it is at.
    committing: Mutex<Option<Instant>>,
    group: AtomicU64,
    no_longer_awaited: Condvar,
    pub(super) log_id: LogId,
    pub(super) revocations: SharedRevocations,
    pub(super) committed: watch::Sender<Sequence>,
}

/// What the log was when the store was opened.
pub(super) struct OpenedLog {
    pub(super) log_id: LogId,
    pub(super) last: Sequence,
    pub(super) floor: Sequence,
    pub(super) audit_last: u64,
    pub(super) archive: Option<Place>,
    pub(super) purged: Option<Timestamp>,
    pub(super) times: Times,
    /// The number of the last group.
    pub(super) group: u64,
    pub(super) recent: Recent,
    pub(super) revocations: Revocations,
}

impl Shared {
    pub(super) fn new(db: Db, log: OpenedLog) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            healthy: AtomicBool::new(true),
            floor: AtomicU64::new(log.floor.0),
            audit_committed: AtomicU64::new(log.audit_last),
            archive: Mutex::new(log.archive),
            purged: Mutex::new(log.purged),
            times: Mutex::new(log.times),
            recent: Mutex::new(log.recent),
            is_awaited: Mutex::new(false),
            committing: Mutex::new(None),
            group: AtomicU64::new(log.group),
            no_longer_awaited: Condvar::new(),
            log_id: log.log_id,
            revocations: Arc::new(RwLock::new(log.revocations)),
            committed: watch::Sender::new(log.last),
        }
    }

    /// Reads the rows. A failure, unlike an answer that the caller must handle, ends the store's life.
    pub(super) fn read<T>(&self, act: impl FnOnce(&Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or(StoreError::Closed)?;
        let result = caught(|| act(db)).unwrap_or_else(|panic| Err(StoreError::Failed { detail: panic }));
        if let Err(error @ (StoreError::Failed { .. } | StoreError::Damaged { .. })) = &result {
            self.fail(error);
        }
        result
    }

    pub(super) fn ensure_open(&self) -> Result<(), StoreError> {
        self.read(|_| Ok(()))
    }

    /// Takes the rows away from the readers, once the last of them is done. Answers whether the store
    /// was healthy until now.
    pub(super) fn close(&self) -> bool {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Err(panic) = caught(move || drop(db)) {
            tracing::error!(%panic, "closing the rows failed");
        }
        self.healthy.swap(false, Ordering::SeqCst)
    }

    /// Notes that the store takes no more writes.
    pub(super) fn fail(&self, error: &StoreError) {
        if self.healthy.swap(false, Ordering::SeqCst) {
            tracing::error!(%error, "the store takes no more writes until it is reopened");
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }

    pub(super) fn committed(&self) -> Sequence {
        *self.committed.borrow()
    }

    pub(super) fn floor(&self) -> Sequence {
        Sequence(self.floor.load(Ordering::SeqCst))
    }

    /// Raised before the events go, so that a reader who misses one finds out why.
    pub(super) fn raise_floor(&self, floor: Sequence) {
        if self.floor.fetch_max(floor.0, Ordering::SeqCst) < floor.0 {
            self.recent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .forget_through(floor);
        }
    }

    /// The last position of the audit trail that is durable.
    pub(super) fn audit_committed(&self) -> u64 {
        self.audit_committed.load(Ordering::SeqCst)
    }

    /// Where the records of the audit trail are that left the rows.
    pub(super) fn archive(&self) -> Option<Place> {
        *self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Set before the records leave the rows, so that a reader who misses one there knows where it is.
    pub(super) fn set_archive(&self, archive: Option<Place>) {
        *self.archive.lock().unwrap_or_else(PoisonError::into_inner) = archive;
    }

    /// How far purging has come.
    pub(super) fn purged(&self) -> Option<Timestamp> {
        *self.purged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the writer is at a group that somebody waits for.
    pub(super) fn set_awaited(&self, is_awaited: bool) {
        *self.is_awaited.lock().unwrap_or_else(PoisonError::into_inner) = is_awaited;
        if !is_awaited {
            self.no_longer_awaited.notify_all();
        }
    }

    /// Notes that the writer begins with a group, or is done with it.
    pub(super) fn set_committing(&self, is_committing: bool) {
        *self.committing.lock().unwrap_or_else(PoisonError::into_inner) = is_committing.then(Instant::now);
    }

    /// For how long the writer has been at one group.
    pub(super) fn committing_for(&self) -> Option<Duration> {
        let since = *self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// The number of the last group that is durable.
    pub(super) fn group(&self) -> u64 {
        self.group.load(Ordering::SeqCst)
    }

    /// Waits while the writer is at a group that somebody waits for, but no longer than `longest`.
    pub(super) fn give_way(&self, longest: Duration) {
        let is_awaited = self.is_awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .no_longer_awaited
            .wait_timeout_while(is_awaited, longest, |is_awaited| *is_awaited);
        drop(waited);
    }

    /// What is known of times.
    pub(super) fn times(&self) -> Times {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes what is durable now.
    pub(super) fn publish(&self, events: Vec<Arc<Event>>, meta: &Meta, times: &Times) {
        self.times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(times);
        self.group.store(meta.group, Ordering::SeqCst);
        self.audit_committed.store(meta.audit_last, Ordering::SeqCst);
        *self.purged.lock().unwrap_or_else(PoisonError::into_inner) = meta.purged;
        let Some(last) = events.last().map(|event| event.sequence) else {
            return;
        };
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(events);
        self.committed.send_replace(last);
    }

    /// Events after `after`, where the recent ones reach that far back.
    pub(super) fn recent_after(
        &self,
        after: Sequence,
        through: Sequence,
        limit: usize,
    ) -> Option<Vec<Arc<Event>>> {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .after(after, through, limit)
    }
}

#[cfg(test)]
mod tests;
