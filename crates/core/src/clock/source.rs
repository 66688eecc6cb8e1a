//! What a clock is, and what a machine's uptime is.

use std::fmt;

use crate::time::Timestamp;

/// The source of the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It may jump, forwards and backwards.
    fn now(&self) -> Timestamp;

    /// A time that has passed by every clock: what has ended before it may be removed. Never after [`now`](Clock::now).
    fn settled(&self) -> Timestamp {
        self.now()
    }

    /// Reads the clock that this one follows, and returns how far it differs.
    fn observe(&self) -> ClockState {
        ClockState::default()
    }
}

/// How long the machine has run, including the time in which it was suspended. Setting the clock does not change it.
pub trait Uptime: fmt::Debug + Send + Sync + 'static {
    /// In milliseconds, from an arbitrary start.
    fn millis(&self) -> i64;
}

/// The state of a clock, compared with the clock that it follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// How often the wall clock has stepped since the start.
    pub steps: u64,
    /// How far the wall clock is ahead.
    pub offset_millis: i64,
    /// Whether that is more than the clock follows, and the wall clock is not accepted yet.
    pub is_stepped: bool,
}
