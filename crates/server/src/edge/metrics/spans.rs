//! Spans of traces, by outcome.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How many spans had each outcome.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts(Family<OutcomeLabel, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: SpanOutcome,
}

/// The outcome of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label has these names")]
pub enum SpanOutcome {
    /// The collector received it.
    exported,
    /// Too many spans were waiting.
    dropped,
    /// The collector did not accept it.
    failed,
}

impl SpanCounts {
    /// Counts spans.
    pub fn add(&self, outcome: SpanOutcome, spans: u64) {
        self.0.get_or_create(&OutcomeLabel { outcome }).inc_by(spans);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self, outcome: SpanOutcome) -> u64 {
        self.0.get_or_create(&OutcomeLabel { outcome }).get()
    }

    pub(super) fn register(&self, ours: &mut Registry) {
        for outcome in [SpanOutcome::exported, SpanOutcome::dropped, SpanOutcome::failed] {
            self.add(outcome, 0);
        }
        let help = "Spans by what became of them: exported, dropped as too many waited, or failed";
        ours.register("trace_spans", help, self.0.clone());
    }
}
