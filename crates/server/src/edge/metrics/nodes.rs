//! The nodes of the authority, as this node sees them.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tessera_authority::Authority;

use super::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The metrics of the nodes. Their names come and go, so no node has its own series: each reports its own state.
pub(super) struct NodeMetrics {
    nodes: Family<StateLabel, Gauge>,
    lag: Gauge,
}

impl NodeMetrics {
    pub(super) fn register(ours: &mut Registry) -> Self {
        Self {
            nodes: register::new(
                ours,
                "nodes",
                "Nodes of the authority, this one included: those that answer, and those that are gone and were not stopped",
            ),
            lag: register::new(
                ours,
                "node_lag_events",
                "Committed events that another node which answers has not applied, of the one that is furthest behind",
            ),
        }
    }

    /// While the store can't be read, nothing is known of the other nodes; the earlier values would be a guess.
    pub(super) fn set(&self, authority: &Authority) {
        self.nodes.clear();
        let count = |state, number: usize| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.nodes.get_or_create(&StateLabel { state }).set(number);
        };
        let Some(others) = authority.other_nodes().lately() else {
            self.lag.set(0);
            return;
        };
        let answering = others.iter().filter(|node| node.answers());
        let gone = others
            .iter()
            .filter(|node| !node.answers() && !node.report.has_ended);
        count("answers", answering.clone().count().saturating_add(1));
        count("gone", gone.count());
        let committed = authority.position().sequence.0;
        let lags = answering.map(|node| committed.saturating_sub(node.applied.0));
        self.lag
            .set(lags.max().map_or(0, |lag| i64::try_from(lag).unwrap_or(i64::MAX)));
    }
}
