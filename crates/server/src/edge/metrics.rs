//! What the server counts, in the text format of Prometheus. No label holds a subject, a client or a
//! token: labels are the names of RPCs, codes and reasons, and so bounded.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tessera_authority::{AttemptOutcome, Authority, BackupState, EndingApiKeys, PolicyStatus};
use tessera_core::Timestamp;

use super::outcome::Failed;
use crate::grpc::code::code_name;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc: &'static str,
    code: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabel {
    rpc: &'static str,
}

/// The server's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    seconds: Family<RpcLabel, Histogram>,
    watchers: Gauge,
    connections: Gauge,
    ready: Gauge<i64>,
    committed: Gauge<u64, AtomicU64>,
    policy: PolicyMetrics,
    machine: MachineMetrics,
    backups: BackupMetrics,
    keys: KeyMetrics,
    tls: Option<TlsMetrics>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndingLabels {
    realm: String,
    within: String,
}

/// What is counted of API keys, and seen of server keys.
#[derive(Default)]
struct KeyMetrics {
    ending: Family<EndingLabels, Gauge>,
    server_keys_refused: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

/// What is seen of backups.
#[derive(Default)]
struct BackupMetrics {
    timestamp: Gauge<i64>,
    sequence: Gauge<u64, AtomicU64>,
    running: Gauge,
    failed: Counter<u64, AtomicU64>,
}

/// What is seen of the machine: its clock and its disk.
#[derive(Default)]
struct MachineMetrics {
    steps: Counter<u64, AtomicU64>,
    offset: Gauge<f64, AtomicU64>,
    stepped: Gauge,
    purges: Counter<u64, AtomicU64>,
    commit_waiting: Gauge<f64, AtomicU64>,
}

/// What is seen of `[server.tls]`.
#[derive(Default)]
struct TlsMetrics {
    not_after: Gauge<i64>,
    is_refused: Gauge<i64>,
}

/// What is counted of the policy.
#[derive(Default)]
struct PolicyMetrics {
    info: Family<RevisionLabel, Gauge>,
    applied: Counter<u64, AtomicU64>,
    refused: Counter<u64, AtomicU64>,
    is_refused: Gauge,
    compiled: Gauge,
    reconciled: Gauge,
    rules: Gauge,
}

impl Metrics {
    pub(crate) fn new(has_tls: bool) -> Self {
        let mut registry = Registry::with_prefix("tessera");
        let calls = Family::default();
        let seconds = Family::new_with_constructor(call_durations as fn() -> Histogram);
        let (watchers, connections, ready, committed) = (
            Gauge::default(),
            Gauge::default(),
            Gauge::default(),
            Gauge::default(),
        );
        registry.register("calls", "Calls by RPC, code and reason", calls.clone());
        registry.register(
            "call_duration_seconds",
            "Time from a call to its answer",
            seconds.clone(),
        );
        registry.register("watchers", "Open watch streams", watchers.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("ready", "1 where requests can be served", ready.clone());
        registry.register(
            "log_sequence",
            "Last committed event of the revocation log",
            committed.clone(),
        );
        let policy = PolicyMetrics::register(&mut registry);
        let machine = MachineMetrics::register(&mut registry);
        let backups = BackupMetrics::register(&mut registry);
        let keys = KeyMetrics::register(&mut registry);
        let tls = has_tls.then(|| TlsMetrics::register(&mut registry));
        Self {
            registry,
            calls,
            seconds,
            watchers,
            connections,
            ready,
            committed,
            policy,
            machine,
            backups,
            keys,
            tls,
        }
    }

    pub(crate) fn count_call(&self, rpc: &'static str, outcome: Result<(), Failed<'_>>, took: Duration) {
        let (code, reason) = match outcome {
            Ok(()) => ("OK", String::new()),
            Err(failed) => (code_name(failed.code), failed.reason.to_owned()),
        };
        self.calls.get_or_create(&CallLabels { rpc, code, reason }).inc();
        self.seconds
            .get_or_create(&RpcLabel { rpc })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn watchers(&self) -> &Gauge {
        &self.watchers
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.connections
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    pub(crate) fn set_committed(&self, sequence: u64) {
        self.committed.set(sequence);
    }

    pub(crate) fn set_policy(&self, status: &PolicyStatus) {
        self.policy.set(status);
    }

    pub(crate) fn set_machine(&self, authority: &Authority) {
        self.machine.set(authority);
        self.backups.set(&authority.backup_state());
    }

    pub(crate) fn set_keys(&self, authority: &Authority) {
        self.keys.set(&authority.ending_api_keys());
        let is_refused = authority.server_key_status().is_last_change_refused;
        self.keys.server_keys_refused.set(is_refused.into());
    }

    pub(crate) fn set_tls(&self, expires_at: Option<Timestamp>, is_last_change_refused: bool) {
        if let Some(metrics) = &self.tls {
            metrics.set(expires_at, is_last_change_refused);
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl TlsMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tls_certificate_not_after_seconds",
            "When the certificate of [server.tls] expires, as Unix time",
            metrics.not_after.clone(),
        );
        registry.register(
            "tls_last_change_refused",
            "1 where the files of [server.tls] have changed and can't be used",
            metrics.is_refused.clone(),
        );
        metrics
    }

    fn set(&self, expires_at: Option<Timestamp>, is_last_change_refused: bool) {
        if let Some(at) = expires_at {
            self.not_after.set(at.as_seconds());
        }
        self.is_refused.set(i64::from(is_last_change_refused));
    }
}

impl BackupMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "last_backup_timestamp_seconds",
            "When the last backup was made, as Unix time; 0 where none ever was",
            metrics.timestamp.clone(),
        );
        registry.register(
            "last_backup_sequence",
            "Last event of the revocation log that the last backup has",
            metrics.sequence.clone(),
        );
        registry.register(
            "backup_running",
            "1 while a backup is being made",
            metrics.running.clone(),
        );
        registry.register(
            "backups_failed",
            "Backups since the start that were not finished",
            metrics.failed.clone(),
        );
        metrics
    }

