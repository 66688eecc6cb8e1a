//! Sinks of the audit trail: as many as are configured.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;

use super::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

/// The metrics of the sinks.
pub(super) struct AuditMetrics {
    lag: Family<SinkLabel, Gauge>,
    failing: Family<SinkLabel, Gauge>,
    rejected: Family<SinkLabel, Counter>,
}

impl AuditMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            lag: register::new(
                ours,
                "audit_sink_lag_records",
                "Audit records that are not delivered to the sink yet",
            ),
            failing: register::new(
                ours,
                "audit_sink_failing",
                "1 where audit records can't be delivered to the sink",
            ),
            rejected: register::new(
                ours,
                "audit_sink_rejected_records",
                "Audit records that the sink rejected, and is not sent again",
            ),
        }
    }

    pub(super) fn set(&self, authority: &Authority) {
        let head = authority.audit_sinks().head().borrow().position;
        for sink in authority.audit_sinks().states() {
            let label = SinkLabel { sink: sink.name };
            let lag = head.saturating_sub(sink.position);
            let lag = i64::try_from(lag).unwrap_or(i64::MAX);
            self.lag.get_or_create(&label).set(lag);
            let is_failing = sink.failing_since.is_some();
            self.failing.get_or_create(&label).set(is_failing.into());
            let rejected = self.rejected.get_or_create(&label);
            rejected.inner().store(sink.rejected, Ordering::Relaxed);
        }
    }
}
