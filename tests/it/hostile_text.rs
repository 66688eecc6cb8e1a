//! For any input of a caller, the log has only lines that the server made: complete, short, few, and without secrets.

mod endpoints;
mod log;
mod rpcs;

use std::{sync::Arc, time::Instant};

use tessera_proto::v1::{CreateApiKeyRequest, api_key_service_client::ApiKeyServiceClient};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, HeaderName, HeaderValue},
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use self::{
    endpoints::HttpRequest,
    log::{Format, Line, Log, assert_sound},
    rpcs::{Contract, Leaf, Rpc},
};
use crate::{
    serving::Place,
    support::{Authority, Client, access, soon, viewer},
};

const CANARY: &str = "canary";
/// Characters that take nine bytes each in a sent message.
const MANY: &str =
    "語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語語";
const FAKE_LINE: &str = "2026-01-01T00:00:00Z  INFO root logged in";
/// The most bytes of a status in the trailers.
const STATUS_BYTES_MAX: usize = 4 * 1024;
/// How many calls may be in progress at once.
const CALLS_AT_ONCE: usize = 16;
/// `edge/log.rs` of the server: refusals per second that are logged, in bursts of five seconds' worth.
const STRANGERS_PER_SECOND: u64 = 20;
const CLIENT_PER_SECOND: u64 = 10;
const BURST_SECONDS: u64 = 5;
/// Far more than a server needs for a few thousand refused requests in a debug build.
const MEMORY_KIB_MAX: u64 = 512 * 1024;

/// The texts that callers send. Secrets contain the canary, and nothing else does.
fn texts() -> Vec<Vec<u8>> {
    let everything = format!(
        "x\n{FAKE_LINE}\r\n{{\"level\":\"INFO\",\"level\":\"root\"}}\t\u{1b}[31mred\u{1b}[0m\u{2028}\u{202e}\u{0}\u{7f}\u{85} \
         tsk_production_{CANARY}0123456789 \"quoted\" \\ level=INFO"
    );
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----");
    let mut texts = vec![
        everything.clone().into_bytes(),
        // Printable, except for characters that change the direction of a line.
        "user:ann\u{202e}\u{2028}\u{2066}".into(),
        b"user:\xff\xfe\n\xc3".to_vec(),
        format!("user:{}", "a".repeat(100_000)).into_bytes(),
        everything.repeat(600).into_bytes(),
        pem.into_bytes(),
    ];
    for prefix in ["tsk_production_", "tsr_", "v4.public.", "v4.local.", "k4.secret."] {
        texts.push(format!("{prefix}{CANARY}0123456789abcdef").into_bytes());
    }
    texts
}

/// A server, and its log.
struct World {
    place: Place,
    format: Format,
    log: Log,
    authority: Authority,
    admin: String,
    began: Instant,
    clients: u64,
}

impl World {
    /// Clients with these numbers have the permissions of the first one.
    fn start(format: Format, clients: usize) -> Self {
        let place = Place::new();
        for (from, to) in [
            // Every field must be checked, and the limits have separate tests.
            (
                "refusals_per_second_per_address = 10",
                "refusals_per_second_per_address = 100000",
            ),
            (
                "calls_per_second_per_client = 5000",
                "calls_per_second_per_client = 0",
            ),
            (
                "disk_mib_per_hour_per_client = 8192",
                "disk_mib_per_hour_per_client = 0",
            ),
        ] {
            place.edit("tessera.toml", from, to);
        }
        let filter = match format {
            Format::Text => "info",
            Format::Json => {
                place.edit("tessera.toml", "format = \"text\"", "format = \"json\"");
                "debug"
            }
        };
        let policy = std::fs::read_to_string(place.path("policies/policy.csv")).unwrap();
        let mut granted = policy.clone();
        for line in policy.lines().filter(|line| line.contains("client:dev")) {
            for number in 0..clients {
                granted.push_str(&line.replace("client:dev", &format!("client:hostile-{number}")));
                granted.push('\n');
            }
        }
        std::fs::write(place.path("policies/policy.csv"), granted).unwrap();
        let made = place.first_key("production");
        let log = Log::default();
        let authority = place.serve_with(filter, log.clone());
        Self {
            place,
            format,
            log,
            authority,
            admin: made["secret"].as_str().unwrap().to_owned(),
            began: Instant::now(),
            clients: clients as u64 + 1,
        }
    }

