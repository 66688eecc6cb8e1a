//! Receivers of log records of OpenTelemetry.

use std::{collections::VecDeque, path::Path, pin::Pin, sync::Mutex};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::{
        AnyValue, KeyValue,
        any_value::Value::{IntValue, StringValue},
    },
    logs::v1::LogRecord,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Server};

use super::*;

type Export = (MetadataMap, ExportLogsServiceRequest);

/// The answer of a receiver.
#[derive(Clone, Copy)]
enum Answer {
    Refused(Code),
    Rejected(i64),
}

/// Passes on the requests that it receives, and gives the configured answers; OK after that.
struct Receiver {
    exports: mpsc::UnboundedSender<Export>,
    answers: Mutex<VecDeque<Answer>>,
}

impl LogsService for Receiver {
    fn export<'a, 'b>(
        &'a self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<ExportLogsServiceResponse>, Status>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (headers, _, request) = request.into_parts();
        self.exports.send((headers, request)).unwrap();
        let partial_success = match self.answers.lock().unwrap().pop_front() {
            Some(Answer::Refused(code)) => {
                return Box::pin(async move { Err(Status::new(code, "the-token-is-hunter2")) });
            }
            Some(Answer::Rejected(rejected_log_records)) => Some(ExportLogsPartialSuccess {
                rejected_log_records,
                error_message: "too old".to_owned(),
            }),
            None => None,
        };
        Box::pin(async move { Ok(Response::new(ExportLogsServiceResponse { partial_success })) })
    }
}

/// Serves a receiver, and returns the requests that it receives.
fn serve(listener: TcpListener, answers: &[Answer]) -> mpsc::UnboundedReceiver<Export> {
    let (exports, received) = mpsc::unbounded_channel();
    let answers = Mutex::new(answers.iter().copied().collect());
    let served = Server::builder()
        .add_service(LogsServiceServer::new(Receiver { exports, answers }))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    received
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

fn config(endpoint: &str, headers_file: Option<&Path>, format: SinkFormat) -> SinkConfig {
    SinkConfig::Otlp {
        endpoint: endpoint.parse().unwrap(),
        headers_file: headers_file.map(Path::to_owned),
        ca: None,
        format,
    }
}

fn records(request: &ExportLogsServiceRequest) -> Vec<&LogRecord> {
    let scopes = request
        .resource_logs
        .iter()
        .flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| &scope.log_records).collect()
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> &'a AnyValue {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.unwrap().value.as_ref().unwrap()
}

fn positions_of(request: &ExportLogsServiceRequest) -> Vec<u64> {
    let positions = records(request).into_iter().map(|record| {
        match value(&record.attributes, "tessera.audit.position").value {
            Some(IntValue(position)) => u64::try_from(position).unwrap(),
            _ => panic!("{record:?}"),
        }
    });
    positions.collect()
}

