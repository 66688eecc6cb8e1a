//! The state that the readers and the writer share.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, RwLock};
use sled::Db;
use tessera_core::PolicyRevision;
use tessera_store::{Log, StoreError, backend::caught};

use super::{
    api_keys::ApiKeys,
    archive::Place,
    rows::Meta,
    state::{Finished, State},
};

pub(super) struct Shared {
    /// `None` once the store is closed. Readers hold the lock while they read, never across an await, so a close waits
    /// until no reader is left.
    db: RwLock<Option<Db>>,
    healthy: AtomicBool,
    archive: Mutex<Option<Place>>,
    policy: Mutex<Option<PolicyRevision>>,
    /// Whether the writer works on a group that a caller waits for.
    is_awaited: Mutex<bool>,
    /// When the writer began its current group.
    committing: Mutex<Option<Instant>>,
    group: AtomicU64,
    no_longer_awaited: Condvar,
    pub(super) api_keys: ApiKeys,
    pub(super) log: Log,
}

impl Shared {
    pub(super) fn new(db: Db, log: Log, meta: &Meta, policy: Option<PolicyRevision>) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            healthy: AtomicBool::new(true),
            archive: Mutex::new(meta.archive),
            policy: Mutex::new(policy),
            is_awaited: Mutex::new(false),
            committing: Mutex::new(None),
            group: AtomicU64::new(meta.group),
            no_longer_awaited: Condvar::new(),
            api_keys: ApiKeys::default(),
            log,
        }
    }

    /// Reads the rows. A failure ends the store, unlike an error that the caller must handle.
    pub(super) fn read<T>(&self, act: impl FnOnce(&Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let guard = self.db.read();
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

    /// Takes the rows from the readers, once the last reader is done. Returns whether the store was healthy until now.
    pub(super) fn close(&self) -> bool {
        let db = self.db.write().take();
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

    /// The last position of the audit trail that is durable.
    pub(super) fn audit_committed(&self) -> u64 {
        self.log.audit_position()
    }

    /// Where the audit records are that left the rows.
    pub(super) fn archive(&self) -> Option<Place> {
        *self.archive.lock()
    }

    /// This must be set before the records leave the rows, so that a reader that misses one there knows where it is.
    pub(super) fn set_archive(&self, archive: Option<Place>) {
        *self.archive.lock() = archive;
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> Option<PolicyRevision> {
        *self.policy.lock()
    }

    /// Notes whether the writer works on a group that a caller waits for.
    pub(super) fn set_awaited(&self, is_awaited: bool) {
        *self.is_awaited.lock() = is_awaited;
        if !is_awaited {
            self.no_longer_awaited.notify_all();
        }
    }

    /// Notes that the writer begins a group, or has finished it.
    pub(super) fn set_committing(&self, is_committing: bool) {
        *self.committing.lock() = is_committing.then(Instant::now);
    }

    /// How long the writer has worked on its current group.
    pub(super) fn committing_for(&self) -> Option<Duration> {
        self.committing.lock().map(|since| since.elapsed())
    }

    /// The number of the last group that is durable.
    pub(super) fn group(&self) -> u64 {
        self.group.load(Ordering::SeqCst)
    }

    /// Waits while the writer works on a group that a caller waits for, but no longer than `longest`.
    pub(super) fn give_way(&self, longest: Duration) {
        let mut is_awaited = self.is_awaited.lock();
        self.no_longer_awaited
            .wait_while_for(&mut is_awaited, |is_awaited| *is_awaited, longest);
    }

    /// Publishes what is durable now, and returns the state with which the writer continues.
    pub(super) fn publish(&self, finished: Finished) -> State {
        let Finished { events, state, .. } = finished;
        self.group.store(state.meta.group, Ordering::SeqCst);
        self.log.publish_audit(state.meta.audit);
        self.policy.lock().clone_from(&state.policy);
        self.log.publish(events, &state.times, state.meta.purged);
        state
    }
}

#[cfg(test)]
mod tests;
