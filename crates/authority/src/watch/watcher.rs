//! Watch: the revocation log as a stream of messages.
//!
//! Every watcher reads the log from its own position when its subscriber has room for more; a channel only wakes it. So
//! no event is dropped silently, and no subscriber can slow a writer. A subscriber that does not read loses only its
//! position in the log: no queue grows for it.

use std::{sync::Arc, time::Duration, vec};

use tessera_core::{Cursor, Event, FilterDigest, Sequence, Timestamp};
use tessera_policy::Permission;
use tessera_store::StoreError;
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::{
    credential::error::AuthenticateError,
    error::Unavailable,
    log::{
        error::WatchError,
        subscribers::{EVICTED_FOR, Membership},
    },
    principal::Principal,
    watch::{
        filter::WatchFilter,
        message::{SubscriberMessage, WatchEnd, WatchMessage},
        watches::Watches,
    },
};

/// How many events behind a subscriber may be if it took nothing for a while.
const BEHIND_MAX: u64 = 1024;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a ping may go unanswered because the current position is not known: after that, the subscriber may find a
/// node that knows it.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// Events read from the log at once.
const READ_STEP: usize = 256;

/// One watch, from its start to its end.
pub struct Watcher {
    watches: Arc<Watches>,
    principal: Principal,
    filter: WatchFilter,
    filter_digest: FilterDigest,
    member: Option<Membership>,
    inbox: mpsc::Receiver<SubscriberMessage>,
    /// A subscriber may end its side of the stream and keep listening.
    speaks: bool,
    committed: signal::Receiver<Sequence>,
    draining: signal::Receiver<bool>,
    ticks: Interval,
    /// The part of the log that is being sent.
    batch: vec::IntoIter<Arc<Event>>,
    /// Everything up to here was sent, or is hidden by the filter.
    position: Sequence,
    /// The progress of the snapshot; `None` if there is none, or if it is complete.
    snapshot: Option<Snapshot>,
    /// The checkpoint to send after everything that was durable when it was requested.
    owed: Option<Owed>,
    /// The last ping that could not be answered, and since when none could be answered.
    unanswered: Option<(Vec<u8>, Instant)>,
    /// When the subscriber last took a message.
    taken_at: Instant,
}

struct Snapshot {
    /// Consistent at this position.
    through: Sequence,
    /// Read up to here; `None` before the first message.
    after: Option<Sequence>,
    items: u64,
    now: Timestamp,
}

struct Owed {
    through: Sequence,
    nonce: Vec<u8>,
}

impl Watcher {
    /// Everything up to `position` is known to the subscriber.
    pub(super) fn new(
        watches: Arc<Watches>,
        principal: Principal,
        filter: WatchFilter,
        member: Option<Membership>,
        inbox: mpsc::Receiver<SubscriberMessage>,
        position: Sequence,
    ) -> Self {
        let mut ticks = interval(CHECKPOINT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            principal,
            filter_digest: filter.digest(),
            filter,
            member,
            inbox,
            speaks: true,
            committed: watches.shared.store.log().subscribe(),
            draining: watches.shared.draining.subscribe(),
            ticks,
            batch: Vec::new().into_iter(),
            position,
            snapshot: None,
            owed: None,
            unanswered: None,
            taken_at: Instant::now(),
            watches,
        }
    }

    /// Begins with everything that is revoked at its position.
    pub(super) fn with_snapshot(self) -> Self {
        let snapshot = Snapshot {
            through: self.position,
            after: None,
            items: 0,
            now: self.watches.shared.clock.settled(),
        };
        Self {
            snapshot: Some(snapshot),
            ..self
        }
    }

    /// The next message, once the subscriber has room for it.
    ///
    /// # Errors
    /// Fails once, at the end.
    pub async fn next(&mut self) -> Result<WatchMessage, WatchEnd> {
        self.check_pace()?;
        loop {
            if let Some(message) = self.step().await? {
                self.taken_at = Instant::now();
                return Ok(message);
            }
        }
    }

