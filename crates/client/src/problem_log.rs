//! Warnings of repeated failures that do not fill a log.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(60);

/// Warns of a failure at once, then once a minute with the number of failures, and logs when it is over.
#[derive(Debug)]
pub(crate) struct ProblemLog {
    failure: &'static str,
    recovery: &'static str,
    warned_at: Option<Instant>,
    failing_since: Option<Instant>,
    suppressed: u64,
}

impl ProblemLog {
    pub(crate) fn new(failure: &'static str, recovery: &'static str) -> Self {
        Self {
            failure,
            recovery,
            warned_at: None,
            failing_since: None,
            suppressed: 0,
        }
    }

    /// It failed. Returns whether that was logged.
    pub(crate) fn failed(&mut self, problem: impl Display) -> bool {
        let now = Instant::now();
        self.failing_since.get_or_insert(now);
        if self.warned_at.is_some_and(|warned| now - warned < INTERVAL) {
            self.suppressed += 1;
            return false;
        }
        tracing::warn!(%problem, suppressed = self.suppressed, "{}", self.failure);
        self.warned_at = Some(now);
        self.suppressed = 0;
        true
    }

    /// It works. Returns whether that was logged: a failure without a warning ends without one.
    pub(crate) fn worked(&mut self) -> bool {
        let Some(since) = self.failing_since.take() else {
            return false;
        };
        let was_logged = self.warned_at.is_some_and(|warned| since <= warned);
        if was_logged {
            tracing::warn!(after = ?since.elapsed(), "{}", self.recovery);
        }
        was_logged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_logged_at_once_then_once_a_minute_and_so_is_its_end() {
        let mut log = ProblemLog::new("it failed", "it works");
        let mut logged = Vec::new();
        for wait in [0, 1, 58, 1, 1] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            logged.push(log.failed("a problem"));
        }
        assert_eq!(logged, [true, false, false, true, false]);
        assert_eq!([log.worked(), log.worked()], [true, false]);
        // A failure soon after is not logged, and neither is its end.
        assert_eq!([log.failed("again"), log.worked()], [false, false]);
    }
}
