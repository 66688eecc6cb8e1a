//! The part of the revocation log that is held in memory, and where the audit trail ends: one struct for all backends.

pub(crate) mod cutoff;
mod recent;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};
use tessera_core::{Event, LogId, Revocations, RevokeReason, Sequence, Session, Timestamp};
use tokio::sync::watch;

use self::recent::Recent;
use crate::{
    audit::AuditHead,
    caught::caught,
    record::{CommitObserver, CommittedGroup},
    times::Times,
};

/// The end of the log, its newest events, what is revoked now, and the end of the audit trail.
pub struct Log {
    id: LogId,
    committed: watch::Sender<Sequence>,
    floor: AtomicU64,
    recent: Mutex<Recent>,
    revocations: Arc<RwLock<Revocations>>,
    times: Mutex<Times>,
    purged: Mutex<Option<Timestamp>>,
    audit_head: watch::Sender<AuditHead>,
    observer: RwLock<Option<CommitObserver>>,
}

/// The state of a log when its store is opened.
#[derive(Debug)]
pub struct LogStart {
    /// Its identity.
    pub id: LogId,
    /// The last event.
    pub last: Sequence,
    /// The last event that was removed.
    pub floor: Sequence,
    /// Events from the log's end, in order; those below the floor are left out here.
    pub events: Vec<Arc<Event>>,
    /// What is revoked.
    pub revocations: Revocations,
    /// The times that were last committed.
    pub times: Times,
    /// Up to which time the store is purged.
    pub purged: Option<Timestamp>,
    /// The last record of the audit trail.
    pub audit_head: AuditHead,
}

impl LogStart {
    /// A log without an event.
    #[must_use]
    pub fn empty(id: LogId) -> Self {
        Self {
            id,
            last: Sequence(0),
            floor: Sequence(0),
            events: Vec::new(),
            revocations: Revocations::default(),
            times: Times::default(),
            purged: None,
            audit_head: AuditHead::EMPTY,
        }
    }
}

impl Log {
    /// How many of the newest events are held in memory.
    pub const RECENT_MAX: usize = recent::CAPACITY;

    /// The identity of the log.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The last committed sequence.
    #[must_use]
    pub fn committed(&self) -> Sequence {
        *self.committed.borrow()
    }

    /// The last committed sequence; the receiver is woken when it grows.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Sequence> {
        self.committed.subscribe()
    }

    /// The last event that was removed: the log has everything after it.
    #[must_use]
    pub fn floor(&self) -> Sequence {
        Sequence(self.floor.load(Ordering::SeqCst))
    }

    /// The last audit record that is durable; the receiver is woken when there is a new one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<AuditHead> {
        self.audit_head.subscribe()
    }

    /// The position of the last audit record that is durable.
    #[must_use]
    pub fn audit_position(&self) -> u64 {
        self.audit_head.borrow().position
    }

    /// What is revoked now. An event is applied at the latest when it is durable, and possibly a moment earlier, which
    /// only refuses a token too soon. The lock is held for look-ups only, never across an await.
    #[must_use]
    pub fn revocations(&self) -> &Arc<RwLock<Revocations>> {
        &self.revocations
    }

    /// Why a session ended together with others of its subject, client, label or realm, if it did.
    #[must_use]
    pub fn ended_with_others(&self, session: &Session) -> Option<RevokeReason> {
        self.revocations.read().revokes_session(session)
    }

    /// The times that were last committed.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times.lock().clone()
    }

    /// Calls `observer` for each group that is durable from now on, instead of the previous observer.
    pub fn observe_commits(&self, observer: CommitObserver) {
        *self.observer.write() = Some(observer);
    }

    /// Up to which time the store is purged, kept with the data to within an hour; `None` before the first purge.
    #[must_use]
    pub fn purged_through(&self) -> Option<Timestamp> {
        *self.purged.lock()
    }
}

/// The part for backends.
impl Log {
    /// The log of a store that was opened.
    #[must_use]
    pub fn new(start: LogStart) -> Self {
        let mut recent = Recent::default();
        recent.extend(start.events);
        recent.forget_through(start.floor);
        Self {
            id: start.id,
            committed: watch::Sender::new(start.last),
            floor: AtomicU64::new(start.floor.0),
            recent: Mutex::new(recent),
            revocations: Arc::new(RwLock::new(start.revocations)),
            times: Mutex::new(start.times),
            purged: Mutex::new(start.purged),
            audit_head: watch::Sender::new(start.audit_head),
            observer: RwLock::default(),
        }
    }

    /// Raises the floor. This must happen before the events are removed, so that a reader that misses one finds out
    /// why.
    pub fn raise_floor(&self, floor: Sequence) {
        if self.floor.fetch_max(floor.0, Ordering::SeqCst) < floor.0 {
            self.recent.lock().forget_through(floor);
        }
    }

    /// Applies what an event revokes, which counts until `until`. It must be called before the event is acknowledged.
    pub fn fold(&self, event: &Event, until: Timestamp) {
        self.revocations.write().apply_until(event, until);
    }

    /// Removes the revocations that no longer count.
    pub fn forget_expired(&self, horizon: Timestamp) {
        self.revocations.write().forget_expired(horizon);
    }

    /// Publishes what is durable now: events in order, directly after the earlier ones.
    pub fn publish(&self, events: Vec<Arc<Event>>, times: &Times, purged: Option<Timestamp>) {
        self.times.lock().clone_from(times);
        *self.purged.lock() = purged;
        let Some(last) = events.last().map(|event| event.sequence) else {
            return;
        };
        self.recent.lock().extend(events);
        self.committed.send_replace(last);
    }

    /// Publishes the end of the audit trail that is durable now. An earlier one changes nothing.
    pub fn publish_audit(&self, head: AuditHead) {
        self.audit_head.send_if_modified(|known| {
            let has_grown = known.position < head.position;
            if has_grown {
                *known = head;
            }
            has_grown
        });
    }

    /// Calls the observer for a group that is durable. A panic of the observer does not reach the backend.
    pub fn tell_observer(&self, group: &CommittedGroup<'_>) {
        let observer = self.observer.read().clone();
        if let Some(Err(panic)) = observer.map(|observer| caught(|| observer(group))) {
            tracing::error!(%panic, "the observer of commits failed");
        }
    }

    /// Up to `limit` events after `after` and up to `through`, if the recent events reach that far back.
    #[must_use]
    pub fn recent_after(&self, after: Sequence, through: Sequence, limit: usize) -> Option<Vec<Arc<Event>>> {
        self.recent.lock().after(after, through, limit)
    }
}
