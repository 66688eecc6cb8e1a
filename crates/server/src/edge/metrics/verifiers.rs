//! The verifiers that revocations wait for.

use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tessera_authority::Authority;
use tessera_core::RealmName;
use tessera_store::{SubscriberKey, SubscriberState};

use super::{realm::RealmLabel, register};

/// How many subscribers have their own series at most, those that are furthest behind first: clients choose their
/// names.
const SUBSCRIBERS_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct SubscriberLabels {
    realm: String,
    client: String,
    subscriber: String,
}

/// The metrics of required subscribers.
pub(super) struct VerifierMetrics {
    subscribers: Family<RealmLabel, Gauge>,
    lag: Family<SubscriberLabels, Gauge<u64, AtomicU64>>,
    ack_age: Family<SubscriberLabels, Gauge<f64, AtomicU64>>,
    fence: Family<RealmLabel, Histogram>,
}

/// The streams of one name, represented by the one that is furthest behind.
#[derive(Clone, Copy, Default)]
struct Behind {
    events: u64,
    for_seconds: f64,
}

impl VerifierMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            subscribers: register::new(
                ours,
                "required_subscribers",
                "Streams of required subscribers, those that ended lately included",
            ),
            lag: register::new(
                ours,
                "subscriber_lag_events",
                "Events that the required subscriber has not acknowledged",
            ),
            ack_age: register::new(
                ours,
                "subscriber_ack_age_seconds",
                "For how long a required subscriber that is behind has acknowledged nothing; 0 where it is not behind",
            ),
            fence: register::durations(
                ours,
                "fence_seconds",
                "How long AwaitPropagation waited for the required subscribers",
            ),
        }
    }

    /// Records that a call waited for the subscribers of a realm.
    pub(super) fn count_fence(&self, realm: &RealmName, took: Duration) {
        let fence = self.fence.get_or_create(&RealmLabel::of(realm));
        fence.observe(took.as_secs_f64());
    }

    pub(super) fn set(&self, authority: &Authority) {
        let committed = authority.position().sequence.0;
        let mut counts: BTreeMap<&RealmName, i64> =
            authority.realms().keys().map(|realm| (realm, 0)).collect();
        let mut behind: BTreeMap<SubscriberLabels, Behind> = BTreeMap::new();
        let states = authority.fence().required_subscribers();
        for state in &states {
            *counts.entry(&state.key.realm).or_default() += 1;
            let (labels, now) = (SubscriberLabels::of(&state.key), Behind::of(state, committed));
            let worst = behind.entry(labels).or_default();
            worst.events = worst.events.max(now.events);
            worst.for_seconds = worst.for_seconds.max(now.for_seconds);
        }
        for (realm, count) in counts {
            self.subscribers.get_or_create(&RealmLabel::of(realm)).set(count);
        }
        let mut behind: Vec<_> = behind.into_iter().collect();
        behind.sort_by_key(|(_, behind)| std::cmp::Reverse(behind.events));
        self.lag.clear();
        self.ack_age.clear();
        for (labels, behind) in behind.into_iter().take(SUBSCRIBERS_MAX) {
            self.lag.get_or_create(&labels).set(behind.events);
            self.ack_age.get_or_create(&labels).set(behind.for_seconds);
        }
    }
}

impl SubscriberLabels {
    fn of(key: &SubscriberKey) -> Self {
        Self {
            realm: key.realm.to_string(),
            client: key.client.to_string(),
            subscriber: key.name.to_string(),
        }
    }
}

impl Behind {
    fn of(state: &SubscriberState, committed: u64) -> Self {
        let events = committed.saturating_sub(state.acknowledged.0);
        let for_seconds = if events == 0 {
            0.0
        } else {
            state.acknowledged_before.as_secs_f64()
        };
        Self { events, for_seconds }
    }
}