    /// The key of a further client.
    async fn key(&self, number: usize) -> String {
        let client = Client::connect(&self.authority.address, &self.admin).await;
        let request = CreateApiKeyRequest {
            name: format!("hostile-{number}"),
            ..CreateApiKeyRequest::default()
        };
        let made = ApiKeyServiceClient::new(client.channel)
            .create_api_key(request)
            .await;
        made.unwrap().into_inner().secret
    }

    fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.authority.address.clone()).unwrap();
        endpoint.connect_lazy()
    }

    /// Checks that it serves, that its memory is within the limit, and that its log is in order.
    async fn end(self) -> Vec<Line> {
        let client = Client::connect(&self.authority.address, &self.admin).await;
        let issued = client.issue(viewer("user:ann")).await.unwrap();
        assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
        let memory = self.authority.peak_memory();
        assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
        let seconds = self.began.elapsed().as_secs() + 1 + BURST_SECONDS;
        assert!(self.authority.stop().success());
        let lines = self.log.lines(self.format);
        let written = lines.iter().find(|line| line.text.contains(CANARY));
        assert!(written.is_none(), "{:?}", written.map(|line| &line.text));
        let count = |prefix: &str| {
            let of = |line: &&Line| {
                line.text.contains("refused")
                    && line.field("request_id").is_some_and(|id| id.starts_with(prefix))
            };
            lines.iter().filter(of).count() as u64
        };
        let (strangers, known) = (count("stranger"), count("key"));
        assert!(strangers > 0 && known > 0, "{strangers} {known}");
        let strangers_max = STRANGERS_PER_SECOND * seconds;
        assert!(strangers <= strangers_max, "{strangers} in {seconds} s");
        // Calls whose credential was not checked yet count with the strangers.
        let known_max = strangers_max - strangers + CLIENT_PER_SECOND * seconds * self.clients;
        assert!(known <= known_max, "{known} in {seconds} s");
        for line in lines.iter().filter(|line| line.text.contains("call refused")) {
            assert_says_who(line);
        }
        drop(self.place);
        lines
    }
}

fn assert_says_who(line: &Line) {
    let has = |name: &str| line.field(name).is_some();
    assert!(has("request_id") && has("address") && has("rpc"), "{}", line.text);
    let is_known = line.field("request_id").is_some_and(|id| id.starts_with("keyed"));
    if is_known {
        assert!(has("client") && has("realm") && has("api_key"), "{}", line.text);
    }
}