fn body(record: &LogRecord) -> Value {
    match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(StringValue(text)) => serde_json::from_str(text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn otlp_is_sent_until_the_receiver_has_it() {
    let authority = authority().await;
    let (listener, endpoint) = listener().await;
    let mut received = serve(
        listener,
        &[
            Answer::Refused(Code::Unavailable),
            Answer::Refused(Code::InvalidArgument),
        ],
    );
    let directory = TempDir::new().unwrap();
    let headers = directory.path().join("headers");
    fs::write(&headers, "authorization: Bearer first\n").unwrap();
    let task = deliver(&authority, config(&endpoint, Some(&headers), SinkFormat::Json));
    let (first_headers, first) = received.recv().await.unwrap();
    fs::write(&headers, "authorization: Bearer second\nx-tenant: shop\n").unwrap();
    let (_, second) = received.recv().await.unwrap();
    let (third_headers, third) = received.recv().await.unwrap();
    all_delivered(&authority).await;
    assert_eq!(first_headers.get("authorization").unwrap(), "Bearer first");
    assert_eq!(third_headers.get("authorization").unwrap(), "Bearer second");
    assert_eq!(third_headers.get("x-tenant").unwrap(), "shop");
    assert!(
        first == second && second == third,
        "what was refused is sent again"
    );
    assert_eq!(positions_of(&third), everything(&authority).await);
    assert_eq!(authority.audit_sinks().states()[0].rejected, 0);
    // The next batch is sent without another connection or header.
    authority.audit().sign_audit().await.unwrap();
    let (_, next) = received.recv().await.unwrap();
    let before = *positions_of(&third).last().unwrap();
    assert_eq!(positions_of(&next).first(), Some(&(before + 1)));
    all_delivered(&authority).await;
    task.abort();
}

#[tokio::test]
async fn a_log_record_says_what_when_and_who_sends_it() {
    let authority = authority().await;
    let entries = authority
        .audit_sinks()
        .records_after(0, 1000)
        .await
        .unwrap()
        .entries;
    for format in [SinkFormat::Json, SinkFormat::Ocsf] {
        let (listener, endpoint) = listener().await;
        let mut received = serve(listener, &[]);
        let telemetry = TelemetryConfig {
            service_name: "auth-eu".to_owned(),
            ..TelemetryConfig::default()
        };
        let mut sink = Sink::new(config(&endpoint, None, format), &telemetry);
        sink.deliver(&entries).await.unwrap();
        let (_, request) = received.recv().await.unwrap();
        let resource = request.resource_logs[0].resource.as_ref().unwrap();
        let name = value(&resource.attributes, "service.name");
        assert_eq!(name.value, Some(StringValue("auth-eu".to_owned())));
        value(&resource.attributes, "service.version");
        let record = records(&request)[0].clone();
        let at = u64::try_from(entries[0].record.at.as_millis()).unwrap();
        assert_eq!(record.time_unix_nano, at * 1_000_000);
        assert_eq!(record.event_name, "tessera.audit.signing_key_created");
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            (9, "INFO")
        );
        let realm = value(&record.attributes, "tessera.realm");
        assert_eq!(
            realm.value,
            Some(StringValue(entries[0].record.realm.to_string()))
        );
        let body = body(&record);
        match format {
            SinkFormat::Json => assert_eq!(body["position"], 1),
            SinkFormat::Ocsf => assert_eq!(body["class_uid"], 6003),
        }
    }
}

/// Rejected records are counted, and delay nothing: they would be rejected again.
#[tokio::test]
async fn what_an_otlp_receiver_rejects_is_counted_and_not_sent_again() {
    let authority = authority().await;
    let expected = everything(&authority).await;
    let (listener, endpoint) = listener().await;
    let mut received = serve(listener, &[Answer::Rejected(1), Answer::Rejected(i64::MAX)]);
    let task = deliver(&authority, config(&endpoint, None, SinkFormat::Json));
    let (_, first) = received.recv().await.unwrap();
    assert_eq!(positions_of(&first), expected);
    all_delivered(&authority).await;
    let state = authority.audit_sinks().states().remove(0);
    assert_eq!((state.rejected, state.failing_since), (1, None));
    authority.audit().sign_audit().await.unwrap();
    let (_, second) = received.recv().await.unwrap();
    all_delivered(&authority).await;
    assert_eq!(positions_of(&second)[0], expected.last().unwrap() + 1);
    let more = u64::try_from(records(&second).len()).unwrap();
    assert_eq!(
        authority.audit_sinks().states()[0].rejected,
        1 + more,
        "no more than there were"
    );
    task.abort();
}

/// Receivers refuse more than 4 MiB. If a part fails, the parts before it are not sent again.
#[tokio::test]
async fn an_otlp_batch_is_split_by_its_size_and_goes_on_where_it_failed() {
    let authority = authority().await;
    let some = authority
        .audit_sinks()
        .records_after(0, 1)
        .await
        .unwrap()
        .entries
        .remove(0);
    let entries: Vec<_> = (1..=9)
        .map(|position| AuditEntry {
            position,
            // A third more as base64; the last one is larger than a request should be, and is sent alone.
            encoded: vec![7; if position == 9 { 2_500_000 } else { 700_000 }],
            ..some.clone()
        })
        .collect();
    let (listener, endpoint) = listener().await;
    let (exports, mut received) = mpsc::unbounded_channel();
    let answers = Mutex::new([Answer::Rejected(1), Answer::Refused(Code::Unavailable)].into());
    let service = LogsServiceServer::new(Receiver { exports, answers });
    let served = Server::builder()
        .add_service(service.max_decoding_message_size(4 * 1024 * 1024))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(served);
    let config = config(&endpoint, None, SinkFormat::Json);
    let mut sink = Sink::new(config, &TelemetryConfig::default());
    let problem = sink.deliver(&entries).await.unwrap_err().to_string();
    assert!(
        problem.contains("Unavailable") && !problem.contains("hunter2"),
        "{problem}"
    );
    sink.deliver(&entries).await.unwrap();
    assert_eq!(sink.take_rejected(), 1);
    assert_eq!(sink.take_rejected(), 0);
    let mut seen = Vec::new();
    while let Ok((_, request)) = received.try_recv() {
        assert!(request.encoded_len() <= 4 * 1024 * 1024);
        seen.push(positions_of(&request));
    }
    assert_eq!(
        seen,
        [vec![1, 2, 3], vec![4, 5, 6], vec![4, 5, 6], vec![7, 8], vec![9]]
    );
}

/// A receiver that accepts connections and never answers delays nothing else, and gets everything once it answers: on a
/// new connection each time.
#[tokio::test(start_paused = true)]
async fn an_otlp_receiver_that_hangs_holds_nobody_up() {
    let authority = authority().await;
    let (listener, endpoint) = listener().await;
    let task = deliver(&authority, config(&endpoint, None, SinkFormat::Json));
    let mut hung = Vec::new();
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        let again = tokio::time::timeout(Duration::from_secs(120), listener.accept());
        hung.push(again.await.expect("a connection of its own").unwrap());
        authority.audit_sinks().keep_position("other", 1).await.unwrap();
    }
    assert!(hung.len() >= 10, "{}", hung.len());
    assert!(authority.audit_sinks().states()[0].failing_since.is_some());
    let mut received = serve(listener, &[]);
    let (_, request) = received.recv().await.unwrap();
    assert_eq!(positions_of(&request), everything(&authority).await);
    all_delivered(&authority).await;
    task.abort();
}

