//! The revocation log as far as it is held in memory: one struct for all backends.

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
    caught::caught,
    record::{CommitObserver, CommittedGroup},
    times::Times,
};

/// Where the log is, its newest events, and what is revoked now.
pub struct Log {
    id: LogId,
    committed: watch::Sender<Sequence>,
    floor: AtomicU64,
    recent: Mutex<Recent>,
    revocations: Arc<RwLock<Revocations>>,
    times: Mutex<Times>,
    purged: Mutex<Option<Timestamp>>,
    observer: RwLock<Option<CommitObserver>>,
}

/// What a log is when its store is opened.
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
    /// What was last committed of times.
    pub times: Times,
    /// How far purging has come.
    pub purged: Option<Timestamp>,
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

    /// What is revoked now. Folded in no later than it is durable; possibly a moment earlier, which
    /// only refuses too soon. The lock is held for look-ups only, never across an await.
    #[must_use]
    pub fn revocations(&self) -> &Arc<RwLock<Revocations>> {
        &self.revocations
    }

    /// Why a session ended together with others of its subject, client, label or realm, if it did.
    #[must_use]
    pub fn ended_with_others(&self, session: &Session) -> Option<RevokeReason> {
        self.revocations.read().revokes_session(session)
    }

    /// What was last committed of times.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times.lock().clone()
    }

    /// Tells `observer` of each group that is durable from now on, instead of the previous observer.
    pub fn observe_commits(&self, observer: CommitObserver) {
        *self.observer.write() = Some(observer);
    }

    /// How far purging has come, kept with the data to within an hour; none before the first.
    #[must_use]
    pub fn purged_through(&self) -> Option<Timestamp> {
        *self.purged.lock()
    }
}

/// What backends do with it.
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
            observer: RwLock::default(),
        }
    }

    /// Raises the floor: before the events go, so that a reader who misses one finds out why.
    pub fn raise_floor(&self, floor: Sequence) {
        if self.floor.fetch_max(floor.0, Ordering::SeqCst) < floor.0 {
            self.recent.lock().forget_through(floor);
        }
    }

    /// Folds in what an event revokes, which counts until `until`: at the latest before it is answered.
    pub fn fold(&self, event: &Event, until: Timestamp) {
        self.revocations.write().apply_until(event, until);
    }

    /// Forgets what no longer counts.
    pub fn forget_expired(&self, horizon: Timestamp) {
        self.revocations.write().forget_expired(horizon);
    }

    /// Shows what is durable now: events in order, right after those before.
    pub fn publish(&self, events: Vec<Arc<Event>>, times: &Times, purged: Option<Timestamp>) {
        self.times.lock().clone_from(times);
        *self.purged.lock() = purged;
        let Some(last) = events.last().map(|event| event.sequence) else {
            return;
        };
        self.recent.lock().extend(events);
        self.committed.send_replace(last);
    }

    /// Tells the observer of a group that is durable. A panic of the observer does not reach the backend.
    pub fn tell_observer(&self, group: &CommittedGroup<'_>) {
        let observer = self.observer.read().clone();
        if let Some(Err(panic)) = observer.map(|observer| caught(|| observer(group))) {
            tracing::error!(%panic, "the observer of commits failed");
        }
    }

    /// Up to `limit` events after `after` and up to `through`, where the recent ones reach that far back.
    #[must_use]
    pub fn recent_after(&self, after: Sequence, through: Sequence, limit: usize) -> Option<Vec<Arc<Event>>> {
        self.recent.lock().after(after, through, limit)
    }
}
