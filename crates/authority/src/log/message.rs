//! What a subscriber and the authority say to each other.

use std::{sync::Arc, time::Duration};

use tessera_core::{Cursor, Event, PolicyRevision, RealmName, Sequence, SubscriberName, Timestamp};

use crate::{
    credential::error::AuthenticateError,
    error::{CallNotAllowed, Unavailable},
    log::{filter::WatchFilter, subscribers::StalenessBound},
};

/// Where a watch begins, and what it sees.
#[derive(Clone, Debug)]
pub struct WatchStart {
    /// The position.
    pub at: StartAt,
    /// Which events.
    pub filter: WatchFilter,
    /// The subscriber's name for itself.
    pub subscriber: Option<SubscriberName>,
    /// Whether [`await_propagation`](crate::Authority::await_propagation) waits for it; it then needs a name.
    pub required: bool,
    /// How long it goes on answering without a checkpoint.
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
    /// Its API key works no more.
    Refused(AuthenticateError),
    /// Policy does not let it watch any more.
    NotAllowed(CallNotAllowed),
    /// An administrator evicted it; it may come back after this time.
    Evicted(Duration),
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