#[tokio::test]
async fn headers_that_cannot_be_sent_are_told_and_their_content_is_not() {
    let authority = authority().await;
    let (listener, endpoint) = listener().await;
    let mut received = serve(listener, &[]);
    let directory = TempDir::new().unwrap();
    let headers = directory.path().join("headers");
    fs::write(&headers, "hunter2\n").unwrap();
    let entries = authority
        .audit_sinks()
        .records_after(0, 1000)
        .await
        .unwrap()
        .entries;
    let config = config(&endpoint, Some(&headers), SinkFormat::Json);
    let mut sink = Sink::new(config, &TelemetryConfig::default());
    let said = sink.deliver(&entries).await.unwrap_err().to_string();
    assert!(said.contains("line 1") && !said.contains("hunter2"), "{said}");
    fs::write(&headers, "x-token: hunter2\n").unwrap();
    sink.deliver(&entries).await.unwrap();
    let (sent, _) = received.recv().await.unwrap();
    assert_eq!(sent.get("x-token").unwrap(), "hunter2");
}

#[tokio::test]
async fn a_receiver_that_is_away_is_told_by_what_the_system_says() {
    let authority = authority().await;
    let (listener, endpoint) = listener().await;
    drop(listener);
    let entries = authority
        .audit_sinks()
        .records_after(0, 1000)
        .await
        .unwrap()
        .entries;
    let mut sink = Sink::new(
        config(&endpoint, None, SinkFormat::Json),
        &TelemetryConfig::default(),
    );
    let said = sink.deliver(&entries).await.unwrap_err().to_string();
    assert!(said.contains("Connection refused"), "{said}");
}

#[tokio::test]
async fn what_is_secret_is_warned_about_where_others_can_read_it() {
    let http = |url: &str, token_file: bool| SinkConfig::Http {
        url: SinkUrl(url.parse().unwrap()),
        token_file: token_file.then(|| "token".into()),
        format: SinkFormat::Json,
    };
    let path = Path::new("headers");
    for (config, is_shown) in [
        (http("http://siem.example.org/in", true), true),
        (http("http://siem.example.org/in", false), false),
        (http("https://siem.example.org/in", true), false),
        (http("http://[::1]:80/in", true), false),
        (
            config("http://collector.example.org", Some(path), SinkFormat::Json),
            true,
        ),
        (
            config("http://collector.example.org", None, SinkFormat::Json),
            false,
        ),
        (
            config("https://collector.example.org", Some(path), SinkFormat::Json),
            false,
        ),
    ] {
        let text = format!("{config:?}");
        let sink = Sink::new(config, &TelemetryConfig::default());
        assert_eq!(sink.shows_secrets(), is_shown, "{text}");
    }
}
