//! The only module that reads the wall clock, and time that does not jump with it: [`SteadyClock`].

use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::{Seconds, Timestamp};

mod source;
mod steady;

pub use source::{Clock, ClockState, Uptime};
pub use steady::{FOLLOWED_MILLIS, LastTimes, MachineClock, STOPPED_MAX, SteadyClock};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// How long the machine has run since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemUptime;

impl Uptime for SystemUptime {
    fn millis(&self) -> i64 {
        // Unlike the standard library's clock, this one continues while the machine is suspended.
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let millis = since_boot.tv_nsec / 1_000_000;
        since_boot.tv_sec.saturating_mul(1000).saturating_add(millis)
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_millis()))
    }

    /// Moves the clock on by `length`.
    pub fn advance(&self, length: Seconds) {
        self.advance_millis(i64::from(length.0) * 1000);
    }

    /// Moves the clock by `millis` milliseconds, backwards if negative.
    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
