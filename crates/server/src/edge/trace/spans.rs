//! The attributes of a call's span, by the semantic conventions of OpenTelemetry.
//!
//! No attribute is text that a caller wrote: only names of RPCs and routes, codes, reasons, realms, and ids of
//! decisions.

use http::{Method, StatusCode};
use opentelemetry::trace::Status as SpanStatus;
use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{Link, SpanBuilder, SpanKind, SpanRef, Tracer as _},
};
use tonic::Code;

use crate::{
    edge::{
        exchange::Exchange,
        metrics::known_method,
        outcome::Failed,
        route::{Route, Shape},
    },
    grpc::code::code_name,
};

pub(super) fn begin(
    tracer: &BoxedTracer,
    exchange: &Exchange,
    parent: &Context,
    links: Vec<Link>,
) -> opentelemetry::global::BoxedSpan {
    let route = exchange.route;
    let mut attributes = Vec::with_capacity(3);
    let name = match route.shape {
        Shape::Http => {
            attributes.push(KeyValue::new("http.route", route.path));
            route.path
        }
        Shape::Unary | Shape::Stream => {
            let method = route.path.trim_start_matches('/');
            attributes.push(KeyValue::new("rpc.system.name", "grpc"));
            attributes.push(KeyValue::new("rpc.method", method));
            method
        }
    };
    // The clock of spans, and not that of the authority: a collector compares them with spans of other services.
    let now = opentelemetry::time::now();
    let began = now.checked_sub(exchange.took()).unwrap_or(now);
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Server)
        .with_start_time(began)
        .with_attributes(attributes)
        .with_links(links);
    tracer.build_with_context(builder, parent)
}

pub(super) fn answered(span: &SpanRef<'_>, exchange: &Exchange, outcome: Result<(), Failed<'_>>) {
    if !span.is_recording() {
        return;
    }
    if let Some(principal) = exchange.principal() {
        let realm = principal.realm_name().to_string();
        span.set_attribute(KeyValue::new("tessera.realm", realm));
    }
    let failed = outcome.err();
    let code = failed.map_or(Code::Ok, |failed| failed.code);
    if exchange.route.shape != Shape::Http {
        span.set_attribute(KeyValue::new("rpc.response.status_code", code_name(code)));
    }
    let Some(failed) = failed else { return };
    span.set_attribute(KeyValue::new("error.type", code_name(code)));
    if !failed.reason.is_empty() {
        span.set_attribute(KeyValue::new("tessera.reason", failed.reason.to_owned()));
    }
    if let Some(decision) = failed.decision {
        span.set_attribute(KeyValue::new("tessera.decision", decision.to_owned()));
    }
    if is_ours(code) {
        span.set_status(SpanStatus::error(""));
    }
}

/// Whether the server, and not its caller, caused a failure.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

pub(super) fn end(span: &SpanRef<'_>, route: &Route, method: &Method, status: StatusCode) {
    if route.shape == Shape::Http && span.is_recording() {
        let method = known_method(method);
        span.update_name(format!("{method} {}", route.path));
        span.set_attribute(KeyValue::new("http.request.method", method));
        let number = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", number));
        if status.is_server_error() {
            span.set_status(SpanStatus::error(""));
        }
    }
    span.end();
}
