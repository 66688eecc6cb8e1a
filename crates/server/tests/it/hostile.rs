//! Callers that leave requests unfinished, or answers unread: all others are still served, and no resources are kept
//! for these callers.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client};
use http::{Request, Response};
use prost::Message;
use tessera_proto::v1::{IssueRequest, ListKeysRequest, RevokeRequest, revoke_request::Target};
use tessera_server::Limits;
use tessera_testkit::{
    soon,
    world::{Setup, World, reason},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// A connection with direct control of HTTP/2.
struct Raw(client::SendRequest<Bytes>);

/// A request that was begun.
struct Begun {
    answer: client::ResponseFuture,
    body: SendStream<Bytes>,
}

impl Raw {
    /// Connects with a window of `window` bytes for each answer, and as many answers as the server gives.
    async fn connect(world: &World, window: u32) -> Self {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let handshake = client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(1 << 30)
            .handshake::<_, Bytes>(stream)
            .await;
        let (sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Begins a gRPC call.
    async fn begin(&mut self, path: &str, key: Option<&str>) -> Begun {
        self.try_begin(path, key).await.unwrap()
    }

    /// The same; fails if the connection has ended.
    async fn try_begin(&mut self, path: &str, key: Option<&str>) -> Result<Begun, h2::Error> {
        let mut request = Request::post(format!("http://tessera{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut sender = self.0.clone().ready().await?;
        let (answer, body) = sender.send_request(request.body(()).unwrap(), false)?;
        Ok(Begun { answer, body })
    }
}

/// A message of `length` bytes without its last byte.
fn unfinished(length: u32) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.resize(5 + length as usize - 1, 0);
    bytes.into()
}

/// The status of a call that was answered without a message.
async fn grpc_status(answer: client::ResponseFuture) -> String {
    let response: Response<RecvStream> = soon("an answer", answer).await.unwrap();
    let (head, mut body) = response.into_parts();
    let status = match head.headers.get("grpc-status") {
        Some(status) => status.clone(),
        None => {
            while let Some(data) = body.data().await {
                data.unwrap();
            }
            body.trailers().await.unwrap().unwrap()["grpc-status"].clone()
        }
    };
    status.to_str().unwrap().to_owned()
}

const UNAUTHENTICATED: &str = "16";
const DEADLINE_EXCEEDED: &str = "4";
const UNIMPLEMENTED: &str = "12";

async fn world(server: Limits) -> World {
    World::with(Setup {
        server,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read() {
    let world = world(Limits::default()).await;
    let mut raw = Raw::connect(&world, 65_535).await;
    for path in [
        "/tessera.v1.PolicyService/Plan",
        "/tessera.v1.TokenService/Issue",
        "/tessera.v1.RevocationService/Watch",
    ] {
        let begun = raw.begin(path, None).await;
        // Not a byte of the body is sent.
        assert_eq!(grpc_status(begun.answer).await, UNAUTHENTICATED, "{path}");
    }
}

/// Two messages in these frames.
fn two_messages(message: &[u8], is_one_frame: bool) -> Vec<Bytes> {
    let mut one = vec![0];
    one.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    one.extend(message);
    if is_one_frame {
        return vec![[one.clone(), one].concat().into()];
    }
    vec![one.clone().into(), one.into()]
}

#[tokio::test]
async fn a_unary_call_with_two_messages_does_nothing() {
    let world = world(Limits::default()).await;
    let app = world.client("production", "app").await;
    let refresh_token = app.issue_for("user:ann").await.tokens.unwrap().refresh_token;
    let mut raw = Raw::connect(&world, 65_535).await;
    let revoke = RevokeRequest {
        target: Some(Target::Token(refresh_token.clone())),
        ..RevokeRequest::default()
    };
    let position = world.authority.position();
    for is_one_frame in [true, false] {
        let mut begun = raw
            .begin("/tessera.v1.TokenService/Revoke", Some(&app.api_key))
            .await;
        for frame in two_messages(&revoke.encode_to_vec(), is_one_frame) {
            begun.body.send_data(frame, false).unwrap();
        }
        assert_eq!(grpc_status(begun.answer).await, UNIMPLEMENTED, "{is_one_frame}");
    }
    assert_eq!(world.authority.position(), position);
    app.refresh(&refresh_token).await.unwrap();
}

#[tokio::test]
async fn a_message_that_does_not_arrive_ends_the_call() {
    let world = world(Limits {
        message_time_max: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let mut raw = Raw::connect(&world, 65_535).await;
    for (path, key) in [
        ("/tessera.v1.TokenService/Issue", Some(app.api_key.as_str())),
        ("/tessera.v1.RevocationService/Watch", Some(app.api_key.as_str())),
        ("/tessera.v1.KeyService/ListKeys", None),
        ("/grpc.health.v1.Health/Check", None),
        ("/envoy.service.auth.v3.Authorization/Check", None),
    ] {
        let mut begun = raw.begin(path, key).await;
        begun.body.send_data(unfinished(1000), false).unwrap();
        assert_eq!(grpc_status(begun.answer).await, DEADLINE_EXCEEDED, "{path}");
        let silent = raw.begin(path, key).await;
        assert_eq!(grpc_status(silent.answer).await, DEADLINE_EXCEEDED, "{path}");
    }
    // Reflection ends its stream without saying why.
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let silent = raw.begin(reflection, None).await;
    grpc_status(silent.answer).await;
    let refused = slow_issue(&app).await;
    assert_eq!(refused, "DeadlineExceeded / REQUEST_TOO_SLOW");
}

/// Neither a request or a head that does not end delays it, nor a stream that any client may open.
#[tokio::test]
async fn a_stranger_does_not_hold_up_a_stop() {
    let mut world = world(Limits {
        drain_time_max: Duration::from_secs(3600),
        ..Limits::default()
    })
    .await;
    let mut connections = Vec::new();
    for begun in [
        "",
        "GET /keys HT",
        "POST /oauth2/token HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: 100\r\n\r\ngrant_type=",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        connections.push(stream);
    }
    let mut raw = Raw::connect(&world, 65_535).await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let stream = raw.begin(reflection, None).await;
    let mut silent = raw.begin("/tessera.v1.KeyService/ListKeys", None).await;
    silent.body.send_data(unfinished(10), false).unwrap();
    let mut health = HealthClient::new(world.channel());
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    let serving = soon("a status", watch.message()).await.unwrap().unwrap();
    assert_eq!(serving.status(), ServingStatus::Serving);
    world.stop();
    let mut said = Vec::new();
    let ended = loop {
        match soon("an end", watch.message()).await {
            Ok(status) => said.push(status.unwrap().status()),
            Err(ended) => break ended,
        }
    };
    assert!(said.contains(&ServingStatus::NotServing), "{said:?}");
    assert_eq!(reason(&ended), "Unavailable / DRAINING");
    soon("the server stops", &mut world.serving)
        .await
        .unwrap()
        .unwrap();
    let mut answer = String::new();
    connections[2].read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("the server is stopping"),
        "{answer}"
    );
    drop((stream, silent));
}

/// An Issue whose body stops after its first bytes, by tonic's own client.
async fn slow_issue(app: &tessera_testkit::world::Client) -> String {
    let mut tokens = tonic::client::Grpc::new(app.intercepted());
    tokens.ready().await.unwrap();
    let never = tokio_stream::pending::<IssueRequest>();
    let path = http::uri::PathAndQuery::from_static("/tessera.v1.TokenService/Issue");
    let codec = tonic_prost::ProstCodec::<IssueRequest, tessera_proto::v1::IssueResponse>::default();
    let answered = tokens
        .client_streaming(tonic::Request::new(never), path, codec)
        .await;
    reason(&answered.unwrap_err())
}

#[tokio::test]
async fn unfinished_requests_give_way_to_others() {
    let world = world(Limits {
        unauthenticated_calls_max: 20,
        ..Limits::default()
    })
    .await;
    let mut hostile = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect(&world, 65_535).await;
        for path in ["/grpc.health.v1.Health/Check", "/tessera.v1.KeyService/ListKeys"] {
            let mut begun = raw.begin(path, None).await;
            begun.body.send_data(unfinished(1000), false).unwrap();
            hostile.push(begun);
        }
    }
    // Each of these is complete at once, and replaces an unfinished one.
    for _ in 0..50 {
        let listed = soon("keys", world.keys().list_keys(ListKeysRequest::default())).await;
        listed.unwrap();
    }
    let first = hostile.swap_remove(0);
    let ended = soon("the oldest to end", first.answer).await;
    assert!(ended.is_err() || ended.unwrap().headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn bytes_that_are_not_decoded_are_bounded() {
    let world = world(Limits {
        // A quarter of it is for callers without credentials.
        request_bytes_max: 512 * 1024,
        ..Limits::default()
    })
    .await;
    let path = "/envoy.service.auth.v3.Authorization/Check";
    let mut hostile = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(&world, 65_535).await;
        let mut begun = raw.begin(path, None).await;
        begun.body.send_data(unfinished(60_000), false).unwrap();
        hostile.push((raw, begun));
    }
    let app = world.client("production", "app").await;
    soon("an Issue", app.issue_for("user:ann")).await;
    let mut left = 0;
    for (_, begun) in hostile {
        let ended = tokio::time::timeout(Duration::from_millis(300), begun.answer).await;
        left += u32::from(ended.is_err());
    }
    assert!(left <= 2, "{left} of 60 kB each are still there");
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_loses_its_connection() {
    let world = world(Limits {
        answer_time_max: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut raw = Raw::connect(&world, 0).await;
    let request = Request::get("http://tessera/openapi.json").body(()).unwrap();
    let mut sender = raw.0.clone().ready().await.unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let mut body = soon("the head", answer).await.unwrap().into_body();
    let end = soon("the end", body.data()).await;
    assert!(end.is_none_or(|data| data.is_err()));
    // The connection is gone.
    let ended = soon("the end of the connection", async {
        loop {
            match raw.0.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    assert_ne!(ended.await.reason(), Some(Reason::NO_ERROR));
    raw = Raw::connect(&world, 65_535).await;
    drop(raw);
}

/// Streams of one connection are bounded, too.
/// The parts of an answer that HTTP/2 has taken for sending are counted until they are sent.
#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let world = world(Limits {
        unauthenticated_calls_max: 16,
        ..Limits::default()
    })
    .await;
    // A byte of each is taken, so that all of it is given to the connection.
    let raw = Raw::connect(&world, 1).await;
    let mut unread = Vec::new();
    let ends = async {
        for _ in 0..100 {
            let request = Request::get("http://tessera/openapi.json").body(()).unwrap();
            let Ok(mut sender) = raw.0.clone().ready().await else {
                return;
            };
            let Ok((answer, _)) = sender.send_request(request, true) else {
                return;
            };
            let Ok(head) = answer.await else { return };
            unread.push(head.into_body());
        }
        panic!("100 answers are kept for a peer that takes none");
    };
    soon("the connection to end", ends).await;
}

/// The same for streams, which go on after an answer: reflection has long ones.
#[tokio::test]
async fn streams_whose_answers_nobody_reads_are_bounded() {
    let world = world(Limits {
        unauthenticated_calls_max: 16,
        ..Limits::default()
    })
    .await;
    let mut raw = Raw::connect(&world, 1).await;
    let mut unread = Vec::new();
    let ends = async {
        for _ in 0..100 {
            let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            let Ok(mut begun) = raw.try_begin(path, None).await else {
                return;
            };
            // `file_containing_symbol`.
            let symbol = b"tessera.v1.TokenService";
            let question = [&[0x22, u8::try_from(symbol.len()).unwrap()][..], symbol].concat();
            let mut message = vec![0, 0, 0, 0, u8::try_from(question.len()).unwrap()];
            message.extend(question);
            if begun.body.send_data(message.into(), false).is_err() {
                return;
            }
            let Ok(head) = begun.answer.await else { return };
            unread.push((begun.body, head.into_body()));
        }
        panic!("100 answers are kept for a peer that takes none");
    };
    soon("the connection to end", ends).await;
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    let world = world(Limits {
        streams_per_connection_max: 3,
        ..Limits::default()
    })
    .await;
    let mut raw = Raw::connect(&world, 65_535).await;
    let app = world.client("production", "app").await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(
            raw.begin("/tessera.v1.TokenService/Issue", Some(&app.api_key))
                .await,
        );
    }
    let fourth = raw.begin("/tessera.v1.KeyService/ListKeys", None);
    let waits = tokio::time::timeout(Duration::from_millis(200), fourth).await;
    let answered = match waits {
        Err(_) => false,
        Ok(fourth) => tokio::time::timeout(Duration::from_millis(200), fourth.answer)
            .await
            .is_ok_and(|answer| answer.is_ok()),
    };
    assert!(!answered);
}

/// A client's messages that do not fit at once wait for each other, and all succeed.
#[tokio::test]
async fn many_large_requests_of_a_client_are_served_one_after_the_other() {
    let world = world(Limits::default()).await;
    let app = world.client("production", "app").await;
    let tokens = vec!["x".repeat(4096); 100];
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, tokens) = (app.tokens(), tokens.clone());
        calls.spawn(async move {
            let request = tessera_proto::v1::IntrospectManyRequest {
                tokens,
                ..Default::default()
            };
            client.introspect_many(request).await
        });
    }
    while let Some(called) = soon("an answer", calls.join_next()).await {
        assert_eq!(called.unwrap().unwrap().into_inner().results.len(), 100);
    }
}

/// A change that was made is acknowledged, even with little space for answers.
#[tokio::test]
async fn a_change_is_told_although_there_is_no_room_for_answers() {
    let world = world(Limits {
        answer_bytes_max: 0,
        ..Limits::default()
    })
    .await;
    let app = world.client("production", "app").await;
    soon("an Issue", app.issue_for("user:ann")).await;
}
