//! Calls, under our names and under those that dashboards for gRPC and HTTP expect.
//!
//! Each call is counted once, and observed once. Both sets of names are written from that during a scrape.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use tonic::Code;

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

/// A method as `go-grpc-prometheus` and its successors name it.
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

/// The metrics of calls.
pub(super) struct CallMetrics {
    answered: Arc<Answered>,
    requests: Family<RequestLabels, Histogram>,
    pub(super) watchers: Gauge,
    pub(super) connections: Gauge,
}

/// The calls that were answered, by the paths of their routes.
#[derive(Debug, Default)]
struct Answered(RwLock<HashMap<&'static str, OfRoute>>);

/// The calls of one route.
#[derive(Debug)]
struct OfRoute {
    route: &'static Route,
    seconds: Histogram,
    outcomes: Vec<Outcome>,
}

/// How often calls had one outcome.
#[derive(Debug)]
struct Outcome {
    code: Code,
    reason: String,
    calls: Counter,
}

impl CallMetrics {
    /// Registers in `all`, whose names have no prefix, and in the part of it whose names have our prefix.
    pub(super) fn register(all: &mut Registry) -> Self {
        let answered = Arc::<Answered>::default();
        all.register_collector(Box::new(Arc::clone(&answered)));
        let requests = register::durations(
            all,
            "http_server_request_duration_seconds",
            "Time from a request at an HTTP endpoint to its answer",
        );
        let ours = register::ours(all);
        Self {
            answered,
            requests,
            watchers: register::new(ours, "watchers", "Open watch streams"),
            connections: register::new(ours, "connections", "Open connections"),
        }
    }

    pub(super) fn count_call(&self, route: &'static Route, outcome: Result<(), Failed<'_>>, took: Duration) {
        let (code, reason) = match outcome {
            Ok(()) => (Code::Ok, ""),
            Err(failed) => (failed.code, failed.reason),
        };
        self.answered.count(route, code, reason, took);
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

impl Answered {
    fn count(&self, route: &'static Route, code: Code, reason: &str, took: Duration) {
        let seconds = took.as_secs_f64();
        let known = self.0.read();
        let of_route = known.get(route.path);
        if let Some((of_route, calls)) = of_route.and_then(|of| Some((of, of.calls(code, reason)?))) {
            of_route.seconds.observe(seconds);
            calls.inc();
            return;
        }
        drop(known);
        let mut known = self.0.write();
        let of_route = known.entry(route.path).or_insert_with(|| OfRoute {
            route,
            seconds: register::seconds(),
            outcomes: Vec::new(),
        });
        of_route.seconds.observe(seconds);
        if let Some(calls) = of_route.calls(code, reason) {
            // Another thread added it first.
            calls.inc();
            return;
        }
        let calls = Counter::default();
        calls.inc();
        of_route.outcomes.push(Outcome {
            code,
            reason: reason.to_owned(),
            calls,
        });
    }
}

impl OfRoute {
    /// How often calls had this outcome; there are few outcomes.
    fn calls(&self, code: Code, reason: &str) -> Option<&Counter> {
        let mut outcomes = self.outcomes.iter();
        let found = outcomes.find(|outcome| outcome.code == code && outcome.reason == reason);
        found.map(|outcome| &outcome.calls)
    }

    /// How often calls had each code, for any reason.
    fn by_code(&self) -> Vec<(Code, u64)> {
        let mut by_code: Vec<(Code, u64)> = Vec::new();
        for outcome in &self.outcomes {
            let calls = outcome.calls.get();
            match by_code.iter_mut().find(|(code, _)| *code == outcome.code) {
                Some((_, sum)) => *sum += calls,
                None => by_code.push((outcome.code, calls)),
            }
        }
        by_code
    }
}

impl Collector for Answered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let known = self.0.read();
        let mut routes: Vec<_> = known.values().collect();
        routes.sort_unstable_by_key(|of| of.route.path);
        let methods: Vec<_> = routes
            .iter()
            .filter_map(|of| Some((*of, MethodLabels::of(of.route)?)))
            .collect();
        encode_ours(&mut encoder, &routes)?;
        if methods.is_empty() {
            return Ok(());
        }
        encode_grpc(&mut encoder, &methods)
    }
}

/// Writes the counts under our names.
fn encode_ours(encoder: &mut DescriptorEncoder<'_>, routes: &[&OfRoute]) -> fmt::Result {
    if routes.is_empty() {
        return Ok(());
    }
    let help = "Calls by RPC, code and reason.";
    let mut calls = encoder.encode_descriptor("tessera_calls", help, None, MetricType::Counter)?;
    for (of, outcome) in routes
        .iter()
        .flat_map(|of| of.outcomes.iter().map(move |outcome| (of, outcome)))
    {
        let labels = CallLabels {
            rpc: of.route.name,
            code: code_name(outcome.code),
            reason: outcome.reason.clone(),
        };
        outcome.calls.encode(calls.encode_family(&labels)?)?;
    }
    let (name, help) = ("tessera_call_duration_seconds", "Time from a call to its answer.");
    let mut seconds = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for of in routes {
        let rpc = RpcLabel { rpc: of.route.name };
        of.seconds.encode(seconds.encode_family(&rpc)?)?;
    }
    Ok(())
}

/// Writes the same of gRPC methods, under the names of `go-grpc-prometheus`.
fn encode_grpc(encoder: &mut DescriptorEncoder<'_>, methods: &[(&OfRoute, MethodLabels)]) -> fmt::Result {
    let help = "gRPC calls that were answered, by method and code.";
    let mut handled = encoder.encode_descriptor("grpc_server_handled", help, None, MetricType::Counter)?;
    for (of, method) in methods {
        for (code, calls) in of.by_code() {
            let labels = HandledLabels {
                grpc_service: method.grpc_service,
                grpc_method: method.grpc_method,
                grpc_type: method.grpc_type,
                grpc_code: camel_case_name(code),
            };
            ConstCounter::new(calls).encode(handled.encode_family(&labels)?)?;
        }
    }
    let help = "Time from a gRPC call to its answer; of a stream, until it begins.";
    let name = "grpc_server_handling_seconds";
    let mut handling = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (of, method) in methods {
        of.seconds.encode(handling.encode_family(method)?)?;
    }
    Ok(())
}

impl MethodLabels {
    /// `None` for an HTTP endpoint.
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

/// The caller chooses the method: an unknown one gets the name that OpenTelemetry gives to all of them.
pub(in crate::edge) fn known_method(method: &Method) -> &'static str {
    let known = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let found = known.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text_after(calls: &[(&str, Code, &str)]) -> String {
        let mut registry = Registry::default();
        let metrics = CallMetrics::register(&mut registry);
        for (path, code, reason) in calls {
            let took = Duration::from_millis(3);
            metrics.answered.count(Route::of(path), *code, reason, took);
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_call_is_counted_once_under_each_name() {
        let (issue, token) = ("/tessera.v1.TokenService/Issue", "/token");
        let text = text_after(&[
            (issue, Code::Ok, ""),
            (issue, Code::Ok, ""),
            (issue, Code::PermissionDenied, "ONE"),
            (issue, Code::PermissionDenied, "OTHER"),
            (token, Code::Ok, ""),
        ]);
        let method = "grpc_service=\"tessera.v1.TokenService\",grpc_method=\"Issue\",grpc_type=\"unary\"";
        for line in [
            "tessera_calls_total{rpc=\"Issue\",code=\"OK\",reason=\"\"} 2",
            "tessera_calls_total{rpc=\"Issue\",code=\"PERMISSION_DENIED\",reason=\"ONE\"} 1",
            "tessera_calls_total{rpc=\"Issue\",code=\"PERMISSION_DENIED\",reason=\"OTHER\"} 1",
            "tessera_call_duration_seconds_count{rpc=\"Issue\"} 4",
            "tessera_call_duration_seconds_bucket{le=\"0.005\",rpc=\"Issue\"} 4",
            &format!("grpc_server_handled_total{{{method},grpc_code=\"OK\"}} 2"),
            &format!("grpc_server_handled_total{{{method},grpc_code=\"PermissionDenied\"}} 2"),
            &format!("grpc_server_handling_seconds_count{{{method}}} 4"),
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
        // An HTTP endpoint is not a gRPC method.
        assert_eq!(text.matches("grpc_server_handled_total").count(), 2, "{text}");
        assert_eq!(text.matches("# TYPE tessera_calls counter").count(), 1, "{text}");
    }

    #[test]
    fn nothing_is_shown_of_calls_before_the_first() {
        assert!(!text_after(&[]).contains("calls"));
    }
}