    fn set(&self, state: &BackupState) {
        if let Some(last) = state.last {
            self.timestamp.set(last.at.as_seconds());
            self.sequence.set(last.position.0);
        }
        self.running.set(state.is_running.into());
        self.failed.inner().store(state.failed, Ordering::Relaxed);
    }
}

impl KeyMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "api_keys_ending",
            "API keys that work, end within the time, and have no successor",
            metrics.ending.clone(),
        );
        registry.register(
            "server_keys_last_change_refused",
            "1 where the server keys of [keys] have changed and can't be used",
            metrics.server_keys_refused.clone(),
        );
        metrics
    }

    fn set(&self, counts: &[EndingApiKeys]) {
        for count in counts {
            let labels = EndingLabels {
                realm: count.realm.to_string(),
                within: count.within.to_string(),
            };
            let keys = i64::try_from(count.keys).unwrap_or(i64::MAX);
            self.ending.get_or_create(&labels).set(keys);
        }
    }
}

impl MachineMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "clock_steps",
            "Steps of the machine's clock since the start",
            metrics.steps.clone(),
        );
        registry.register(
            "clock_offset_seconds",
            "How far the machine's clock is ahead of the time that is used",
            metrics.offset.clone(),
        );
        registry.register(
            "clock_stepped",
            "1 where the machine's clock stepped and is not believed yet",
            metrics.stepped.clone(),
        );
        registry.register(
            "commit_waiting_seconds",
            "For how long the oldest commit that is under way has been",
            metrics.commit_waiting.clone(),
        );
        registry.register(
            "purges",
            "How often everything that was dead has been removed since the start",
            metrics.purges.clone(),
        );
        metrics
    }

    #[expect(clippy::cast_precision_loss, reason = "a float holds every time exactly")]
    fn set(&self, authority: &Authority) {
        let state = authority.clock_state();
        self.commit_waiting.set(authority.commit_waiting().as_secs_f64());
        self.purges.inner().store(authority.purges(), Ordering::Relaxed);
        self.steps.inner().store(state.steps, Ordering::Relaxed);
        self.offset.set(state.offset_millis as f64 / 1000.0);
        self.stepped.set(state.is_stepped.into());
    }
}

impl PolicyMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("policy", "1 for the policy in force", metrics.info.clone());
        registry.register(
            "policy_applied",
            "Policies put in force since the start",
            metrics.applied.clone(),
        );
        registry.register(
            "policy_refused",
            "Policies refused since the start",
            metrics.refused.clone(),
        );
        registry.register(
            "policy_last_change_refused",
            "1 where the last attempt to change the policy was refused",
            metrics.is_refused.clone(),
        );
        registry.register(
            "policy_compiled",
            "0 where Casbin itself answers, which is slow",
            metrics.compiled.clone(),
        );
        registry.register(
            "policy_reconciled",
            "1 where every live session is updated to the policy in force",
            metrics.reconciled.clone(),
        );
        registry.register(
            "policy_rules",
            "Rules of the policy in force",
            metrics.rules.clone(),
        );
        metrics
    }

    fn set(&self, status: &PolicyStatus) {
        let label = RevisionLabel {
            revision: status.policy.to_string(),
        };
        if self.info.get(&label).is_none() {
            self.info.clear();
            self.info.get_or_create(&label).set(1);
        }
        self.applied.inner().store(status.applied, Ordering::Relaxed);
        self.refused.inner().store(status.refused, Ordering::Relaxed);
        let is_refused = matches!(status.last_attempt.outcome, AttemptOutcome::Refused { .. });
        self.is_refused.set(is_refused.into());
        self.compiled.set(status.is_compiled.into());
        self.reconciled.set(status.is_reconciled.into());
        self.rules.set(i64::try_from(status.rules).unwrap_or(i64::MAX));
    }
}

fn call_durations() -> Histogram {
    Histogram::new([
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
    ])
}
