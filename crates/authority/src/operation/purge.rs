//! Removing dead data, in small steps, and never because of a clock alone.
//!
//! A wrong clock must neither empty the store nor end the memory of a revocation. So data is dead by the *settled* time
//! ([`Clock::settled`](tessera_core::Clock::settled)), and while the machine's clock and the time disagree nothing is
//! removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tessera_core::{Seconds, Timestamp};
use tessera_store::PurgeBefore;

use crate::{credential::credentials::Credentials, error::Unavailable, refusal::Refusals, shared::Shared};

/// Rows removed in one commit.
const STEP: usize = 500;
const INTERVAL: Duration = Duration::from_secs(5);
/// The number of purges between two searches for dead API keys: at the start, and about each hour.
const API_KEYS_EACH: u64 = 720;

/// Removes dead data, and records what was refused.
pub struct Purging {
    shared: Arc<Shared>,
    credentials: Arc<Credentials>,
    refusals: Arc<Refusals>,
    /// How often dead data was removed.
    purges: AtomicU64,
}

impl Purging {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        credentials: &Arc<Credentials>,
        refusals: &Arc<Refusals>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            credentials: Arc::clone(credentials),
            refusals: Arc::clone(refusals),
            purges: AtomicU64::default(),
        }
    }

    /// Records refusals and removes dead data, for as long as it is polled.
    pub(crate) async fn keep_purging(&self, audit_retention: Seconds) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if let Err(error) = self.refusals.flush(false).await {
                tracing::warn!(%error, "refusals can't be recorded in the audit trail");
            }
            if self.shared.clock.observe().is_stepped {
                continue;
            }
            if let Err(error) = self.purge(self.shared.clock.settled(), audit_retention).await {
                tracing::warn!(%error, "removing what is dead failed");
            }
        }
    }

    /// How often all dead data has been removed since the start.
    #[must_use]
    pub fn purges(&self) -> u64 {
        self.purges.load(Ordering::Relaxed)
    }

    /// Removes everything that is dead before `horizon`, in steps between which others write.
    ///
    /// # Errors
    /// Fails if the store can't be written.
    pub async fn purge(&self, horizon: Timestamp, audit_retention: Seconds) -> Result<(), Unavailable> {
        let before = PurgeBefore {
            horizon,
            audit: horizon.minus(audit_retention),
        };
        loop {
            let report = self.shared.store.purge(before, STEP).await?;
            if report.sessions + report.events + report.records > 0 {
                tracing::debug!(?report, "removed what is dead");
            }
            if !report.more {
                let purges = self.purges.fetch_add(1, Ordering::Relaxed);
                if purges.is_multiple_of(API_KEYS_EACH) {
                    let purged = self.credentials.purge_api_keys(horizon).await?;
                    tracing::debug!(purged, "looked for dead API keys");
                }
                return Ok(());
            }
        }
    }
}
