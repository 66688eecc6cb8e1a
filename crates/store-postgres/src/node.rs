//! The state of a node: up to where it has applied the log, and whether it may answer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Pool, PoolError};
use parking_lot::Mutex;
use tessera_core::{Event, LogId, Timestamp};
use tessera_store::{AuditHead, CutoffKey, Log, StoreError, Times, backend::decode};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    beats::Beats,
    connect::{Connector, Query},
    error::Failure,
    partition::Room,
    state::{Found, State, damaged, get, number, unsigned},
};

/// How many connections write in turn, so that the lock passes between them without a round trip.
pub(crate) const WRITERS: usize = 2;

/// A stored event, and how long its cutoff counts.
pub(crate) struct Kept {
    pub(crate) event: Arc<Event>,
    pub(crate) counts_until: Timestamp,
}

/// The state that the committer, the follower and the readers share.
pub(crate) struct Node {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) connector: Connector,
    pub(crate) pool: Pool,
    applied: Mutex<Applied>,
    pub(crate) beats: Beats,
    beat: AtomicU64,
    pub(crate) room: Room,
    /// The last group that is known to be durable. A later group that is not durable may be visible: its wait for a
    /// standby was cancelled.
    durable: AtomicU64,
    is_open: AtomicBool,
    went_back: Mutex<Option<String>>,
    /// When each writer began its current group.
    committing: Mutex<[Option<Instant>; WRITERS]>,
}

struct Applied {
    state: State,
    /// How long the events that end sessions count.
    cutoffs: HashMap<CutoffKey, Timestamp>,
    unshown: VecDeque<Unshown>,
}

/// Events and audit records that are applied here, and not published yet: it is not known whether they are durable. A
/// group whose wait for a standby was cancelled is visible on this server, and lost with it. A cursor after it would
/// then be ahead of the log, and a receiver would have audit records of events that did not happen.
struct Unshown {
    /// The group that they belong to, or a later one.
    number: u64,
    events: Vec<Arc<Event>>,
    times: Times,
    purged: Option<Timestamp>,
    audit: AuditHead,
}

impl Node {
    pub(crate) fn new(
        connector: Connector,
        pool: Pool,
        (id, name): (Uuid, String),
        log: Log,
        state: State,
        cutoffs: HashMap<CutoffKey, Timestamp>,
    ) -> Self {
        Self {
            id,
            name,
            log,
            connector,
            pool,
            applied: Mutex::new(Applied {
                state,
                cutoffs,
                unshown: VecDeque::new(),
            }),
            beats: Beats::default(),
            beat: AtomicU64::default(),
            room: Room::default(),
            durable: AtomicU64::default(),
            is_open: AtomicBool::new(true),
            went_back: Mutex::default(),
            committing: Mutex::default(),
        }
    }

    /// The last group that is applied here.
    pub(crate) fn state(&self) -> State {
        self.applied.lock().state.clone()
    }

    /// What is known before a trip to the database.
    pub(crate) fn before(&self) -> Before {
        Before {
            beat: self.beats.last(),
            state: self.state(),
        }
    }

