//! Errors of a watch.

use std::time::Duration;

use tessera_core::Audience;

use crate::error::{CallNotAllowed, Unavailable, from_store};

/// A watch can't begin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The caller may not watch.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Not a cursor of this log, or a cursor of another filter.
    #[error("not a cursor of this log and filter")]
    CursorInvalid,
    /// The events after the cursor are no longer stored.
    #[error("the events after that place are no longer kept: start with a snapshot")]
    CursorExpired,
    /// The filter names an audience that the catalogue does not have: no event would ever concern its tokens.
    #[error("audience `{audience}` is not in the catalogue")]
    AudienceUnknown {
        /// The audience.
        audience: Audience,
        /// The nearest name that the catalogue has.
        nearest: Option<String>,
    },
    /// An administrator evicted the subscriber.
    #[error("this subscriber was evicted: an administrator sent it away for a while")]
    Evicted {
        /// When it may return.
        until_free: Duration,
    },
    /// A required subscriber would keep answering for too long without receiving revocations.
    #[error("staleness_bound of a required subscriber must be at most {} s", max.as_secs())]
    BoundTooLong {
        /// The longest.
        max: Duration,
    },
    /// Too many streams of one required subscriber's name are open, or ended within its staleness bound.
    #[error("too many streams have this subscriber's name: give each process its own")]
    NameCrowded {
        /// When the ended streams no longer count.
        until_free: Duration,
    },
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(WatchError);

/// Subscribers can't be listed, or one can't be evicted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscriberError {
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Too many subscribers are evicted: no further one can be remembered.
    #[error("at most {max} subscribers of a realm can be evicted at once")]
    TooManyEvicted {
        /// How many.
        max: usize,
        /// When the first of them may return.
        until_free: Duration,
    },
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(SubscriberError);
