//! The tracing span of a commit: how long a unit waited for its turn, and how long its group took.

use std::time::Instant;

use tessera_core::SPANS;
use tracing::{Instrument, Span, field::Empty};

use crate::{snapshot::Snapshot, unit::Decision};

/// A span around one commit; empty if no traces are collected, or if this call is not traced.
pub(crate) struct CommitSpan {
    span: Span,
    began: Option<Instant>,
}

impl CommitSpan {
    pub(crate) fn begin() -> Self {
        let span = tracing::info_span!(
            target: SPANS,
            "store commit",
            "tessera.commit.waited_seconds" = Empty,
            "tessera.commit.took_seconds" = Empty,
        );
        let began = (!span.is_disabled()).then(Instant::now);
        Self { span, began }
    }

    /// The same decision, which also records how long the unit waited until its first decision. A backend decides on a
    /// separate thread.
    pub(crate) fn noting_when_decided<T>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Decision<T> + Send + 'static,
    ) -> impl FnMut(&Snapshot) -> Decision<T> + Send + 'static {
        let mut unasked = self.began.map(|began| (self.span.clone(), began));
        move |state| {
            if let Some((span, began)) = unasked.take() {
                span.record("tessera.commit.waited_seconds", began.elapsed().as_secs_f64());
            }
            decide(state)
        }
    }

    /// Commits within the span.
    pub(crate) async fn around<T>(&self, commit: impl Future<Output = T>) -> T {
        let Some(began) = self.began else {
            return commit.await;
        };
        let committed = commit.instrument(self.span.clone()).await;
        let took = began.elapsed().as_secs_f64();
        self.span.record("tessera.commit.took_seconds", took);
        committed
    }
}