    /// The number of the next heartbeat.
    pub(crate) fn next_beat(&self) -> u64 {
        self.beat.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    pub(crate) fn cutoff(&self, key: &CutoffKey) -> Option<Timestamp> {
        self.applied.lock().cutoffs.get(key).copied()
    }

    /// The channel on which nodes notify each other of events.
    pub(crate) fn channel(&self) -> String {
        let id = self.log.id().to_string().replace('-', "_");
        format!("tessera_{id}")
    }

    /// The key of the lock that orders all writes.
    pub(crate) fn lock_key(&self) -> i64 {
        number(lock_key(self.log.id()))
    }

    /// Checks that `found` follows `before`, the state applied here when the database was asked, and applies it. A
    /// state that is applied already changes nothing.
    ///
    /// # Errors
    /// The server must have the last heartbeat of this node: a replaced primary that still runs does not have it.
    pub(crate) fn apply(&self, before: &Before, found: &Found, events: Vec<Kept>) -> Result<(), StoreError> {
        if found.beat < before.beat {
            return Err(replaced());
        }
        self.check(&before.state, found)?;
        self.apply_own(&found.state, events).map_err(|error| match error {
            // A node with a gap in its log answers nothing.
            StoreError::Damaged { detail } => self.go_back(detail),
            error => error,
        })
    }

    /// The same for a group of this node.
    pub(crate) fn apply_own(&self, state: &State, events: Vec<Kept>) -> Result<(), StoreError> {
        let mut known = self.applied.lock();
        if state.number <= known.state.number {
            return Ok(());
        }
        if known.state.last < state.floor && known.state.last < state.last {
            // The removed events may include some that ended sessions.
            return Err(self.go_back(format!(
                "this node was away for too long: the log no longer has the events after {}",
                known.state.last.0
            )));
        }
        self.log.raise_floor(state.floor);
        let mut last = known.state.last;
        let mut new = Vec::new();
        for Kept { event, counts_until } in events {
            if event.sequence <= last {
                continue;
            }
            if event.sequence != last.next() {
                return Err(damaged(&format!("the log has no event {}", last.next().0)));
            }
            last = event.sequence;
            if let Some(key) = CutoffKey::of(&event) {
                known.cutoffs.insert(key, counts_until);
            }
            self.log.fold(&event, counts_until);
            new.push(event);
        }
        if last != state.last {
            return Err(damaged(&format!(
                "the log ends at {}, and not at {}",
                last.0, state.last.0
            )));
        }
        if let Some(horizon) = state.purged.filter(|purged| known.state.purged < Some(*purged)) {
            known.cutoffs.retain(|_, until| *until >= horizon);
            self.log.forget_expired(horizon);
        }
        known.state = state.clone();
        known.unshown.push_back(Unshown {
            number: state.number,
            events: new,
            times: state.times.clone(),
            purged: state.purged,
            audit: state.audit,
        });
        self.show(&mut known);
        Ok(())
    }

    /// A database that has less than this node saw, or something else, has lost acknowledged data.
    fn check(&self, state: &State, found: &Found) -> Result<(), StoreError> {
        let detail = if found.log != self.log.id() {
            format!(
                "the database has the log {}, and this node the log {}",
                found.log,
                self.log.id()
            )
        } else if found.state.number < state.number || found.state.last < state.last {
            format!(
                "the database is at event {} of group {}, and this node has seen event {} of group {}",
                found.state.last.0, found.state.number, state.last.0, state.number
            )
        } else if found.known.is_some_and(|id| id != state.id) {
            format!(
                "group {} of the database is not the one that this node has seen",
                state.number
            )
        } else if found.known.is_none() {
            format!(
                "this node was away for too long: group {} is no longer kept",
                state.number
            )
        } else {
            return Ok(());
        };
        if self.beats.prove(found.beat, Instant::now()) {
            return Err(self.go_back(detail));
        }
        // Another server may be the primary; another connection of this node already knows it.
        Err(replaced())
    }

    /// If the database has everything that was known to be durable, no acknowledged data is lost. But this node has
    /// applied lost groups in memory, so it can't continue either.
    fn go_back(&self, detail: String) -> StoreError {
        let mut went_back = self.went_back.lock();
        if went_back.is_none() {
            tracing::error!(
                reason = "STORE_WENT_BACK",
                "{detail}: a failover lost commits, or a copy was restored. This node answers nothing until it is started again"
            );
        }
        went_back.get_or_insert_with(|| detail.clone());
        StoreError::WentBack { detail }
    }

    /// Ends the node: it reported nothing for so long that others forget it.
    pub(crate) fn was_away(&self) -> StoreError {
        self.go_back("this node committed nothing for half a day".to_owned())
    }

    /// Removes the cutoffs that no longer count.
    pub(crate) fn forget_expired(&self, horizon: Timestamp) {
        self.applied.lock().cutoffs.retain(|_, until| *until >= horizon);
        self.log.forget_expired(horizon);
    }

    /// Notes that everything up to a group is durable, and publishes the events and audit records up to there.
    pub(crate) fn note_durable(&self, number: u64) {
        self.durable.fetch_max(number, Ordering::SeqCst);
        self.show(&mut self.applied.lock());
    }

    /// Publishes the events that are durable. The caller holds the lock, so that they are published in order.
    fn show(&self, known: &mut Applied) {
        let durable = self.durable();
        let has_records = |next: &Unshown| self.log.audit_position() < next.audit.position;
        let is_shown =
            |next: &Unshown| next.number <= durable || (next.events.is_empty() && !has_records(next));
        while let Some(next) = known.unshown.pop_front_if(|next| is_shown(next)) {
            self.log.publish(next.events, &next.times, next.purged);
            self.log.publish_audit(next.audit);
        }
    }

    /// Whether events are applied here that are not known to be durable. Audit records alone wait for the next
    /// heartbeat.
    pub(crate) fn has_unshown_events(&self) -> bool {
        let known = self.applied.lock();
        known.unshown.iter().any(|next| !next.events.is_empty())
    }

    /// The last group that is known to be durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Fails if a server that has the heartbeat `seen` is not the primary, so that its answers are not used.
    pub(crate) fn ensure_primary(&self, seen: u64) -> Result<(), StoreError> {
        self.ensure_current()?;
        if self.beats.prove(seen, Instant::now()) {
            return Ok(());
        }
        Err(replaced())
    }

    /// Fails if no server is known to be the primary.
    pub(crate) fn ensure_current(&self) -> Result<(), StoreError> {
        self.ensure_open()?;
        if self.beats.are_fresh(Instant::now()) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            detail: "no commit succeeded for 3 seconds: this may be no longer the primary's state".to_owned(),
        })
    }

    /// Reads the last heartbeat of this node that the server has.
    pub(crate) fn ask_beat(&self) -> Query {
        Query::new("SELECT beat FROM node WHERE id = $1").value(self.id)
    }

    pub(crate) fn ensure_open(&self) -> Result<(), StoreError> {
        if !self.is_open.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        match &*self.went_back.lock() {
            Some(detail) => Err(StoreError::WentBack {
                detail: detail.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A connection for reading.
    pub(crate) async fn reader(&self) -> Result<deadpool_postgres::Client, StoreError> {
        self.ensure_open()?;
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Failure::from(error).into(),
            PoolError::Closed => StoreError::Closed,
            error => StoreError::Unavailable {
                detail: error.to_string(),
            },
        })
    }

    /// Closes the node, and returns whether it was open until now.
    pub(crate) fn close(&self) -> bool {
        self.pool.close();
        self.is_open.swap(false, Ordering::SeqCst)
    }

    /// Notes that a writer begins a group, or has finished it.
    pub(crate) fn set_committing(&self, writer: usize, is_committing: bool) {
        if let Some(since) = self.committing.lock().get_mut(writer) {
            *since = is_committing.then(Instant::now);
        }
    }

    /// How long the oldest group in progress has taken so far.
    pub(crate) fn committing_for(&self) -> Option<Duration> {
        let oldest = self.committing.lock().iter().flatten().min().copied();
        oldest.map(|since| since.elapsed())
    }
}

/// What was known before a trip to the database.
pub(crate) struct Before {
    pub(crate) state: State,
    /// The last heartbeat that was committed.
    beat: u64,
}

/// The last heartbeat in the answer of `ask_beat`.
pub(crate) fn beat_in(rows: &[Row]) -> Result<u64, StoreError> {
    let beat = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
    unsigned(beat.unwrap_or_default())
}

/// A server does not have what was committed on another one.
fn replaced() -> StoreError {
    StoreError::Unavailable {
        detail: "a connection leads to a server that is not the primary any more".to_owned(),
    }
}

/// A number derived from the log's id.
pub(crate) fn lock_key(log: LogId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *log.as_bytes();
    u64::from_be_bytes([a & 0x7f, b, c, d, e, f, g, h])
}

/// The events after `after`.
pub(crate) fn events_after(after: u64) -> Query {
    Query::new("SELECT body, counts_until FROM event WHERE seq > $1 ORDER BY seq").value(number(after))
}

/// The result of `events_after`.
pub(crate) fn kept(rows: &[Row]) -> Result<Vec<Kept>, StoreError> {
    let kept = rows.iter().map(|row| {
        let body: &[u8] = get(row, 0)?;
        let event: Event = decode("an event", body)?;
        Ok(Kept {
            event: Arc::new(event),
            counts_until: Timestamp::from_millis(get(row, 1)?),
        })
    });
    kept.collect()
}