fn headers(key: Option<&str>, is_known: bool, number: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", request_id(is_known, number).parse().unwrap());
    headers.insert("grpc-timeout", HeaderValue::from_static("2S"));
    if let Some(key) = key {
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    headers
}

/// A name that shows whether the server knows the caller.
fn request_id(is_known: bool, number: usize) -> String {
    let kind = if is_known { "keyed" } else { "stranger" };
    format!("{kind}-{number}")
}

/// Whether an RPC needs a key; otherwise a key is not checked.
fn needs_key(rpc: &Rpc) -> bool {
    rpc.service.starts_with("tessera.") && rpc.name != "ListKeys"
}

/// Calls in progress, with a limit.
struct Calls {
    places: Arc<Semaphore>,
    running: JoinSet<(bool, Result<(), Status>)>,
    channel: Channel,
}

/// How many calls were refused.
#[derive(Default)]
struct Refused {
    all: usize,
    /// Refusals of known callers because of their input.
    known: usize,
}

impl Calls {
    fn new(channel: Channel) -> Self {
        Self {
            places: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            running: JoinSet::new(),
            channel,
        }
    }

    async fn call(&mut self, rpc: &Arc<Rpc>, headers: HeaderMap, message: Vec<u8>) {
        let is_known = headers
            .get("x-request-id")
            .is_some_and(|id| id.as_bytes().starts_with(b"keyed"));
        let place = Arc::clone(&self.places).acquire_owned().await.unwrap();
        let (channel, rpc) = (self.channel.clone(), Arc::clone(rpc));
        self.running.spawn(async move {
            let answer = soon(&rpc.name, rpcs::call(channel, &rpc, headers, message)).await;
            drop(place);
            (is_known, answer)
        });
    }

    /// Waits for all calls.
    async fn refused(&mut self) -> Refused {
        let mut refused = Refused::default();
        while let Some(ended) = self.running.join_next().await {
            let (is_known, answer) = ended.unwrap();
            let Err(status) = answer else { continue };
            assert_is_short(&status);
            let code = status.code();
            refused.all += usize::from(code != Code::Unavailable);
            // A call that takes too long on a busy machine is not refused because of its input.
            let is_late = matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
            refused.known += usize::from(is_known && !is_late);
        }
        refused
    }
}

/// Message and details take less than 4 KiB when sent: peers refuse longer trailers.
fn assert_is_short(status: &Status) {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    let sent = ["grpc-message", "grpc-status-details-bin"];
    let bytes: usize = sent
        .iter()
        .filter_map(|name| headers.get(*name))
        .map(HeaderValue::len)
        .sum();
    assert!(bytes < STATUS_BYTES_MAX, "{bytes} bytes: {status:?}");
}

async fn assert_all_that_is_served_is_known(contract: &Contract, channel: Channel) {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let known = contract.services();
    for service in listed.service {
        assert!(known.contains(service.name.as_str()), "{}", service.name);
    }
}

/// The messages with one hostile field: hostile texts, or one extreme number.
fn messages(contract: &Contract, rpc: &Rpc, leaf: &Leaf, texts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let neighbours = contract.neighbours(rpc, leaf);
    let texts = if leaf.takes_text() { texts } else { &texts[..1] };
    let beside = texts
        .iter()
        .map(|text| [neighbours.clone(), leaf.message(text)].concat());
    let alone = std::iter::once(leaf.message(&texts[0]));
    // For a list, the maximum number of elements, each with a different error.
    let many = [neighbours.clone(), leaf.message(MANY.as_bytes()).repeat(100)].concat();
    beside.chain(alone).chain([many]).collect()
}

async fn every_field_of_every_rpc(format: Format) {
    let contract = Contract::read();
    let texts = texts();
    let world = World::start(format, contract.rpcs.len());
    assert_all_that_is_served_is_known(&contract, world.channel()).await;
    let mut number = 0;
    let rpcs: Vec<_> = contract.rpcs.iter().collect();
    let (mut refused, mut named) = (0, Vec::new());
    for (place, rpc) in rpcs.into_iter().enumerate() {
        let key = world.key(place).await;
        let shared = Arc::new(Rpc::clone(rpc));
        let mut calls = Calls::new(world.channel());
        for leaf in contract.leaves(rpc) {
            for (at, message) in messages(&contract, rpc, &leaf, &texts).into_iter().enumerate() {
                number += 1;
                // Without a credential, most of them end before the message is read.
                if at == 0 {
                    calls
                        .call(&shared, headers(None, false, number), message.clone())
                        .await;
                }
                calls
                    .call(&shared, headers(Some(&key), needs_key(rpc), number), message)
                    .await;
            }
        }
        let here = calls.refused().await;
        refused += here.all;
        // Refusals of strangers share one allowance of log lines; each of these clients has a separate one.
        if here.known > 0 && rpc.service.starts_with("tessera.") {
            named.push(rpc.name.clone());
        }
    }
    hostile_headers(&world, &contract, &texts).await;
    let log = world.end().await;
    assert!(refused > 500 && named.len() > 20, "{refused} {named:?}");
    for name in named {
        let is_named = |line: &Line| line.field("rpc").as_deref() == Some(name.as_str());
        assert!(log.iter().any(is_named), "no line about {name}");
    }
}

/// The bytes that HTTP/2 allows in headers: 32 and more.
async fn hostile_headers(world: &World, contract: &Contract, texts: &[Vec<u8>]) {
    let mut calls = Calls::new(world.channel());
    for rpc in &contract.rpcs {
        let shared = Arc::new(rpc.clone());
        for name in [
            "authorization",
            "x-request-id",
            "user-agent",
            "grpc-timeout",
            "cookie",
            "x-forwarded-for",
        ] {
            for text in texts.iter().filter(|text| text.len() < 1000) {
                let text: Vec<u8> = text
                    .iter()
                    .copied()
                    .filter(|byte| *byte >= 0x20 && *byte != 0x7f)
                    .collect();
                let mut headers = headers(None, false, 0);
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_bytes(&text).unwrap(),
                );
                calls.call(&shared, headers, Vec::new()).await;
            }
        }
    }
    calls.refused().await;
}

