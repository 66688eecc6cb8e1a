//! Traces, as a collector receives them from the real binary.

use std::{collections::BTreeMap, fs, path::Path, pin::Pin};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tessera_proto::v1::{WatchRequest, WatchStart, watch_request, watch_start::From};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::{
    serving::Place,
    support::{Authority, Client, PATIENCE, access, refresh, soon, viewer},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that passes on what it receives, with the headers.
struct Collector(mpsc::UnboundedSender<Export>);

type Export = (MetadataMap, ExportTraceServiceRequest);

impl TraceService for Collector {
    fn export<'a, 'b>(
        &'a self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<ExportTraceServiceResponse>, Status>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (headers, _, request) = request.into_parts();
        let _ = self.0.send((headers, request));
        Box::pin(async { Ok(Response::new(ExportTraceServiceResponse::default())) })
    }
}

/// What a collector received.
struct Received {
    requests: mpsc::UnboundedReceiver<Export>,
    all: Vec<Export>,
}

impl Received {
    fn spans(&self) -> impl Iterator<Item = &Span> {
        let resources = self.all.iter().flat_map(|(_, request)| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans)
    }

    /// Waits for a span.
    async fn span(&mut self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        soon(what, async {
            loop {
                if let Some(span) = self.spans().find(|span| is_it(span)) {
                    return span.clone();
                }
                self.all.push(self.requests.recv().await.unwrap());
            }
        })
        .await
    }
}

async fn collector() -> (String, Received) {
    let (port, received) = collector_of(Server::builder()).await;
    (format!("http://127.0.0.1:{port}"), received)
}

async fn collector_of(mut server: Server) -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::unbounded_channel();
    let served = server
        .add_service(TraceServiceServer::new(Collector(sender)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    let received = Received {
        requests,
        all: Vec::new(),
    };
    (port, received)
}

fn traced(endpoint: &str) -> Authority {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    Authority::start_dev_with(&[], &variables).unwrap()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.clone().and_then(|AnyValue { value }| value);
        let text = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(_)) => "a number".to_owned(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), text)
    });
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_trace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{TRACE}-{PARENT}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    request
}

const ISSUE: &str = "tessera.v1.TokenService/Issue";

