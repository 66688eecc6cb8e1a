//! Registering a metric: in one module, so that every registered metric is counted.

use prometheus_client::{
    metrics::{family::Family, histogram::Histogram},
    registry::{Metric, Registry},
};

/// The part of a registry whose names have our prefix.
pub(super) fn ours(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix("tessera")
}

/// A new metric under `name`; the registry adds its prefix, and `_total` if it is a counter.
pub(super) fn new<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    added(registry, name, help, M::default())
}

/// Histograms of seconds by their labels, for durations from a fraction of a millisecond to some seconds.
pub(super) fn durations<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Histogram>
where
    Family<L, Histogram>: Metric + Clone,
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::new_with_constructor(seconds as fn() -> Histogram);
    added(registry, name, help, family)
}

/// A histogram.
pub(super) fn histogram(
    registry: &mut Registry,
    name: &str,
    help: &str,
    buckets: impl IntoIterator<Item = f64>,
) -> Histogram {
    added(registry, name, help, Histogram::new(buckets))
}

/// Buckets for durations from a fraction of a millisecond to some seconds.
pub(super) const SECONDS: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// A histogram of seconds.
pub(super) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn added<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
