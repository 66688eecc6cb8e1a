//! The store: how long commits take, how many units share one, and how many events they append.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tessera_authority::Authority;
use tessera_core::EventKind;
use tessera_store::CommittedGroup;

use super::register;

/// Buckets for the number of units in one group.
const UNITS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    realm: String,
    kind: &'static str,
}

/// The metrics of the store.
pub(super) struct StoreMetrics {
    committed: Gauge<u64, AtomicU64>,
    takes_writes: Gauge,
    commit_waiting: Gauge<f64, AtomicU64>,
    waiting: Gauge,
    groups: Groups,
}

/// The metrics of each committed group.
#[derive(Clone)]
struct Groups {
    took: Histogram,
    synced: Histogram,
    units: Histogram,
    events: Family<EventLabels, Counter>,
}

impl StoreMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        let seconds = register::SECONDS;
        Self {
            committed: register::new(ours, "log_sequence", "Last committed event of the revocation log"),
            takes_writes: register::new(ours, "store_takes_writes", "0 where the store refuses writes"),
            commit_waiting: register::new(
                ours,
                "commit_waiting_seconds",
                "For how long the oldest commit that is under way has been",
            ),
            waiting: register::new(ours, "store_waiting_units", "Units that wait for the writer"),
            groups: Groups {
                took: register::histogram(
                    ours,
                    "store_commit_seconds",
                    "Time from the first decision of a group of units until it is durable",
                    seconds,
                ),
                synced: register::histogram(
                    ours,
                    "store_sync_seconds",
                    "How much of that was writing to the disk and waiting for it",
                    seconds,
                ),
                units: register::histogram(
                    ours,
                    "store_group_units",
                    "Units that were made durable together",
                    UNITS,
                ),
                events: register::new(
                    ours,
                    "events",
                    "Events that were appended to the revocation log since the start",
                ),
            },
        }
    }

    /// Counts the commits of `authority` from now on.
    pub(super) fn follow(&self, authority: &Authority) {
        for realm in authority.realms().keys() {
            for kind in EventKind::ALL {
                let labels = EventLabels {
                    realm: realm.to_string(),
                    kind: kind_name(kind),
                };
                // Kinds that did not occur yet are shown as 0.
                drop(self.groups.events.get_or_create(&labels));
            }
        }
        let groups = self.groups.clone();
        authority.observe_commits(Arc::new(move |group| groups.count(group)));
    }

    pub(super) fn set(&self, authority: &Authority) {
        self.committed.set(authority.position().sequence.0);
        self.takes_writes.set(authority.takes_writes().into());
        self.commit_waiting.set(authority.commit_waiting().as_secs_f64());
        let waiting = authority.waiting_units();
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}

impl Groups {
    #[expect(clippy::cast_precision_loss, reason = "a group has a thousand units")]
    fn count(&self, group: &CommittedGroup<'_>) {
        self.took.observe(group.took.as_secs_f64());
        self.synced.observe(group.synced.as_secs_f64());
        self.units.observe(group.units as f64);
        for event in group.events {
            let labels = EventLabels {
                realm: event.realm.to_string(),
                kind: kind_name(event.body.kind()),
            };
            self.events.get_or_create(&labels).inc();
        }
    }
}

/// The name that `tessera watch --kind` expects.
fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::TokenRevoked => "token_revoked",
        EventKind::SessionRevoked => "session_revoked",
        EventKind::SubjectRevoked => "subject_revoked",
        EventKind::ClientRevoked => "client_revoked",
        EventKind::LabelRevoked => "label_revoked",
        EventKind::RealmRevoked => "realm_revoked",
        EventKind::KeyPublished => "key_published",
        EventKind::KeyActivated => "key_activated",
        EventKind::KeyRevoked => "key_revoked",
        EventKind::ApiKeyRevoked => "api_key_revoked",
        EventKind::PolicyApplied => "policy_applied",
        EventKind::ScopesNarrowed => "scopes_narrowed",
    }
}