#[tokio::test]
async fn a_call_goes_on_with_the_trace_of_its_client_and_says_nothing_secret() {
    let (endpoint, mut received) = collector().await;
    let authority = traced(&endpoint);
    let client = authority.client("production").await;
    let issued = client
        .tokens()
        .issue(with_trace(viewer("user:canary-ann")))
        .await
        .unwrap()
        .into_inner();
    let tokens = issued.tokens.as_ref();
    let call = received.span("the call", |span| span.name == ISSUE).await;
    assert_eq!(hex(&call.trace_id), TRACE);
    assert_eq!(hex(&call.parent_span_id), PARENT);
    assert_eq!(call.kind, 2, "a server's");
    let said = attributes(&call);
    for (name, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", ISSUE),
        ("rpc.response.status_code", "OK"),
        ("tessera.realm", "production"),
    ] {
        assert_eq!(
            said.get(name).map(String::as_str),
            Some(value),
            "{name}: {said:?}"
        );
    }
    for (name, said) in [
        ("policy decision", "tessera.scopes.granted"),
        ("store commit", "tessera.commit.waited_seconds"),
        ("sign tokens", ""),
    ] {
        let part = received.span(name, |span| span.name == name).await;
        assert_eq!(part.parent_span_id, call.span_id, "{name}");
        assert!(
            said.is_empty() || attributes(&part).contains_key(said),
            "{name}: {part:?}"
        );
        assert!(part.end_time_unix_nano <= call.end_time_unix_nano, "{name}");
    }

    client.refresh(&refresh(tokens)).await.unwrap();
    client.introspect(&access(tokens)).await;
    client.refresh("tsr_canary").await.unwrap_err();
    let name = "tessera.v1.TokenService/Refresh";
    let is_refused = |span: &Span| span.name == name && attributes(span).contains_key("error.type");
    let refused = received.span("a refusal", is_refused).await;
    assert_eq!(attributes(&refused)["tessera.reason"], "REFRESH_TOKEN_INVALID");
    let text = received
        .all
        .iter()
        .map(|(_, request)| String::from_utf8_lossy(&request.encode_to_vec()).into_owned());
    let text = text.collect::<String>();
    assert!(text.contains("deployment.environment.name") && text.contains("service.version"));
    let key = authority.api_key("production");
    for secret in [
        "canary",
        &key,
        &access(tokens),
        &refresh(tokens),
        &issued.session_id,
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_stranger_puts_nothing_into_the_trace_of_another() {
    let (endpoint, mut received) = collector().await;
    let authority = traced(&endpoint);
    let stranger = authority.with_key("tsk_production_none").await;
    let refused = stranger.tokens().issue(with_trace(viewer("user:ann"))).await;
    refused.unwrap_err();
    let call = received.span("the call", |span| span.name == ISSUE).await;
    assert_ne!(hex(&call.trace_id), TRACE);
    assert!(call.parent_span_id.is_empty(), "{call:?}");
    let [link] = &call.links[..] else {
        panic!("{call:?}")
    };
    assert_eq!(hex(&link.trace_id), TRACE);
    assert_eq!(attributes(&call)["rpc.response.status_code"], "UNAUTHENTICATED");
}

/// The status of a stream that is refused is in its trailers.
#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_refused_subscriber_has_its_status() {
    let (endpoint, mut received) = collector().await;
    let authority = traced(&endpoint);
    let client = authority.client("production").await;
    let start = WatchStart {
        from: Some(From::Cursor("no-cursor".to_owned())),
        ..WatchStart::default()
    };
    let first = WatchRequest {
        message: Some(watch_request::Message::Start(start)),
    };
    let watch = client.revocations().watch(tokio_stream::once(first)).await;
    watch.unwrap().into_inner().message().await.unwrap_err();
    let call = received
        .span("the call", |span| span.name.ends_with("RevocationService/Watch"))
        .await;
    assert_eq!(attributes(&call)["rpc.response.status_code"], "INVALID_ARGUMENT");
}

/// An installation that traces to `endpoint`, with more settings.
fn traced_place(endpoint: &str, settings: &str) -> Place {
    let place = Place::new();
    place.edit(
        "tessera.toml",
        "[telemetry]\n",
        &format!("[telemetry]\nendpoint = \"{endpoint}\"\n{settings}\n"),
    );
    place
}

/// The authority of an installation, and a client of it.
async fn serve(place: &Place, log: &Path) -> (Authority, Client) {
    let key = place.first_key("production");
    let authority = place.start(fs::File::create(log).unwrap(), |command| {
        command
            .env("OTEL_BSP_SCHEDULE_DELAY", "20")
            .env("RUST_LOG", "info,tessera_server=debug");
    });
    let client = authority.with_key(key["secret"].as_str().unwrap()).await;
    (authority, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_over_tls_is_shown_the_headers_of_the_moment() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let (port, mut received) = collector_of(Server::builder().tls_config(tls).unwrap()).await;
    let place = traced_place(
        &format!("https://localhost:{port}"),
        "headers_file = \"collector.headers\"\nca = \"collector.pem\"",
    );
    fs::write(place.path("collector.pem"), made.cert.pem()).unwrap();
    let show = |tenant: &str| fs::write(place.path("collector.headers"), format!("x-tenant: {tenant}\n"));
    show("one").unwrap();
    let (_authority, client) = serve(&place, &place.path("log")).await;
    for tenant in ["one", "two"] {
        show(tenant).unwrap();
        let is_shown = |(headers, _): &Export| headers.get("x-tenant").is_some_and(|it| it == tenant);
        soon("the header", async {
            while !received.all.iter().any(is_shown) {
                client.issue(viewer("user:ann")).await.unwrap();
                received.all.push(received.requests.recv().await.unwrap());
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_whose_collector_nobody_vouches_for_says_so_and_serves() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let (port, mut received) = collector_of(Server::builder().tls_config(tls).unwrap()).await;
    let place = traced_place(&format!("https://localhost:{port}"), "ca = \"collector.pem\"");
    fs::write(place.path("collector.pem"), other.cert.pem()).unwrap();
    let (authority, client) = serve(&place, &place.path("log")).await;
    client.issue(viewer("user:ann")).await.unwrap();
    let log = place.path("log");
    soon("a line in the log", async {
        while !fs::read_to_string(&log)
            .unwrap()
            .contains("the collector does not take spans")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    assert!(authority.stop().success());
    assert!(received.requests.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_with_its_trace_as_often_as_the_rate_allows_and_lines_say_the_trace() {
    let (endpoint, mut received) = collector().await;
    let place = traced_place(&endpoint, "");
    place.edit("tessera.toml", "calls_per_second = 100", "calls_per_second = 1");
    let log = place.path("log");
    let (authority, client) = serve(&place, &log).await;
    for _ in 0..10 {
        let call = client.tokens().issue(with_trace(viewer("user:ann"))).await;
        call.unwrap();
    }
    // Five at once, and possibly one more if ten calls take a second.
    let own = received.span("a trace of its own", |span| {
        span.name == ISSUE && hex(&span.trace_id) != TRACE
    });
    let own = own.await;
    assert_eq!(hex(&own.links[0].trace_id), TRACE);
    let within = received
        .spans()
        .filter(|span| span.name == ISSUE && hex(&span.trace_id) == TRACE);
    assert!(within.count() >= 5);
    drop(client);
    assert!(authority.stop().success());
    let log = fs::read_to_string(log).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("call served") && line.contains(TRACE));
    assert!(lines.count() >= 5, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_taken_at_its_word_and_an_endpoint_has_its_names() {
    let (endpoint, mut received) = collector().await;
    let place = traced_place(&endpoint, "");
    place.edit(
        "tessera.toml",
        "trusted_proxies = []",
        "trusted_proxies = [\"127.0.0.1/32\"]",
    );
    let (authority, _) = serve(&place, &place.path("log")).await;
    let stranger = authority.with_key("tsk_production_none").await;
    let refused = stranger.tokens().issue(with_trace(viewer("user:ann"))).await;
    refused.unwrap_err();
    let call = received.span("the call", |span| span.name == ISSUE).await;
    assert_eq!(
        (hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()),
        (TRACE, PARENT)
    );
    crate::monitoring::admin(&place.address, "/keys");
    let call = received
        .span("the endpoint", |span| span.name == "GET /keys")
        .await;
    let said = attributes(&call);
    for (name, value) in [
        ("http.route", "/keys"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(
            said.get(name).map(String::as_str),
            Some(value),
            "{name}: {said:?}"
        );
    }
}

#[tokio::test]
async fn what_waits_is_sent_before_the_end() {
    let (endpoint, mut received) = collector().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ];
    let authority = Authority::start_dev_with(&[], &variables).unwrap();
    let client = authority.client("production").await;
    client.issue(viewer("user:ann")).await.unwrap();
    drop(client);
    let ended = tokio::task::spawn_blocking(|| authority.stop()).await.unwrap();
    assert!(ended.success(), "{ended}");
    received.span("the call", |span| span.name == ISSUE).await;
}

#[tokio::test]
async fn a_collector_that_hangs_holds_nothing_up() {
    // It accepts connections, and does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        // This timeout must not be what ends the wait.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
    ];
    let authority = Authority::start_dev_with(&[], &variables).unwrap();
    let client = authority.client("production").await;
    for _ in 0..20 {
        soon("an answer", client.issue(viewer("user:ann"))).await.unwrap();
    }
    drop(client);
    let began = std::time::Instant::now();
    let ended = tokio::task::spawn_blocking(|| authority.stop()).await.unwrap();
    assert!(ended.success(), "{ended}");
    assert!(began.elapsed() < PATIENCE);
    drop(listener);
}
