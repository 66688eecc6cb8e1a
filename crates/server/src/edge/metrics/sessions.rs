//! Sessions: how many there are, and the outcomes of refreshing them.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;

use super::{realm::RealmLabel, register};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    realm: String,
    outcome: &'static str,
}

/// The metrics of sessions.
pub(super) struct SessionMetrics {
    sessions: Family<RealmLabel, Gauge<u64, AtomicU64>>,
    refreshes: Family<RefreshLabels, Counter>,
}

impl SessionMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            sessions: register::new(
                ours,
                "sessions",
                "Sessions that are kept, those that ended and are not removed yet included",
            ),
            refreshes: register::new(
                ours,
                "refreshes",
                "Refresh tokens presented since the start, by outcome",
            ),
        }
    }

    pub(super) async fn set(&self, authority: &Authority) {
        for (realm, outcome, times) in authority.issuance().refresh_counts() {
            let labels = RefreshLabels {
                realm: realm.to_string(),
                outcome: outcome.name(),
            };
            let refreshes = self.refreshes.get_or_create(&labels);
            refreshes.inner().store(times, Ordering::Relaxed);
        }
        for realm in authority.realms().keys() {
            // If the store can't be read, `takes_writes` says so, and the last number stays.
            if let Ok(sessions) = authority.sessions().session_count(realm).await {
                self.sessions.get_or_create(&RealmLabel::of(realm)).set(sessions);
            }
        }
    }
}
