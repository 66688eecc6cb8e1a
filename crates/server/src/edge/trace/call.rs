//! The trace of one call.

use std::{net::IpAddr, sync::OnceLock};

use opentelemetry::{Context, trace::SpanContext};

/// The trace of one exchange.
pub(in crate::edge) struct CallTrace {
    /// Of the caller; not valid where it has none.
    pub(super) caller: SpanContext,
    /// The proxy whose word is taken for the caller's trace.
    pub(super) proxy: Option<IpAddr>,
    /// Set once it is known who calls.
    pub(super) context: OnceLock<Context>,
}

impl CallTrace {
    pub(in crate::edge) fn context(&self) -> Option<&Context> {
        self.context.get()
    }
}
