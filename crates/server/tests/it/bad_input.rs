//! Bad input at every HTTP endpoint: each fails as its documents say, in time, reveals no secret, and leaves everything
//! unchanged.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde_json::json;
use tessera_server::Limits;
use tessera_store::{MemoryStore, PageRequest, Store, StoreReader};
use tessera_testkit::{
    soon,
    world::{Client, Setup, World, realm},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::{
    endpoint::{Described, Endpoint, Kind, Secrets, endpoints},
    wire::{Log, Over},
};
use crate::{
    endpoints::{form, login, raw, send},
    policy_change::sessions,
};

mod endpoint;
mod inputs;
mod wire;

/// A world with something to lose.
struct Target {
    world: World,
    app: Client,
    secrets: Secrets,
    store: Arc<MemoryStore>,
}

impl Target {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let world = World::with(Setup {
            store: store.clone(),
            server: Limits {
                // A caller with so many wrong guesses is soon told to wait, which this test does not check.
                refusals_per_second_per_address: NonZeroU32::MAX,
                ..Limits::default()
            },
            ..Setup::default()
        })
        .await;
        let app = world.client("production", "app").await;
        let secrets = Secrets::of(&world, &app).await;
        Self {
            world,
            app,
            secrets,
            store,
        }
    }

    /// Everything that is stored: sessions, API keys, audit records, and the number of events.
    async fn stored(&self) -> String {
        let sessions = sessions(self.store.as_ref()).await;
        let realm = realm("production");
        let keys = self.store.api_keys(&realm, first(1000)).await.unwrap();
        let store: Arc<dyn Store> = Arc::clone(&self.store) as _;
        let audited = store.audit(0, 1000).await.unwrap();
        let committed = self.store.log().committed();
        format!("{sessions:#?}\n{keys:#?}\n{audited:#?}\n{committed:?}")
    }

    /// The answers to valid requests after all the bad ones.
    async fn is_as_it_was(&self) {
        let Self { world, secrets, .. } = self;
        let body = json!({ "refreshToken": secrets.refresh_token }).to_string();
        let renewed = send(world, "POST /auth/refresh", &[], body.as_bytes()).await;
        assert_eq!(renewed.status, 200, "{}", renewed.body);
        let body = format!(
            "grant_type=refresh_token&refresh_token={}",
            secrets.oauth_refresh_token
        );
        let renewed = form(world, "/oauth2/token", &self.app, &body).await;
        assert_eq!(renewed.status, 200, "{}", renewed.body);
        let again = login(world, &secrets.api_key).await;
        assert_eq!(again.status, 200, "{}", again.body);
    }
}

fn first<K>(limit: usize) -> PageRequest<K> {
    PageRequest { after: None, limit }
}

async fn every_endpoint_refuses_all_bad_input(over: Over) {
    let log = Log::listen();
    let target = Target::start().await;
    let described = Described::read(&target.world).await;
    assert!(log.take().contains("call served"), "the log is not heard");
    for endpoint in endpoints(&target.secrets) {
        let before = target.stored().await;
        for row in inputs::all(&endpoint, &target.secrets) {
            let running = row.run(&target.world, &endpoint, over, &target.secrets, &described);
            running.await;
            let logged = log.take();
            for secret in target.secrets.all() {
                assert!(!logged.contains(&secret), "{}: {logged}", row.name);
            }
            assert_eq!(target.stored().await, before, "{} {}", endpoint.path, row.name);
        }
    }
    target.is_as_it_was().await;
}

#[tokio::test]
async fn every_endpoint_refuses_all_bad_input_over_http_1() {
    every_endpoint_refuses_all_bad_input(Over::Http1).await;
}

#[tokio::test]
async fn every_endpoint_refuses_all_bad_input_over_http_2() {
    every_endpoint_refuses_all_bad_input(Over::Http2).await;
}

