//! The metrics of the server, for Prometheus: a file for each noun, in one registry.
//!
//! Labels are bounded, and no caller chooses one: names of RPCs, codes, reasons, realms, sinks. The names of required
//! subscribers are chosen by clients, so only a limited number of them is shown. No label holds a subject or a token.

mod audit;
mod backups;
mod calls;
mod keys;
mod machine;
mod nodes;
mod policy;
mod process;
mod realm;
mod register;
mod sessions;
mod spans;
mod store;
mod text;
mod tls;
mod verifiers;

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;
use tessera_core::RealmName;

pub(super) use self::calls::known_method;
pub use self::spans::{SpanCounts, SpanOutcome};
use self::{
    audit::AuditMetrics, backups::BackupMetrics, calls::CallMetrics, keys::KeyMetrics,
    machine::MachineMetrics, nodes::NodeMetrics, policy::PolicyMetrics, process::ProcessMetrics,
    sessions::SessionMetrics, store::StoreMetrics, tls::TlsMetrics, verifiers::VerifierMetrics,
};
pub(crate) use self::{text::TextFormat, tls::TlsSeen};
use super::{outcome::Failed, route::Route};

/// The server's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    ready: Gauge<i64>,
    calls: CallMetrics,
    store: StoreMetrics,
    sessions: SessionMetrics,
    verifiers: VerifierMetrics,
    nodes: NodeMetrics,
    policy: PolicyMetrics,
    machine: MachineMetrics,
    backups: BackupMetrics,
    keys: KeyMetrics,
    audit: AuditMetrics,
    process: ProcessMetrics,
    tls: Option<TlsMetrics>,
    /// Locked during a scrape: each of two concurrent scrapes shows one moment.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

impl Metrics {
    /// The metrics of `authority`, which are counted from now on.
    pub(crate) fn new(authority: &Authority, has_tls: bool, spans: Option<&SpanCounts>) -> Self {
        let mut registry = Registry::default();
        let calls = CallMetrics::register(&mut registry);
        let process = ProcessMetrics::register(&mut registry);
        let ours = register::ours(&mut registry);
        let version: Family<VersionLabel, Gauge> =
            register::new(ours, "build_info", "1 for the version that runs");
        let label = VersionLabel {
            version: env!("CARGO_PKG_VERSION"),
        };
        version.get_or_create(&label).set(1);
        if let Some(spans) = spans {
            spans.register(ours);
        }
        let metrics = Self {
            ready: register::new(ours, "ready", "1 where requests can be served"),
            store: StoreMetrics::register(ours),
            sessions: SessionMetrics::register(ours),
            verifiers: VerifierMetrics::register(ours),
            nodes: NodeMetrics::register(ours),
            policy: PolicyMetrics::register(ours),
            machine: MachineMetrics::register(ours),
            backups: BackupMetrics::register(ours),
            keys: KeyMetrics::register(ours),
            audit: AuditMetrics::register(ours),
            tls: has_tls.then(|| TlsMetrics::register(ours)),
            calls,
            process,
            registry,
            looking: tokio::sync::Mutex::default(),
        };
        metrics.store.follow(authority);
        metrics
    }

    pub(crate) fn count_call(&self, route: &'static Route, outcome: Result<(), Failed<'_>>, took: Duration) {
        self.calls.count_call(route, outcome, took);
    }

    /// Counts a request at an HTTP endpoint by the status of its answer.
    pub(crate) fn count_request(
        &self,
        route: &'static Route,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        self.calls.count_request(route, method, status, took);
    }

    /// Records how long a call waited for the required subscribers of a realm.
    pub(crate) fn count_fence(&self, realm: &RealmName, took: Duration) {
        self.verifiers.count_fence(realm, took);
    }

    pub(crate) fn watchers(&self) -> &Gauge {
        &self.calls.watchers
    }

    pub(crate) fn connections(&self) -> &Gauge {
        &self.calls.connections
    }

    /// All metrics, with their current values.
    pub(crate) async fn to_text(
        &self,
        authority: &Authority,
        tls: Option<TlsSeen>,
        format: TextFormat,
    ) -> String {
        let _looking = self.looking.lock().await;
        self.ready.set(authority.is_ready().into());
        self.store.set(authority);
        self.sessions.set(authority).await;
        self.verifiers.set(authority);
        self.nodes.set(authority);
        self.policy.set(&authority.policies().policy_status());
        self.machine.set(authority);
        self.backups.set(&authority.backups().backup_state());
        self.keys.set(authority);
        self.audit.set(authority);
        self.process.set();
        if let (Some(metrics), Some(seen)) = (&self.tls, tls) {
            metrics.set(&seen);
        }
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry);
        format.written(text)
    }
}
