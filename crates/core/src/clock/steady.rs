//! Time that does not jump with the wall clock.
//!
//! The wall clock may be wrong for a while: a bad time server, a machine that was suspended, a typo. So the time by
//! which Tessera issues and decides runs with the machine's *monotonic* clock, and follows the wall clock only under
//! these rules:
//!
//! - A difference of up to [`FOLLOWED_MILLIS`] is corrected at half the speed of time, in both directions, so that time
//!   never goes backwards for it.
//! - A larger difference is a **step**. Time continues as if nothing had happened. A wall clock that is right again
//!   ends the step. One that keeps showing the same difference, for a tenth of the step's size and a minute at least,
//!   is accepted. A step of ten years takes a year, in which an operator notices it.
//!
//! A second time, [`settled`](Clock::settled), is the time by which data is *removed*. It is never after the first.
//! After a step, or a time in which the clock was not watched, it continues at the speed of real time until everything
//! that was issued before has ended by any clock. Only then does it catch up.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use parking_lot::Mutex;

use crate::{
    clock::{Clock, ClockState, Uptime},
    time::{Seconds, Timestamp},
};

/// A difference between the two clocks that is followed without waiting. Verifiers give more leeway.
pub const FOLLOWED_MILLIS: i64 = 5_000;
/// The longest time for which an authority may have been stopped. A clock that is further ahead at the start is not
/// accepted at once.
pub const STOPPED_MAX: Seconds = Seconds::days(366);
/// A step must last a minute at least.
const SETTLE_MIN_MILLIS: i64 = 60_000;
/// And a tenth of its size.
const SETTLE_DIVISOR: i64 = 10;
/// How much faster than real time the settled time catches up.
const CATCH_UP: i64 = 1000;

/// A clock that follows a wall clock by the rules of this module.
///
/// Its owner calls [`observe`](Clock::observe) about once a second.
#[derive(Debug)]
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    uptime: Arc<dyn Uptime>,
    /// Milliseconds from the uptime to the time.
    base: AtomicI64,
    /// Milliseconds from the uptime to the settled time; at most `base`.
    settled_base: AtomicI64,
    watch: Mutex<Watch>,
}

/// The times that an authority recorded before it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTimes {
    /// Its time at the last record: [`Clock::now`].
    pub now: Timestamp,
    /// Its settled time then: [`Clock::settled`].
    pub settled: Timestamp,
}

/// The operator's statement on the machine's clock at a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachineClock {
    /// No statement: a clock that is behind, or more than a year ahead, is a step.
    #[default]
    Unknown,
    /// The clock is right, with any difference.
    Right,
}

/// The observed state of the wall clock.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// The uptime at the last observation.
    seen: i64,
    step: Option<Step>,
    steps: u64,
    /// The uptime from which the settled time may catch up.
    catch_up_from: i64,
    /// How long after a step everything issued before it has ended.
    token_life: i64,
}

/// A difference that is not accepted yet.
#[derive(Clone, Copy, Debug)]
struct Step {
    offset: i64,
    since: i64,
}

