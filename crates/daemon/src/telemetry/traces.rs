//! Traces: sending spans to a collector of OpenTelemetry (OTLP over gRPC).
//!
//! A separate thread sends them, so no call waits for the collector. A bounded number of spans waits. Further ones are
//! dropped and counted, as are those that the collector does not accept.

mod environment;
mod export;

use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue, global::BoxedTracer, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    propagation::TraceContextPropagator,
    resource::EnvResourceDetector,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tessera_core::SPANS;
use tessera_server::SpanCounts;
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::DynFilterFn, registry::LookupSpan};

use self::{
    environment::{Environment, Settings},
    export::{Counted, Waiting},
};
use crate::config::TelemetryConfig;

/// Spans that wait to be sent, about 1 KiB each.
const WAITING_MAX: usize = 4096;

/// The collection of traces.
pub struct Traces {
    provider: SdkTracerProvider,
    counts: SpanCounts,
    waiting: Waiting,
    config: TelemetryConfig,
    shows_headers: bool,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traces(..)")
    }
}

impl Traces {
    /// Traces according to the configuration and the environment; `None` if neither names a collector. It is called
    /// within a runtime.
    pub(super) fn start(config: &TelemetryConfig) -> Result<Option<Self>, String> {
        match Settings::of(config, &Environment::of_process())? {
            Some(settings) => Self::collected(config, &settings).map(Some),
            None => Ok(None),
        }
    }

    fn collected(config: &TelemetryConfig, settings: &Settings) -> Result<Self, String> {
        let (counts, waiting) = (SpanCounts::default(), Waiting::up_to(WAITING_MAX));
        let exporter = export::Exporter::new(settings, counts.clone(), waiting.clone())?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .build();
        let sent = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let mut provider = SdkTracerProvider::builder()
            .with_span_processor(Counted::new(sent, counts.clone(), waiting.clone()))
            .with_resource(resource(&settings.service_name));
        if !settings.has_sampler {
            // Otherwise the library reads the variable.
            let ratio = Sampler::TraceIdRatioBased(config.sample_ratio.get());
            provider = provider.with_sampler(Sampler::ParentBased(Box::new(ratio)));
        }
        Ok(Self {
            provider: provider.build(),
            counts,
            waiting,
            config: config.clone(),
            shows_headers: settings.collector.shows_headers(settings.has_headers),
        })
    }

    /// Logs if the connection to the collector is not safe: only when the log is ready, which starts after the traces.
    pub(super) fn warn(&self) {
        if self.shows_headers {
            tracing::warn!(
                "the headers for the collector of traces can be read on the way: its URL is not `https`"
            );
        }
    }

    /// How the server traces calls.
    #[must_use]
    pub fn of_calls(&self) -> tessera_server::Traces {
        tessera_server::Traces {
            tracer: BoxedTracer::new(Box::new(self.tracer())),
            propagator: Box::new(TraceContextPropagator::new()),
            calls_per_second: self.config.rate(),
            counts: self.counts.clone(),
        }
    }

    /// Makes spans of the parts of calls that are traced, and of nothing else.
    pub(super) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let is_traced = DynFilterFn::new(|metadata, _| metadata.target() == SPANS && is_call_traced())
            .with_callsite_filter(|metadata| {
                if metadata.target() == SPANS {
                    tracing::subscriber::Interest::sometimes()
                } else {
                    tracing::subscriber::Interest::never()
                }
            });
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(is_traced)
    }

    /// Sends the waiting spans, for at most `longest`. Blocks.
    pub fn finish(&self, longest: Duration) {
        match self.provider.shutdown_with_timeout(longest) {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                let spans = self.waiting.count();
                tracing::warn!(%error, spans, "spans were not sent to the collector before the end");
            }
        }
    }

    fn tracer(&self) -> SdkTracer {
        let scope = InstrumentationScope::builder("tessera")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        self.provider.tracer_with_scope(scope)
    }
}

/// Whether the call that this thread works on is traced.
fn is_call_traced() -> bool {
    use opentelemetry::{Context, trace::TraceContextExt as _};
    Context::map_current(|context| context.has_active_span() && context.span().span_context().is_sampled())
}

/// The id of the trace of the call that this thread works on.
pub(super) fn current_trace_id() -> Option<String> {
    use opentelemetry::{Context, trace::TraceContextExt as _};
    Context::map_current(|context| {
        let span = context.has_active_span().then(|| context.span())?;
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    })
}

/// The sender's identity for all signals, from the configuration and the environment.
pub(super) fn sender(config: &TelemetryConfig) -> Resource {
    resource(&environment::service_name(config, &Environment::of_process()))
}

/// The sender's identity. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(service_name: &str) -> Resource {
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attribute(KeyValue::new("service.name", service_name.to_owned()))
        .build()
}
