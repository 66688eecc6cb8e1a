//! Watch: the revocation log as a stream of messages.
//!
//! Every watcher reads the log from its own place; a channel merely wakes it. So nothing is ever dropped
//! silently, and no subscriber can slow a writer: one that does not read fills its own queue and is ended
//! with its cursor.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tessera_core::{
    Audience, ClientName, Cursor, Event, EventKind, PolicyRevision, RealmName, Sequence, SubscriberName,
    Timestamp,
};
use tessera_policy::Permission;
use tessera_store::StoreError;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Authority, Principal,
    error::{Unavailable, WatchError},
    propagation::{Membership, Propagated, StalenessBound},
};

/// Messages that may wait for one subscriber.
const QUEUE_LENGTH: usize = 1024;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Events read from the log at once.
const READ_STEP: usize = 256;

/// Where a watch begins, and what it sees.
#[derive(Clone, Debug)]
pub struct WatchStart {
    /// The place.
    pub at: StartAt,
    /// Which events.
    pub filter: WatchFilter,
    /// The subscriber's name for itself.
    pub subscriber: Option<SubscriberName>,
    /// Whether [`Authority::await_propagation`] waits for it; it then needs a name.
    pub required: bool,
    /// How long it goes on answering without a checkpoint.
    pub staleness_bound: StalenessBound,
}

/// The place where a watch begins.
#[derive(Clone, Debug)]
pub enum StartAt {
    /// After this cursor.
    Cursor(String),
    /// With all live revocations, then what follows.
    Snapshot,
    /// With what happens from now on.
    Latest,
    /// With the oldest event that is kept.
    Earliest,
}

/// Which events are sent; each empty list hides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchFilter {
    /// Only events that can concern tokens of these audiences.
    pub audiences: Vec<Audience>,
    /// Only events that can concern tokens of these clients.
    pub clients: Vec<ClientName>,
    /// Only these kinds.
    pub kinds: Vec<EventKind>,
}

/// What a subscriber says after it began.
#[derive(Clone, Debug)]
pub enum SubscriberMessage {
    /// A checkpoint at once, please.
    Ping(Vec<u8>),
    /// Everything up to this cursor has been applied.
    Ack(String),
}

/// What the authority says.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// A snapshot begins.
    SnapshotBegin {
        /// Where it is consistent.
        through: Sequence,
        /// The realm it is about.
        realm: RealmName,
    },
    /// One live revocation.
    SnapshotItem(Arc<Event>, Cursor),
    /// The snapshot is complete.
    SnapshotEnd {
        /// Where the stream goes on.
        cursor: Cursor,
        /// How many items there were.
        items: u64,
    },
    /// One new event.
    Event(Arc<Event>, Cursor),
    /// Everything up to here was sent.
    Checkpoint {
        /// Where.
        through: Cursor,
        /// The nonce of the ping that this answers.
        nonce: Vec<u8>,
        /// The authority's clock.
        server_time: Timestamp,
        /// The policy in force.
        policy: PolicyRevision,
        /// Changes with the realm's verifying keys.
        key_set: String,
        /// The realm it is about.
        realm: RealmName,
    },
}

/// Why a watch ended.
#[derive(Debug)]
pub enum WatchEnd {
    /// The subscriber left.
    Left,
    /// It did not read; it may resume after the cursor.
    SlowConsumer(Cursor),
    /// The server stops; it may resume after the cursor.
    Draining(Cursor),
    /// An acknowledgement was no cursor of this stream.
    CursorInvalid,
    /// The events that come next were removed meanwhile.
    CursorExpired,
    /// The log can't be read.
    Failed(Unavailable),
}

/// Where a watcher puts its messages.
pub type WatchQueue = mpsc::Sender<WatchMessage>;

/// One watch, from its start to its end.
pub struct Watcher {
    authority: Arc<Authority>,
    realm: RealmName,
    filter: WatchFilter,
    filter_digest: u32,
    /// Everything up to here was queued, or is hidden by the filter.
    position: Sequence,
    with_snapshot: bool,
    member: Option<Membership>,
}