/// Envoy's question with a path of 100 kB, which was the cheapest way to fill the log.
async fn flood(world: &World, contract: &Contract) {
    let check = contract.rpcs.iter().find(|rpc| rpc.service.starts_with("envoy."));
    let check = Arc::new(check.unwrap().clone());
    let leaves = contract.leaves(&check);
    let texts: Vec<_> = leaves.iter().filter(|leaf| leaf.takes_text()).collect();
    let long = [FAKE_LINE.as_bytes(), b"\n"].concat().repeat(2_400);
    let mut calls = Calls::new(world.channel());
    for number in 0..500 {
        let leaf = texts[number % texts.len()];
        calls
            .call(&check, headers(None, false, number), leaf.message(&long))
            .await;
    }
    calls.refused().await;
}

fn every_parameter_of_every_endpoint(world: &World) {
    let address = &world.authority.address;
    let description = http_description(address);
    let mut number = 0;
    for text in texts() {
        for request in endpoints::requests(&description, &text) {
            number += 1;
            request.send(address, None, &request_id(false, number));
            let authorization = format!("Bearer {}", world.admin);
            // The endpoints look at the key after the body.
            request.send(address, Some(&authorization), &format!("key-{number}"));
        }
    }
}

fn http_description(address: &str) -> serde_json::Value {
    let answer = HttpRequest::get("/openapi.json").send(address, None, "plain");
    let answer = String::from_utf8(answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

async fn every_endpoint(format: Format) {
    let world = World::start(format, 0);
    tokio::task::block_in_place(|| every_parameter_of_every_endpoint(&world));
    flood(&world, &Contract::read()).await;
    let bytes = world.log.len();
    if format == Format::Text {
        assert!(bytes < 1024 * 1024, "{bytes} bytes");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_of_an_rpc_forges_or_floods_the_log_in_text() {
    every_field_of_every_rpc(Format::Text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_of_an_rpc_forges_or_floods_the_log_in_json() {
    every_field_of_every_rpc(Format::Json).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameter_of_an_endpoint_forges_or_floods_the_log_in_text() {
    every_endpoint(Format::Text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameter_of_an_endpoint_forges_or_floods_the_log_in_json() {
    every_endpoint(Format::Json).await;
}

#[test]
fn lines_that_callers_made_are_found() {
    let good = "2026-11-26T21:00:00.000000Z  INFO serving listen=127.0.0.1:1";
    assert_sound(Format::Text, good).unwrap();
    for bad in [
        FAKE_LINE.to_owned(),
        format!("{good}\u{1b}[31m"),
        format!("{good}\r"),
        format!("{good}\u{202e}"),
        format!("{good}{}", "x".repeat(9000)),
        "panicked at".to_owned(),
    ] {
        assert!(assert_sound(Format::Text, &bad).is_err(), "{bad}");
    }
    let json = |more: &str| {
        format!(r#"{{"level":"INFO","message":"x","timestamp":"2026-11-26T21:00:00.000000Z"{more}}}"#)
    };
    assert_sound(Format::Json, &json("")).unwrap();
    for bad in [
        good.to_owned(),
        json(r#","level":"INFO""#),
        json("").replace("INFO", "root"),
    ] {
        assert!(assert_sound(Format::Json, &bad).is_err(), "{bad}");
    }
}
