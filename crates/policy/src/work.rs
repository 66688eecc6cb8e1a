//! Work that can be stopped: reading, testing and comparing policies takes seconds of a core, which should not be spent
//! for a caller that has left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long work may take, and whether its caller still waits for it. Loops over input of a caller check
/// [`is_over`](Self::is_over) at each step.
#[derive(Clone, Debug, Default)]
pub struct Work {
    is_cancelled: Arc<AtomicBool>,
    until: Option<Instant>,
}

/// The work was stopped: it was cancelled, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Work {
    /// Work without a time limit.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::default()
    }

    /// Work that may take this long from now on.
    #[must_use]
    pub fn within(budget: Duration) -> Self {
        Self {
            is_cancelled: Arc::default(),
            until: Instant::now().checked_add(budget),
        }
    }

    /// The work is no longer needed: users of a clone stop soon.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it should stop. The results so far are then incomplete.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// # Errors
    /// Fails if it should stop.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_over() { Err(Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_over_when_it_is_cancelled_or_its_time_is_up() {
        let work = Work::unbounded();
        assert_eq!(work.check(), Ok(()));
        work.clone().cancel();
        assert_eq!(work.check(), Err(Stopped));
        assert!(!Work::within(Duration::from_secs(600)).is_over());
        assert!(Work::within(Duration::ZERO).is_over());
    }
}
