//! The trace of one call.

use std::{net::IpAddr, sync::OnceLock};

use opentelemetry::{Context, trace::SpanContext};

/// The trace of one exchange.
pub(in crate::edge) struct CallTrace {
    /// The caller's context; not valid if it has none.
    pub(super) caller: SpanContext,
    /// The proxy that is trusted for the caller's trace.
    pub(super) proxy: Option<IpAddr>,
    /// Set once the caller is known.
    pub(super) context: OnceLock<Context>,
}

impl CallTrace {
    pub(in crate::edge) fn context(&self) -> Option<&Context> {
        self.context.get()
    }
}
