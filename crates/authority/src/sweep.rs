//! Forgetting what is dead, in small steps, and never because of a clock alone.
//!
//! A clock that jumps ten years ahead must not empty the store. So the horizon, before which dead things
//! are removed, follows the wall clock at no more than [`CATCH_UP`] times the speed of the monotonic
//! clock: a day of downtime is caught up in a minute and a half, ten years take more than three days, in
//! which somebody notices.

use std::{sync::Arc, time::Duration};

use tessera_core::{Seconds, Timestamp};
use tokio::time::Instant;

use crate::{Authority, Unavailable};

/// How much faster than real time the horizon may move.
const CATCH_UP: i64 = 1000;
/// Rows removed in one commit.
const STEP: usize = 500;
const INTERVAL: Duration = Duration::from_secs(10);

impl Authority {
    /// Removes what is dead, for as long as it is polled. Audit records are kept for `audit_retention`.
    pub async fn run_sweeper(self: Arc<Self>, audit_retention: Seconds) {
        let mut horizon = Horizon {
            at: self.store.swept_through().unwrap_or_else(|| self.clock.now()),
            looked_at: Instant::now(),
        };
        loop {
            tokio::time::sleep(INTERVAL).await;
            let at = horizon.advance(self.clock.now(), Instant::now());
            if let Err(error) = self.sweep(at, audit_retention).await {
                tracing::warn!(%error, "removing what is dead failed");
            }
        }
    }

    /// Removes everything that is dead before `horizon`, in steps between which others write.
    ///
    /// # Errors
    /// Fails where the store can't be written.
    pub async fn sweep(&self, horizon: Timestamp, audit_retention: Seconds) -> Result<(), Unavailable> {
        loop {
            let report = self
                .store
                .sweep(horizon, horizon.minus(audit_retention), STEP)
                .await?;
            if report.families + report.events + report.records > 0 {
                tracing::debug!(?report, "removed what is dead");
            }
            if !report.more {
                return Ok(());
            }
        }
    }
}

struct Horizon {
    at: Timestamp,
    looked_at: Instant,
}

impl Horizon {
    fn advance(&mut self, wall: Timestamp, monotonic: Instant) -> Timestamp {
        let elapsed = monotonic.saturating_duration_since(self.looked_at);
        self.looked_at = monotonic;
        let elapsed_millis = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        let reachable = self.at.plus_millis(elapsed_millis.saturating_mul(CATCH_UP));
        self.at = wall.min(reachable).max(self.at);
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_follows_the_clock_and_does_not_jump_with_it() {
        let (start, began) = (Timestamp::from_seconds(1_795_000_000), Instant::now());
        let mut horizon = Horizon {
            at: start,
            looked_at: began,
        };
        let later = began + Duration::from_secs(10);
        assert_eq!(
            horizon.advance(start.plus(Seconds(10)), later),
            start.plus(Seconds(10))
        );
        let ten_years = start.plus(Seconds::days(3650));
        let much_later = later + Duration::from_secs(10);
        assert_eq!(
            horizon.advance(ten_years, much_later),
            start.plus(Seconds(10 + 10_000))
        );
        let back = horizon.advance(start, much_later);
        assert_eq!(back, start.plus(Seconds(10_010)));
    }
}
