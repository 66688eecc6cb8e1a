//! Bad input at every HTTP door: each fails as its documents say, in time, tells no secret to anybody, and
//! leaves everything as it was.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde_json::json;
use tessera_server::Limits;
use tessera_store::{MemoryStore, PageRequest, Store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::{
    door::{Described, Door, Kind, Secrets, doors},
    wire::{Log, Over},
};
use crate::{
    doors::{form, login, raw, send},
    policy_change::families,
    world::{Client, Setup, World, realm, soon},
};

mod door;
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
                // Who guesses so often is soon told to wait, which is not what is looked at here.
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

    /// All that is stored: sessions, API keys, what was audited, and how many events there were.
    async fn stored(&self) -> String {
        let families = families(self.store.as_ref()).await;
        let realm = realm("production");
        let keys = self.store.api_keys(&realm, first(1000)).await.unwrap();
        let audited = self.store.audit_after(0, 1000).await.unwrap();
        let committed = *self.store.committed().borrow();
        format!("{families:#?}\n{keys:#?}\n{audited:#?}\n{committed:?}")
    }

    /// What a good request is answered after all the bad ones.
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

async fn every_door_refuses_all_bad_input(over: Over) {
    let log = Log::listen();
    let target = Target::start().await;
    let described = Described::read(&target.world).await;
    assert!(log.take().contains("call served"), "the log is not heard");
    for door in doors(&target.secrets) {
        let before = target.stored().await;
        for row in inputs::all(&door, &target.secrets) {
            let running = row.run(&target.world, &door, over, &target.secrets, &described);
            running.await;
            let logged = log.take();
            for secret in target.secrets.all() {
                assert!(!logged.contains(&secret), "{}: {logged}", row.name);
            }
            assert_eq!(target.stored().await, before, "{} {}", door.path, row.name);
        }
    }
    target.is_as_it_was().await;
}

#[tokio::test]
async fn every_door_refuses_all_bad_input_over_http_1() {
    every_door_refuses_all_bad_input(Over::Http1).await;
}

#[tokio::test]
async fn every_door_refuses_all_bad_input_over_http_2() {
    every_door_refuses_all_bad_input(Over::Http2).await;
}

#[tokio::test]
async fn every_door_that_is_described_is_in_the_table_and_works() {
    let target = Target::start().await;
    let described = Described::read(&target.world).await;
    let table = doors(&target.secrets);
    let mut listed: Vec<_> = table
        .iter()
        .map(|door| (door.good.method.clone(), door.path.to_owned()))
        .collect();
    listed.sort();
    let mut found = described.doors();
    // What follows `/forward-auth` is somebody else's request: `proxied_paths.rs` sends it.
    found.retain(|(_, path)| path != "/forward-auth/{path}");
    assert_eq!(found, listed);
    // Otherwise the table would show little: what is refused may be refused for another reason.
    for door in table {
        for over in [Over::Http1, Over::Http2] {
            let answer = door.good.send(&target.world, over).await;
            assert_eq!(answer.status, 200, "{}: {}", door.path, answer.body);
            described.check(&door, door.path, &door.good, &answer);
        }
    }
}

/// Before a request has come to a door there is no door to say what is wrong.
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

/// The same over HTTP/2, where only their size counts.
#[tokio::test]
async fn too_large_headers_are_refused_over_http_2() {
    let target = Target::start().await;
    let before = target.stored().await;
    for door in doors(&target.secrets) {
        let ask = door.good.header("x-long", [&[b'a'; 50_000][..]]);
        let answer = ask.send(&target.world, Over::Http2).await;
        assert_eq!((answer.status, answer.body.as_str()), (431, ""), "{}", door.path);
    }
    assert_eq!(target.stored().await, before);
    target.is_as_it_was().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_does_nothing() {
    let target = Target::start().await;
    let before = target.stored().await;
    for door in doors(&target.secrets).iter().filter(|door| reads_a_body(door)) {
        let broken = raw(target.world.address, &broken(door)).await;
        door.check(door.path, &broken, &target.secrets);
        door.unread(400, "BAD_REQUEST").check(door.path, &broken);
        let mut stream = TcpStream::connect(target.world.address).await.unwrap();
        stream.write_all(&promised(door, 10)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // There may be none: who has gone hears nothing.
        let reading = stream.read_to_end(&mut answer);
        let _ = soon("the end of the connection", reading).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", door.path);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", door.path);
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
    let table = doors(&secrets);
    let table: Vec<_> = table.iter().filter(|door| reads_a_body(door)).collect();
    let waiting: Vec<_> = table
        .iter()
        .map(|door| {
            let (address, request) = (world.address, promised(door, 10));
            // It keeps the connection open, as it has more to say.
            tokio::spawn(async move { raw(address, &request).await })
        })
        .collect();
    for (door, waiting) in table.into_iter().zip(waiting) {
        let answer = waiting.await.unwrap();
        door.check(door.path, &answer, &secrets);
        door.unread(408, "REQUEST_TIMEOUT").check(door.path, &answer);
        described.check(door, door.path, &door.good, &answer);
    }
}

fn reads_a_body(door: &Door) -> bool {
    matches!(door.kind, Kind::Login { .. } | Kind::Form { .. })
}

/// A good request that says that it is longer than it is.
fn promised(door: &Door, more: usize) -> Vec<u8> {
    let length = door.good.body.len() + more;
    sized(door, &format!("content-length: {length}\r\n")).into_bytes()
}

/// A good request in two pieces, of which the second has no length.
fn broken(door: &Door) -> Vec<u8> {
    let request = sized(door, "transfer-encoding: chunked\r\n");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    format!("{head}\r\n\r\n{:x}\r\n{body}\r\nmany\r\n", body.len()).into_bytes()
}

/// A good request with another line for its length.
fn sized(door: &Door, line: &str) -> String {
    let request = String::from_utf8(door.good.bytes()).unwrap();
    let said = format!("content-length: {}\r\n", door.good.body.len());
    assert!(request.contains(&said), "{request}");
    request.replace(&said, line)
}