impl Authority {
    /// Begins a watch.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn watch(self: &Arc<Self>, principal: &Principal, start: WatchStart) -> Result<Watcher, WatchError> {
        self.require(principal, &Permission::Watch)?;
        if *self.draining.borrow() {
            return Err(Unavailable::Draining.into());
        }
        let filter_digest = start.filter.digest();
        let position = match &start.at {
            StartAt::Cursor(text) => self.resume_at(text, filter_digest)?,
            StartAt::Earliest => self.store.events_floor(),
            StartAt::Snapshot | StartAt::Latest => self.committed(),
        };
        let acknowledged = match start.at {
            StartAt::Cursor(_) | StartAt::Latest => position,
            StartAt::Snapshot | StartAt::Earliest => Sequence(0),
        };
        let realm = principal.realm_name().clone();
        let required = start.subscriber.filter(|_| start.required);
        let member = required
            .map(|name| {
                self.subscribers
                    .join(realm.clone(), name, acknowledged, start.staleness_bound)
            })
            .transpose()?;
        Ok(Watcher {
            authority: Arc::clone(self),
            realm,
            filter: start.filter,
            filter_digest,
            position,
            with_snapshot: matches!(start.at, StartAt::Snapshot),
            member,
        })
    }

    /// Answers when every required subscriber of the realm has the cursor, or refuses by itself.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn await_propagation(
        &self,
        principal: &Principal,
        cursor: &str,
    ) -> Result<Propagated, WatchError> {
        self.require(principal, &Permission::Watch)?;
        let cursor = self.own_cursor(cursor)?;
        Ok(self
            .subscribers
            .wait_for(principal.realm_name(), cursor.sequence)
            .await)
    }

    fn resume_at(&self, text: &str, filter_digest: u32) -> Result<Sequence, WatchError> {
        let cursor = self.own_cursor(text)?;
        if cursor.filter != 0 && cursor.filter != filter_digest {
            return Err(WatchError::CursorInvalid);
        }
        if cursor.sequence < self.store.events_floor() {
            return Err(WatchError::CursorExpired);
        }
        Ok(cursor.sequence)
    }

    /// A cursor of this log, at a place that it has reached.
    fn own_cursor(&self, text: &str) -> Result<Cursor, WatchError> {
        let cursor = Cursor::parse(text).map_err(|_| WatchError::CursorInvalid)?;
        if cursor.log != self.store.log_id() || cursor.sequence > self.committed() {
            return Err(WatchError::CursorInvalid);
        }
        Ok(cursor)
    }
}

impl Watcher {
    /// The queue that a subscriber reads from.
    #[must_use]
    pub fn queue() -> (WatchQueue, mpsc::Receiver<WatchMessage>) {
        mpsc::channel(QUEUE_LENGTH)
    }

