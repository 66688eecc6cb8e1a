//! The clock that a test moves.

use std::{sync::Arc, time::Duration};

use tessera_core::{Clock, ManualClock, Timestamp};

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<ManualClock>);

impl TestClock {
    /// A moment in 2026; nothing depends on the exact value.
    const START_SECONDS: i64 = 1_795_000_000;

    /// A clock that begins at the same time as all others.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(ManualClock::new(Timestamp::from_seconds(
            Self::START_SECONDS,
        ))))
    }

    /// Moves it forwards.
    pub fn advance(&self, by: Duration) {
        self.0.advance_millis(millis(by));
    }

    /// Moves it backwards, as a machine's clock does when it is corrected.
    pub fn turn_back(&self, by: Duration) {
        self.0.advance_millis(-millis(by));
    }

    /// The time that it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The same clock, for [`VerifierOptions::clock`](tessera_client::VerifierOptions::clock).
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0) as Arc<dyn Clock>
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