#[tokio::test]
async fn every_endpoint_that_is_described_is_in_the_table_and_works() {
    let target = Target::start().await;
    let described = Described::read(&target.world).await;
    let table = endpoints(&target.secrets);
    let mut listed: Vec<_> = table
        .iter()
        .map(|endpoint| (endpoint.good.method.clone(), endpoint.path.to_owned()))
        .collect();
    listed.sort();
    let mut found = described.endpoints();
    // The path after `/forward-auth` is the request of another client: `proxied_paths.rs` sends it.
    found.retain(|(_, path)| path != "/forward-auth/{path}");
    assert_eq!(found, listed);
    // Otherwise the table would prove little: a request may be refused for another reason.
    for endpoint in table {
        for over in [Over::Http1, Over::Http2] {
            let answer = endpoint.good.send(&target.world, over).await;
            assert_eq!(answer.status, 200, "{}: {}", endpoint.path, answer.body);
            described.check(&endpoint, endpoint.path, &endpoint.good, &answer);
        }
    }
}

/// Before a request has reached an endpoint, there is no endpoint that could describe the error.
#[tokio::test]
async fn what_is_no_request_is_refused_without_a_word() {
    let target = Target::start().await;
    let before = target.stored().await;
    let body = json!({ "refreshToken": target.secrets.refresh_token }).to_string();
    let head = "POST /auth/refresh HTTP/1.1\r\nhost: tessera\r\nconnection: close\r\n";
    let length = format!("content-length: {}\r\n", body.len());
    let with = |line: &str| format!("{head}{length}{line}\r\n{body}");
    let unsized_with = |lines: &str| format!("{head}{lines}\r\n\r\n{body}");
    let requests = [
        (431, with(&format!("x-long: {}\r\n", "a".repeat(66_000)))),
        (431, with(&"x-many: a\r\n".repeat(129))),
        (431, with("x: y\r\n").replace("/refresh", &"/a".repeat(33_000))),
        (400, with("x : y\r\n")),
        (400, with("x: a\0b\r\n")),
        (400, with("x\r\n")),
        (400, with("\u{e9}: y\r\n")),
        (400, with("content-length: 1\r\n")),
        (400, unsized_with("content-length: -1")),
        (400, unsized_with("content-length: many")),
        (400, unsized_with("transfer-encoding: gzip")),
        (400, with("").replace("HTTP/1.1", "HTTP/9.9")),
        (400, with("").replace("POST ", "PO(ST ")),
        (400, with("").replace("/auth", "auth")),
        (400, "nothing of the kind\r\n\r\n".to_owned()),
    ];
    for (status, request) in requests {
        let answer = raw(target.world.address, request.as_bytes()).await;
        let shown: String = request.chars().take(200).collect();
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{shown}");
    }
    assert_eq!(target.stored().await, before);
    target.is_as_it_was().await;
}