    /// Runs until one side ends it.
    pub async fn run(mut self, inbox: mpsc::Receiver<SubscriberMessage>, queue: WatchQueue) -> WatchEnd {
        match self.serve(inbox, &queue).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(
        &mut self,
        mut inbox: mpsc::Receiver<SubscriberMessage>,
        queue: &WatchQueue,
    ) -> Result<Infallible, WatchEnd> {
        let mut committed = self.authority.store.committed();
        let mut draining = self.authority.draining.subscribe();
        let mut ticks = interval(CHECKPOINT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A subscriber may say all it has to say and go on listening.
        let mut speaks = true;
        if self.with_snapshot {
            self.send_snapshot(queue).await?;
        }
        loop {
            tokio::select! {
                () = drained(&mut draining) => return Err(WatchEnd::Draining(self.cursor())),
                message = inbox.recv(), if speaks => match message {
                    None => speaks = false,
                    Some(SubscriberMessage::Ping(nonce)) => {
                        self.heard(None);
                        self.send_events(queue).await?;
                        self.send_checkpoint(queue, nonce).await?;
                    }
                    Some(SubscriberMessage::Ack(cursor)) => {
                        let cursor =
                            self.authority.own_cursor(&cursor).map_err(|_| WatchEnd::CursorInvalid)?;
                        self.heard(Some(cursor.sequence));
                    }
                },
                changed = committed.changed() => {
                    if changed.is_err() {
                        return Err(WatchEnd::Draining(self.cursor()));
                    }
                    self.send_events(queue).await?;
                }
                _ = ticks.tick() => {
                    self.send_events(queue).await?;
                    self.send_checkpoint(queue, Vec::new()).await?;
                }
            }
        }
    }

    /// Sends what was committed since the last time.
    async fn send_events(&mut self, queue: &WatchQueue) -> Result<(), WatchEnd> {
        loop {
            let batch = self.read(self.position).await?;
            let Some(last) = batch.last().map(|event| event.sequence) else {
                return Ok(());
            };
            for event in batch {
                let sequence = event.sequence;
                if self.shows(&event) {
                    let cursor = self.cursor_at(sequence);
                    self.send(queue, WatchMessage::Event(event, cursor)).await?;
                }
                self.position = sequence;
            }
            self.position = last;
        }
    }

    /// Everything that is revoked at one sequence; the stream goes on after it.
    async fn send_snapshot(&mut self, queue: &WatchQueue) -> Result<(), WatchEnd> {
        let through = self.position;
        let now = self.authority.clock.now();
        self.send(
            queue,
            WatchMessage::SnapshotBegin {
                through,
                realm: self.realm.clone(),
            },
        )
        .await?;
        let (mut items, mut after) = (0, self.authority.store.events_floor());
        while after < through {
            let batch = self.read(after).await?;
            let Some(last) = batch.last().map(|event| event.sequence) else {
                break;
            };
            after = last;
            for event in batch.into_iter().filter(|event| event.sequence <= through) {
                if event.body.is_revocation() && event.relevant_until >= now && self.shows(&event) {
                    items += 1;
                    let cursor = self.cursor_at(event.sequence);
                    self.send(queue, WatchMessage::SnapshotItem(event, cursor))
                        .await?;
                }
            }
        }
        let cursor = self.cursor_at(through);
        self.send(queue, WatchMessage::SnapshotEnd { cursor, items })
            .await
    }

    async fn send_checkpoint(&self, queue: &WatchQueue, nonce: Vec<u8>) -> Result<(), WatchEnd> {
        let message = WatchMessage::Checkpoint {
            through: self.cursor(),
            nonce,
            server_time: self.authority.clock.now(),
            policy: self.authority.policy().revision().clone(),
            key_set: self.authority.keys.load().digest(&self.realm).to_owned(),
            realm: self.realm.clone(),
        };
        self.send(queue, message).await
    }

    async fn read(&self, after: Sequence) -> Result<Vec<Arc<Event>>, WatchEnd> {
        match self.authority.store.events_after(after, READ_STEP).await {
            Ok(batch) => Ok(batch.events),
            Err(StoreError::EventsForgotten) => Err(WatchEnd::CursorExpired),
            Err(error) => Err(WatchEnd::Failed(error.into())),
        }
    }

    async fn send(&self, queue: &WatchQueue, message: WatchMessage) -> Result<(), WatchEnd> {
        match queue.send_timeout(message, self.authority.watch_stall_max).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(WatchEnd::SlowConsumer(self.cursor())),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(WatchEnd::Left),
        }
    }

    fn shows(&self, event: &Event) -> bool {
        event.realm == self.realm && self.filter.shows(event)
    }

    fn heard(&self, acknowledged: Option<Sequence>) {
        if let Some(member) = &self.member {
            self.authority.subscribers.heard(member, acknowledged);
        }
    }

    fn cursor(&self) -> Cursor {
        self.cursor_at(self.position)
    }

    fn cursor_at(&self, sequence: Sequence) -> Cursor {
        Cursor {
            filter: self.filter_digest,
            ..self.authority.cursor_at(sequence)
        }
    }
}

/// Ready once the authority drains. The value is dropped within: it must not be held across an await.
async fn drained(draining: &mut signal::Receiver<bool>) {
    // An error means that the authority is gone, which comes to the same.
    drop(draining.wait_for(|draining| *draining).await);
}

impl WatchFilter {
    fn shows(&self, event: &Event) -> bool {
        let is_named = |names: bool, only: bool| names || only;
        is_named(self.kinds.is_empty(), self.kinds.contains(&event.body.kind()))
            && event
                .body
                .audience()
                .is_none_or(|a| self.audiences.is_empty() || self.audiences.contains(a))
            && event
                .body
                .client()
                .is_none_or(|c| self.clients.is_empty() || self.clients.contains(c))
    }

    /// 0 for the filter that hides nothing; a cursor of another filter is of another stream.
    fn digest(&self) -> u32 {
        if *self == Self::default() {
            return 0;
        }
        use sha2::Digest;
        let digest: [u8; 32] = sha2::Sha256::digest(format!("{self:?}").as_bytes()).into();
        let [a, b, c, d, ..] = digest;
        u32::from_be_bytes([a, b, c, d]) | 1
    }
}
