//! Calls, under our names and under those that dashboards for gRPC and HTTP know.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{super::outcome::Failed, register};
use crate::{
    edge::route::{Route, Shape},
    grpc::code::{camel_case_name, code_name},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc: &'static str,
    code: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabel {
    rpc: &'static str,
}

/// A method as `go-grpc-prometheus` and those after it name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandledLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_type: &'static str,
    grpc_code: &'static str,
}

/// A request by the semantic conventions of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    http_request_method: &'static str,
    http_route: &'static str,
    http_response_status_code: u16,
}

/// What is counted of calls.
pub(super) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<RpcLabel, Histogram>,
    handled: Family<HandledLabels, Counter>,
    handling: Family<MethodLabels, Histogram>,
    requests: Family<RequestLabels, Histogram>,
    pub(super) watchers: Gauge,
    pub(super) connections: Gauge,
}

impl CallMetrics {
    /// Registers in `all`, whose names have no prefix, and in the part of it whose names have ours.
    pub(super) fn register(all: &mut Registry) -> Self {
        let handled = register::new(
            all,
            "grpc_server_handled",
            "gRPC calls that were answered, by method and code",
        );
        let handling = register::durations(
            all,
            "grpc_server_handling_seconds",
            "Time from a gRPC call to its answer; of a stream, until it begins",
        );
        let requests = register::durations(
            all,
            "http_server_request_duration_seconds",
            "Time from a request at an HTTP endpoint to its answer",
        );
        let ours = register::ours(all);
        Self {
            calls: register::new(ours, "calls", "Calls by RPC, code and reason"),
            seconds: register::durations(ours, "call_duration_seconds", "Time from a call to its answer"),
            handled,
            handling,
            requests,
            watchers: register::new(ours, "watchers", "Open watch streams"),
            connections: register::new(ours, "connections", "Open connections"),
        }
    }

    pub(super) fn count_call(&self, route: &'static Route, outcome: Result<(), Failed<'_>>, took: Duration) {
        let rpc = route.name;
        let failed = outcome.err();
        let code = failed.map_or(tonic::Code::Ok, |failed| failed.code);
        let reason = failed.map_or_else(String::new, |failed| failed.reason.to_owned());
        let labels = CallLabels {
            rpc,
            code: code_name(code),
            reason,
        };
        self.calls.get_or_create(&labels).inc();
        let seconds = took.as_secs_f64();
        self.seconds.get_or_create(&RpcLabel { rpc }).observe(seconds);
        if let Some(method) = MethodLabels::of(route) {
            self.handling.get_or_create(&method).observe(seconds);
            let handled = HandledLabels {
                grpc_service: method.grpc_service,
                grpc_method: method.grpc_method,
                grpc_type: method.grpc_type,
                grpc_code: camel_case_name(code),
            };
            self.handled.get_or_create(&handled).inc();
        }
    }

    pub(super) fn count_request(
        &self,
        route: &'static Route,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let labels = RequestLabels {
            http_request_method: known_method(method),
            http_route: route.path,
            http_response_status_code: status.as_u16(),
        };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl MethodLabels {
    /// None for an HTTP endpoint.
    fn of(route: &'static Route) -> Option<Self> {
        let (grpc_service, grpc_method) = route.path.strip_prefix('/')?.split_once('/')?;
        let grpc_type = match (route.shape, route.answers_with_stream) {
            (Shape::Http, _) => return None,
            (Shape::Unary, false) => "unary",
            (Shape::Unary, true) => "server_stream",
            (Shape::Stream, false) => "client_stream",
            (Shape::Stream, true) => "bidi_stream",
        };
        Some(Self {
            grpc_service,
            grpc_method,
            grpc_type,
        })
    }
}

/// The caller chooses the method: one that is not known has the name that OpenTelemetry gives to all of these.
pub(in crate::edge) fn known_method(method: &Method) -> &'static str {
    let known = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("_OTHER")
}