/// RFC 9112 §3.2, §6.1; RFC 9110 §10.1.1.
#[tokio::test]
async fn what_http_1_1_forbids_is_refused() {
    let target = Target::start().await;
    let before = target.stored().await;
    let body = json!({ "refreshToken": target.secrets.refresh_token }).to_string();
    let request = |headers: &str| {
        let length = body.len();
        format!(
            "POST /auth/refresh HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let chunked = |coding: &str| {
        let head = format!("POST /auth/refresh HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{coding}");
        format!("{head}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    for (status, request) in [
        (400, request("")),
        (400, request("host: a\r\nhost: a\r\n")),
        (400, request("host: a\r\nhost: b\r\n")),
        (400, request("host: ann@a\r\n")),
        (400, request("host: a b\r\n")),
        (400, request("host: a/b\r\n")),
        (417, request("host: a\r\nexpect: 200-ok\r\n")),
        (417, request("host: a\r\nexpect: 100-continue\r\nexpect: x\r\n")),
        (501, chunked("transfer-encoding: gzip, chunked\r\n")),
        (
            501,
            chunked("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"),
        ),
    ] {
        let answer = raw(target.world.address, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    }
    // No client is told to continue with a body that will not be read.
    let declared = "host: a\r\nexpect: 100-continue\r\ncontent-length: 65537\r\n";
    let head = format!("POST /auth/refresh HTTP/1.1\r\n{declared}connection: close\r\n\r\n");
    assert_eq!(raw(target.world.address, head.as_bytes()).await.status, 413);
    assert_eq!(target.stored().await, before);
    target.is_as_it_was().await;
    for (line, headers) in [
        ("GET /keys HTTP/1.1", "host: [::1]:8080\r\n"),
        ("GET /keys HTTP/1.1", "host: tessera_1:7600\r\n"),
        ("GET /keys HTTP/1.1", "host:\r\n"),
        ("GET /keys HTTP/1.1", "host: a\r\ntransfer-encoding: Chunked\r\n"),
        ("GET /keys HTTP/1.0", ""),
        ("GET http://a/keys HTTP/1.1", "host: a\r\n"),
    ] {
        let request = format!("{line}\r\n{headers}connection: close\r\n\r\n0\r\n\r\n");
        let answer = raw(target.world.address, request.as_bytes()).await;
        assert_eq!(answer.status, 200, "{request}: {}", answer.body);
    }
}

/// Over HTTP/2, only the size of headers counts.
#[tokio::test]
async fn too_large_headers_are_refused_over_http_2() {
    let target = Target::start().await;
    let before = target.stored().await;
    for endpoint in endpoints(&target.secrets) {
        let ask = endpoint.good.header("x-long", [&[b'a'; 50_000][..]]);
        let answer = ask.send(&target.world, Over::Http2).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (431, ""),
            "{}",
            endpoint.path
        );
    }
    assert_eq!(target.stored().await, before);
    target.is_as_it_was().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_does_nothing() {
    let target = Target::start().await;
    let before = target.stored().await;
    for endpoint in endpoints(&target.secrets)
        .iter()
        .filter(|endpoint| reads_a_body(endpoint))
    {
        let broken = raw(target.world.address, &broken(endpoint)).await;
        endpoint.check(endpoint.path, &broken, &target.secrets);
        endpoint.unread(400, "BAD_REQUEST").check(endpoint.path, &broken);
        let mut stream = TcpStream::connect(target.world.address).await.unwrap();
        stream.write_all(&promised(endpoint, 10)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // There may be no answer: a client that has left gets none.
        let reading = stream.read_to_end(&mut answer);
        let _ = soon("the end of the connection", reading).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", endpoint.path);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", endpoint.path);
    }
    assert_eq!(target.stored().await, before);
    target.is_as_it_was().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::with(Setup {
        server: Limits {
            message_time_max: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let secrets = Secrets::of(&world, &app).await;
    let described = Described::read(&world).await;
    let table = endpoints(&secrets);
    let table: Vec<_> = table.iter().filter(|endpoint| reads_a_body(endpoint)).collect();
    let waiting: Vec<_> = table
        .iter()
        .map(|endpoint| {
            let (address, request) = (world.address, promised(endpoint, 10));
            // It keeps the connection open, as if it had more to send.
            tokio::spawn(async move { raw(address, &request).await })
        })
        .collect();
    for (endpoint, waiting) in table.into_iter().zip(waiting) {
        let answer = waiting.await.unwrap();
        endpoint.check(endpoint.path, &answer, &secrets);
        endpoint
            .unread(408, "REQUEST_TIMEOUT")
            .check(endpoint.path, &answer);
        described.check(endpoint, endpoint.path, &endpoint.good, &answer);
    }
}

fn reads_a_body(endpoint: &Endpoint) -> bool {
    matches!(endpoint.kind, Kind::Login { .. } | Kind::Form { .. })
}

/// A valid request that declares a greater length than it has.
fn promised(endpoint: &Endpoint, more: usize) -> Vec<u8> {
    let length = endpoint.good.body.len() + more;
    sized(endpoint, &format!("content-length: {length}\r\n")).into_bytes()
}

/// A valid request in two chunks, the second without a length.
fn broken(endpoint: &Endpoint) -> Vec<u8> {
    let request = sized(endpoint, "transfer-encoding: chunked\r\n");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    format!("{head}\r\n\r\n{:x}\r\n{body}\r\nmany\r\n", body.len()).into_bytes()
}

/// A valid request with another header for its length.
fn sized(endpoint: &Endpoint, line: &str) -> String {
    let request = String::from_utf8(endpoint.good.bytes()).unwrap();
    let said = format!("content-length: {}\r\n", endpoint.good.body.len());
    assert!(request.contains(&said), "{request}");
    request.replace(&said, line)
}