impl SteadyClock {
    /// Begins with the wall clock, for an authority that recorded `last` before it stopped; `None`: it is new. No token
    /// lives longer than `token_life`.
    ///
    /// Time continues from the last time, not from the settled one: a stop soon after another one leaves the settled
    /// time far behind, and a clock that is set back only to a time after it is a step, too.
    #[must_use]
    pub fn resume(
        wall: Arc<dyn Clock>,
        uptime: Arc<dyn Uptime>,
        last: Option<LastTimes>,
        machine: MachineClock,
        token_life: Seconds,
    ) -> Self {
        let (wall_now, seen) = (wall.now().as_millis(), uptime.millis());
        let was = last.map_or(wall_now, |last| last.now.as_millis());
        let settled = last.map_or(wall_now, |last| last.settled.as_millis());
        let offset = wall_now.saturating_sub(was);
        let token_life = i64::from(token_life.0) * 1000;
        let is_believed = machine == MachineClock::Right
            || (-FOLLOWED_MILLIS..=i64::from(STOPPED_MAX.0) * 1000).contains(&offset);
        let step = (!is_believed).then_some(Step { offset, since: seen });
        let now = match machine {
            MachineClock::Right => wall_now,
            // A clock that is slightly behind is followed as during a run, so that time does not go back.
            MachineClock::Unknown if is_believed => wall_now.max(was),
            MachineClock::Unknown => was,
        };
        let gap = wall_now.saturating_sub(settled);
        // The clock was not watched while the authority was stopped.
        let confirmed_after = if gap.abs() <= FOLLOWED_MILLIS {
            0
        } else {
            token_life.max(gap / SETTLE_DIVISOR)
        };
        Self {
            wall,
            uptime,
            base: AtomicI64::new(now.saturating_sub(seen)),
            settled_base: AtomicI64::new(now.min(settled).saturating_sub(seen)),
            watch: Mutex::new(Watch {
                seen,
                step,
                steps: u64::from(step.is_some()),
                catch_up_from: seen.saturating_add(confirmed_after),
                token_life,
            }),
        }
    }

    fn at(&self, base: &AtomicI64) -> Timestamp {
        let base = base.load(Ordering::SeqCst);
        Timestamp::from_millis(base.saturating_add(self.uptime.millis()))
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.at(&self.base)
    }

    fn settled(&self) -> Timestamp {
        self.at(&self.settled_base)
    }

    fn observe(&self) -> ClockState {
        let mut watch = self.watch.lock();
        let (wall, uptime) = (self.wall.now().as_millis(), self.uptime.millis());
        let mut base = self.base.load(Ordering::SeqCst);
        let elapsed = uptime.saturating_sub(watch.seen).max(0);
        watch.seen = uptime;
        let offset = wall.saturating_sub(base.saturating_add(uptime));
        base = base.saturating_add(watch.follow(offset, elapsed));
        let settled = self.settled_base.load(Ordering::SeqCst);
        let settled = settled.saturating_add(watch.caught_up(base.saturating_sub(settled), elapsed));
        // In this order the settled time is never seen after the other, in whichever direction that one moves.
        self.settled_base.fetch_min(base, Ordering::SeqCst);
        self.base.store(base, Ordering::SeqCst);
        self.settled_base.store(settled.min(base), Ordering::SeqCst);
        ClockState {
            steps: watch.steps,
            offset_millis: wall.saturating_sub(base.saturating_add(uptime)),
            is_stepped: watch.step.is_some(),
        }
    }
}

impl Watch {
    /// How far the time is moved if the wall clock is `offset` ahead of it.
    fn follow(&mut self, offset: i64, elapsed: i64) -> i64 {
        if offset.abs() <= FOLLOWED_MILLIS {
            self.step = None;
            return offset.clamp(-elapsed / 2, elapsed / 2);
        }
        match self.step {
            Some(step) if offset.saturating_sub(step.offset).abs() <= FOLLOWED_MILLIS => {
                let settle = SETTLE_MIN_MILLIS.max(offset.abs() / SETTLE_DIVISOR);
                if self.seen.saturating_sub(step.since) < settle {
                    return 0;
                }
                self.step = None;
                self.catch_up_from = self.seen.saturating_add(self.token_life);
                offset
            }
            _ => {
                let since = self.seen;
                self.step = Some(Step { offset, since });
                self.steps = self.steps.saturating_add(1);
                0
            }
        }
    }

    /// How far the settled time is moved if it is `behind`.
    fn caught_up(&self, behind: i64, elapsed: i64) -> i64 {
        if self.step.is_some() || self.seen < self.catch_up_from {
            return 0;
        }
        behind.clamp(0, elapsed.saturating_mul(CATCH_UP))
    }
}

#[cfg(test)]
mod tests;