    /// A subscriber that takes nothing for long, while many events happen, is told so instead of receiving old events.
    fn check_pace(&self) -> Result<(), WatchEnd> {
        let behind = self.committed.borrow().0.saturating_sub(self.position.0);
        if behind > BEHIND_MAX && self.taken_at.elapsed() > self.watches.stall_max {
            return Err(WatchEnd::SlowConsumer(self.cursor()));
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<Option<WatchMessage>, WatchEnd> {
        if let Some(snapshot) = self.snapshot.take() {
            return self.snapshot_step(snapshot).await.map(Some);
        }
        if let Some(event) = self.batch.next() {
            self.position = event.sequence;
            let cursor = self.cursor();
            return Ok(self.shows(&event).then_some(WatchMessage::Event(event, cursor)));
        }
        if let Some(owed) = self.owed.take_if(|owed| owed.through <= self.position) {
            return Ok(self.pay(owed).await);
        }
        self.turn().await?;
        if self.is_behind() {
            self.batch = self.read(self.position).await?.into_iter();
        }
        Ok(None)
    }

    /// Between two parts of the log: takes pending work, and waits if there is none.
    async fn turn(&mut self) -> Result<(), WatchEnd> {
        let is_behind = self.is_behind();
        let is_free = self.owed.is_none();
        let evicted = async {
            match &mut self.member {
                Some(member) => member.evicted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = evicted => Err(WatchEnd::Evicted(EVICTED_FOR)),
            () = drained(&mut self.draining) => Err(WatchEnd::Draining(self.cursor())),
            message = self.inbox.recv(), if is_free && self.speaks => self.hear(message).await,
            _ = self.ticks.tick(), if is_free => self.tick().await,
            () = std::future::ready(()), if is_behind => Ok(()),
            changed = self.committed.changed() => match changed {
                Ok(()) => Ok(()),
                Err(_) => Err(WatchEnd::Draining(self.cursor())),
            },
        }
    }

    fn is_behind(&self) -> bool {
        self.position < *self.committed.borrow()
    }

    async fn hear(&mut self, message: Option<SubscriberMessage>) -> Result<(), WatchEnd> {
        match message {
            None => self.speaks = false,
            Some(SubscriberMessage::Ping(nonce)) => {
                self.heard(None);
                let before = self.unanswered.take();
                let since = before.map_or_else(Instant::now, |(_, since)| since);
                self.owe_current_checkpoint(nonce, since).await;
            }
            Some(SubscriberMessage::Ack(cursor)) => {
                let cursor = self.watches.fence.own_cursor(&cursor).await;
                let cursor = cursor.map_err(|error| match error {
                    WatchError::Unavailable(error) => WatchEnd::Failed(error),
                    _ => WatchEnd::CursorInvalid,
                })?;
                self.heard(Some(cursor.sequence));
            }
        }
        Ok(())
    }

    /// Authenticates the subscriber again: a stream outlives the call that began it.
    async fn tick(&mut self) -> Result<(), WatchEnd> {
        if let Some((nonce, since)) = self.unanswered.take() {
            self.owe_current_checkpoint(nonce, since).await;
            if self.unanswered.is_some() && since.elapsed() >= UNANSWERED_MAX {
                return Err(WatchEnd::Failed(not_current()));
            }
            return Ok(());
        }
        match self.watches.credentials.still_works(&self.principal).await {
            Ok(()) => {}
            // The store may come back; without a checkpoint the subscriber knows how stale its state is.
            Err(AuthenticateError::Unavailable(_)) if self.watches.shared.is_one_of_several() => {
                return Ok(());
            }
            Err(error) => return Err(WatchEnd::Refused(error)),
        }
        let allowed = self.watches.shared.require(&self.principal, &Permission::Watch);
        allowed.map_err(WatchEnd::NotAllowed)?;
        self.owe_checkpoint(Vec::new());
        Ok(())
    }

    /// The answer to a subscriber includes everything that was committed before it asked. If the current position is
    /// not known, the answer is sent once it is known.
    async fn owe_current_checkpoint(&mut self, nonce: Vec<u8>, since: Instant) {
        match self.watches.shared.current().await {
            Ok(()) => self.owe_checkpoint(nonce),
            Err(error) => {
                tracing::debug!(%error, "a subscriber is not answered");
                self.unanswered = Some((nonce, since));
            }
        }
    }

    fn owe_checkpoint(&mut self, nonce: Vec<u8>) {
        let through = *self.committed.borrow();
        self.owed = Some(Owed { through, nonce });
    }

    /// Everything that is revoked at one sequence; the stream continues after it.
    async fn snapshot_step(&mut self, mut snapshot: Snapshot) -> Result<WatchMessage, WatchEnd> {
        let Some(mut after) = snapshot.after else {
            let begin = WatchMessage::SnapshotBegin {
                through: snapshot.through,
                realm: self.principal.realm_name().clone(),
            };
            snapshot.after = Some(self.watches.shared.store.log().floor());
            let left = self.watches.shared.store.events_below_floor().await;
            self.batch = left.map_err(|error| WatchEnd::Failed(error.into()))?.into_iter();
            self.snapshot = Some(snapshot);
            return Ok(begin);
        };
        loop {
            let is_live = |event: &Event| {
                event.sequence <= snapshot.through
                    && event.body.is_revocation()
                    && event.relevant_until >= snapshot.now
            };
            let shown = self
                .batch
                .find(|event| is_live(event) && shows(&self.principal, &self.filter, event));
            if let Some(event) = shown {
                snapshot.items += 1;
                snapshot.after = Some(after);
                self.snapshot = Some(snapshot);
                let cursor = self.cursor_at(event.sequence);
                return Ok(WatchMessage::SnapshotItem(event, cursor));
            }
            let batch = if after < snapshot.through {
                self.read(after).await?
            } else {
                Vec::new()
            };
            let Some(last) = batch.last() else {
                return Ok(WatchMessage::SnapshotEnd {
                    cursor: self.cursor_at(snapshot.through),
                    items: snapshot.items,
                });
            };
            after = last.sequence;
            self.batch = batch.into_iter();
        }
    }

    /// The checkpoint, once its statement on the keys is true at its position; later if that is not known.
    async fn pay(&mut self, owed: Owed) -> Option<WatchMessage> {
        match self.watches.signing_keys.keys_reach(self.position).await {
            Ok(()) => Some(self.checkpoint(owed.nonce)),
            Err(error) => {
                tracing::debug!(%error, "a checkpoint waits for the signing keys");
                // A checkpoint that answers no ping comes again with the next tick.
                if !owed.nonce.is_empty() {
                    self.unanswered
                        .get_or_insert_with(|| (owed.nonce, Instant::now()));
                }
                None
            }
        }
    }

    fn checkpoint(&self, nonce: Vec<u8>) -> WatchMessage {
        let realm = self.principal.realm_name();
        WatchMessage::Checkpoint {
            through: self.cursor(),
            nonce,
            server_time: self.watches.shared.clock.now(),
            policy: *self.watches.shared.policy().revision(),
            key_set: self.watches.signing_keys.in_use().digest(realm).to_owned(),
            realm: realm.clone(),
        }
    }

    async fn read(&self, after: Sequence) -> Result<Vec<Arc<Event>>, WatchEnd> {
        match self.watches.shared.store.events(after, READ_STEP).await {
            Ok(batch) => Ok(batch.events),
            Err(StoreError::EventsForgotten) => Err(WatchEnd::CursorExpired),
            Err(error) => Err(WatchEnd::Failed(error.into())),
        }
    }

    fn shows(&self, event: &Event) -> bool {
        shows(&self.principal, &self.filter, event)
    }

    fn heard(&self, acknowledged: Option<Sequence>) {
        if let Some(member) = &self.member {
            self.watches.fence.subscribers.heard(member, acknowledged);
        }
    }

    fn cursor(&self) -> Cursor {
        self.cursor_at(self.position)
    }

    fn cursor_at(&self, sequence: Sequence) -> Cursor {
        self.watches.shared.cursor_of(sequence, self.filter_digest)
    }
}

fn shows(principal: &Principal, filter: &WatchFilter, event: &Event) -> bool {
    event.realm == *principal.realm_name() && filter.shows(event)
}

fn not_current() -> Unavailable {
    Unavailable::Store(StoreError::Unavailable {
        detail: "this node can't tell what is current".to_owned(),
    })
}

/// Ready once the authority drains. The value is dropped inside: it must not be held across an await.
async fn drained(draining: &mut signal::Receiver<bool>) {
    // An error means that the authority was dropped, which is equivalent.
    drop(draining.wait_for(|draining| *draining).await);
}
