//! The messages between a subscriber and the authority.

use std::{sync::Arc, time::Duration};

use tessera_core::{Cursor, Event, PolicyRevision, RealmName, Sequence, SubscriberName, Timestamp};

use crate::{
    credential::error::AuthenticateError,
    error::{CallNotAllowed, Unavailable},
    log::subscribers::StalenessBound,
    watch::filter::WatchFilter,
};

/// Where a watch begins, and which events it receives.
#[derive(Clone, Debug)]
pub struct WatchStart {
    /// The position.
    pub at: StartAt,
    /// Which events.
    pub filter: WatchFilter,
    /// The subscriber's name for itself.
    pub subscriber: Option<SubscriberName>,
    /// Whether [`await_propagation`](crate::Fence::await_propagation) waits for it; it then needs a name.
    pub required: bool,
    /// How long it keeps answering without a checkpoint.
    pub staleness_bound: StalenessBound,
}

/// The position at which a watch begins.
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

/// A message of a subscriber after the watch began.
#[derive(Clone, Debug)]
pub enum SubscriberMessage {
    /// Requests a checkpoint at once.
    Ping(Vec<u8>),
    /// Everything up to this cursor has been applied.
    Ack(String),
}

/// A message of the authority.
#[derive(Clone, Debug)]
pub enum WatchMessage {
    /// A snapshot begins.
    SnapshotBegin {
        /// The position at which it is consistent.
        through: Sequence,
        /// The realm of the snapshot.
        realm: RealmName,
    },
    /// One live revocation.
    SnapshotItem(Arc<Event>, Cursor),
    /// The snapshot is complete.
    SnapshotEnd {
        /// Where the stream continues.
        cursor: Cursor,
        /// How many items there were.
        items: u64,
    },
    /// One new event.
    Event(Arc<Event>, Cursor),
    /// Everything up to this cursor was sent.
    Checkpoint {
        /// The cursor.
        through: Cursor,
        /// The nonce of the ping that this answers.
        nonce: Vec<u8>,
        /// The authority's clock.
        server_time: Timestamp,
        /// The policy in force.
        policy: PolicyRevision,
        /// Changes with the realm's verifying keys.
        key_set: String,
        /// The realm of the checkpoint.
        realm: RealmName,
    },
}

/// Why a watch ended.
#[derive(Debug)]
pub enum WatchEnd {
    /// Its API key no longer works.
    Refused(AuthenticateError),
    /// Policy no longer permits it to watch.
    NotAllowed(CallNotAllowed),
    /// An administrator evicted it; it may return after this time.
    Evicted(Duration),
    /// It did not read; it may resume after the cursor.
    SlowConsumer(Cursor),
    /// The server is stopping; it may resume after the cursor.
    Draining(Cursor),
    /// An acknowledgement was not a cursor of this stream.
    CursorInvalid,
    /// The next events were removed in the meantime.
    CursorExpired,
    /// The log can't be read.
    Failed(Unavailable),
}
