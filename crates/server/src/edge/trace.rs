//! A span for each call, for operators that collect traces (OpenTelemetry, W3C Trace Context).
//!
//! A call continues the trace of a known caller: a client that was authenticated, or a proxy of `trusted_proxies`, as
//! often as the rate allows. Any other call begins its own trace, which links to the caller's: no other caller decides
//! what is recorded here, or adds spans to another trace. So the span is made once the caller is known, with the time
//! when the call began.

pub(super) mod call;
mod headers;
mod spans;

use std::{fmt, net::IpAddr, num::NonZeroU32, pin::Pin, sync::OnceLock, task::Poll};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, Method, StatusCode};
use opentelemetry::{
    Context,
    global::BoxedTracer,
    propagation::TextMapPropagator,
    trace::{Link, TraceContextExt as _},
};
use tessera_core::{ClientName, RealmName};

use self::call::CallTrace;
use super::{exchange::Exchange, metrics::SpanCounts, outcome::Failed, refusals::network_of};

/// How calls are traced.
pub struct Traces {
    /// Makes spans.
    pub tracer: BoxedTracer,
    /// Reads the context of the caller's trace.
    pub propagator: Box<dyn TextMapPropagator + Send + Sync>,
    /// How many calls per second of each client continue the trace of their caller, and how many of all callers without
    /// a client have a span.
    pub calls_per_second: NonZeroU32,
    /// The counts of spans by outcome.
    pub counts: SpanCounts,
}

/// The tracer of calls.
pub(crate) struct Tracing {
    traces: Traces,
    rate: DefaultKeyedRateLimiter<Key>,
}

/// The caller whose calls are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Client(RealmName, ClientName),
    Proxy(IpAddr),
    Strangers,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces(..)")
    }
}

impl Tracing {
    pub(crate) fn new(traces: Traces) -> Self {
        let burst = traces
            .calls_per_second
            .saturating_mul(NonZeroU32::MIN.saturating_add(4));
        let quota = Quota::per_second(traces.calls_per_second).allow_burst(burst);
        Self {
            rate: RateLimiter::keyed(quota),
            traces,
        }
    }

    /// The trace of a request with this head. `proxy` is the trusted proxy that sent it, if one did.
    pub(super) fn read(&self, head: &HeaderMap, proxy: Option<IpAddr>) -> CallTrace {
        let context = headers::caller(&*self.traces.propagator, head);
        CallTrace {
            caller: context.span().span_context().clone(),
            proxy,
            context: OnceLock::new(),
        }
    }

    /// Begins the span if it need not wait until the caller is known.
    pub(super) fn begin_early(&self, exchange: &Exchange) {
        if let Some(trace) = &exchange.trace
            && (trace.proxy.is_some() || !trace.caller.is_valid())
        {
            self.begin(exchange);
        }
    }

    /// Begins the span of a call whose caller is known, or will not become known.
    pub(super) fn begin(&self, exchange: &Exchange) {
        if let Some(trace) = &exchange.trace {
            trace.context.get_or_init(|| self.context(exchange, trace));
        }
    }

    /// Adds to the span how the call was answered.
    pub(super) fn answered(&self, exchange: &Exchange, outcome: Result<(), Failed<'_>>) {
        self.begin(exchange);
        if let Some(context) = exchange.trace_context() {
            spans::answered(&context.span(), exchange, outcome);
        }
    }

    /// Ends the span.
    pub(super) fn end(&self, exchange: &Exchange, method: &Method, status: StatusCode) {
        self.begin(exchange);
        if let Some(context) = exchange.trace_context() {
            spans::end(&context.span(), exchange.route, method, status);
        }
    }

    pub(super) fn forget_idle(&self) {
        self.rate.retain_recent();
    }

    fn context(&self, exchange: &Exchange, trace: &CallTrace) -> Context {
        let is_within = |key: &Key| self.rate.check_key(key).is_ok();
        let principal = exchange.principal();
        let key = match (principal, trace.proxy) {
            (Some(client), _) => Key::Client(client.realm_name().clone(), client.client().clone()),
            (None, Some(address)) => Key::Proxy(network_of(address)),
            (None, None) => Key::Strangers,
        };
        let has_caller = trace.caller.is_valid();
        if key == Key::Strangers && !is_within(&key) {
            return Context::new();
        }
        let is_trusted = key != Key::Strangers && has_caller && is_within(&key);
        let (parent, links) = if is_trusted {
            (
                Context::new().with_remote_span_context(trace.caller.clone()),
                Vec::new(),
            )
        } else {
            let link = has_caller.then(|| Link::with_context(headers::without_state(&trace.caller)));
            (Context::new(), link.into_iter().collect())
        };
        let span = spans::begin(&self.traces.tracer, exchange, &parent, links);
        parent.with_span(span)
    }
}

/// Serves a part of `exchange` with its trace as the current one, once it has one.
pub(super) async fn within<T>(
    exchange: &Exchange,
    mut serving: Pin<&mut (impl Future<Output = T> + ?Sized)>,
) -> T {
    if exchange.trace.is_none() {
        return serving.await;
    }
    std::future::poll_fn(move |task| -> Poll<T> {
        let _current = exchange.trace_context().map(|context| context.clone().attach());
        serving.as_mut().poll(task)
    })
    .await
}
