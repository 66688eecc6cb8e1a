//! The layer that calls a service: what it sends, the errors that it returns, and the effect of a refusal.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use tessera_client::{
    ApiKey, AttachToken, AttachTokenLayer, Client, ClientOptions, Connection, Requirement, TokenError,
    TokenRequest, TokenSource,
    v1::{
        ListKeysRequest, WatchRequest, key_service_client::KeyServiceClient,
        revocation_service_client::RevocationServiceClient, watch_response::Message,
    },
};
use tessera_testkit::{soon, until};
use tokio::sync::Barrier;
use tonic::{Code, Status, body::Body as GrpcBody, transport::Channel};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    authorizing::OnlyWhenReady,
    fake::{Gate, gate},
    shop::{Shop, listed},
    world::World,
};

fn request() -> TokenRequest {
    TokenRequest {
        subject: "user:ann".to_owned(),
        roles: vec!["role:viewer".to_owned()],
        audience: "api".to_owned(),
        ..TokenRequest::default()
    }
}

fn quick() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_millis(200),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    }
}

/// A source behind a gate that counts its calls.
async fn source(world: &World) -> (Gate, TokenSource) {
    let (gate, address) = gate(world).await;
    let client = world.client("app", &address, ClientOptions::default()).await;
    (gate, TokenSource::new(client, request()))
}

type Caller = KeyServiceClient<AttachToken<Channel>>;

/// A protected shop, and a caller of it.
async fn caller(world: &World, source: &TokenSource) -> (Shop, Caller) {
    let verifier = world.kit.verifier("api").await;
    let shop = Shop::default();
    let open = verifier.require(Requirement::open());
    let channel = shop.serve(open, verifier.require(listed())).await;
    (shop, Caller::new(AttachToken::new(channel, source.clone())))
}

async fn call(caller: &Caller) -> Result<String, Status> {
    let mut caller = caller.clone();
    let answer = soon("an answer", caller.list_keys(ListKeysRequest::default())).await?;
    Ok(answer.into_inner().keys[0].kid.clone())
}

#[tokio::test]
async fn a_call_waits_for_the_token_and_takes_it_along() {
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let (shop, caller) = caller(&world, &source).await;
    gate.hold(true);
    let calling = tokio::spawn({
        let caller = caller.clone();
        async move { call(&caller).await }
    });
    until("the token is asked for", || gate.answered() == 1).await;
    assert!(!calling.is_finished() && shop.calls() == 0);
    gate.hold(false);
    assert_eq!(soon("the call", calling).await.unwrap().unwrap(), "user:ann");
    assert_eq!(call(&caller).await.unwrap(), "user:ann");
    assert_eq!((shop.calls(), gate.issues()), (2, 1));
}

#[tokio::test]
async fn a_streaming_call_passes() {
    let world = World::start().await;
    let (_gate, source) = source(&world).await;
    let verifier = world.kit.verifier("api").await;
    let shop = Shop::default();
    let open = verifier.require(Requirement::open());
    let channel = shop.serve(open, verifier.require(listed())).await;
    let mut client = RevocationServiceClient::new(AttachTokenLayer::new(source).layer(channel));
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut answers = soon("the stream", client.watch(said)).await.unwrap().into_inner();
    for _ in 0..3 {
        say.send(WatchRequest::default()).await.unwrap();
        let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
        let Some(Message::Checkpoint(checkpoint)) = answer.message else {
            panic!("{answer:?}")
        };
        assert_eq!(checkpoint.through, "user:ann");
    }
    drop(say);
    assert!(soon("the end", answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_token_replaces_what_was_there_and_is_marked() {
    let world = World::start().await;
    let (_gate, source) = source(&world).await;
    let token = source.token().await.unwrap();
    let expected = format!("Bearer {}", token.expose());
    let service = service_fn(move |request: Request<Body>| {
        let credentials: Vec<_> = request.headers().get_all(header::AUTHORIZATION).iter().collect();
        assert_eq!(credentials.len(), 1);
        assert!(credentials[0].is_sensitive() && credentials[0] == expected.as_str());
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let request = Request::get("/")
        .header(header::AUTHORIZATION, "Bearer of-somebody-else")
        .header(header::AUTHORIZATION, "Bearer of-another");
    let request = request.body(Body::empty()).unwrap();
    AttachToken::new(service, source).oneshot(request).await.unwrap();
}

#[tokio::test]
async fn each_error_is_the_status_that_says_what_to_do() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let source = |connection: &Connection, request| {
        TokenSource::new(Client::with_options(connection, quick()).unwrap(), request)
    };
    let known = world.connection("production", "app", &address).await;
    let stranger = world.connection("production", "none", &address).await;
    let key = tessera_token::ApiKeySecret::generate(tessera_core::RealmKind::Production).unwrap();
    let wrong_key = Connection::new(&address, ApiKey::parse(key.expose()).unwrap());
    let wrong_scope = TokenRequest {
        scopes: vec!["vidoes:read".to_owned()],
        ..request()
    };
    let for_itself = TokenRequest {
        audience: "api".to_owned(),
        ..TokenRequest::default()
    };
    for (source, code) in [
        (source(&wrong_key, request()), Code::Unauthenticated),
        (source(&stranger, for_itself), Code::PermissionDenied),
        (source(&known, wrong_scope), Code::FailedPrecondition),
    ] {
        let (shop, caller) = caller(&world, &source).await;
        let status = call(&caller).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        let source = std::error::Error::source(&status).and_then(|error| error.downcast_ref());
        assert!(matches!(source, Some(TokenError::Permanent(_))), "{status:?}");
        assert_eq!(shop.calls(), 0);
    }
    gate.fail(&[Code::Unavailable; 1000]);
    let passing = source(&known, request());
    let (shop, caller) = caller(&world, &passing).await;
    let status = call(&caller).await.unwrap_err();
    assert_eq!((status.code(), shop.calls()), (Code::Unavailable, 0), "{status}");
    // For a call that is not gRPC the error is returned directly.
    let unreached =
        service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>("the service was reached") });
    let request = Request::get("/").body(Body::empty()).unwrap();
    let error = AttachToken::new(unreached, passing)
        .oneshot(request)
        .await
        .unwrap_err();
    let error = error.downcast_ref::<TokenError>().expect("a token error");
    assert!(matches!(error, TokenError::Passing(_)), "{error}");
}

/// The complete sequence: the session is revoked, the service refuses, and the next call has a new session.
#[tokio::test]
async fn a_revoked_session_costs_one_refused_call() {
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let (shop, caller) = caller(&world, &source).await;
    assert_eq!(call(&caller).await.unwrap(), "user:ann");
    world.kit.revoke_subject("user:ann").await;
    let status = call(&caller).await.unwrap_err();
    assert_eq!((status.code(), shop.calls()), (Code::Unauthenticated, 1));
    assert_eq!(call(&caller).await.unwrap(), "user:ann");
    // First a refresh was tried, which failed since the session was gone.
    assert_eq!((gate.issues(), gate.refreshes()), (2, 1));
}

/// A service that refuses this one token, once all callers have sent it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_are_refused_at_once_make_one_call() {
    const CALLERS: usize = 100;
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let old = source.token().await.unwrap();
    let refused = format!("Bearer {}", old.expose());
    let (barrier, seen) = (
        Arc::new(Barrier::new(CALLERS)),
        Arc::new(Mutex::new(BTreeSet::new())),
    );
    let service = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Body>| {
            let credential = request.headers()[header::AUTHORIZATION]
                .to_str()
                .unwrap()
                .to_owned();
            let is_good = credential != refused;
            seen.lock().unwrap().insert(credential);
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                let answer = Response::builder().status(if is_good { 200 } else { 401 });
                Ok::<_, Infallible>(answer.body(Body::empty()).unwrap())
            }
        }
    });
    let caller = AttachToken::new(service, source.clone());
    for expected in [StatusCode::UNAUTHORIZED, StatusCode::OK] {
        let calls: Vec<_> = (0..CALLERS)
            .map(|_| tokio::spawn(caller.clone().oneshot(Request::new(Body::empty()))))
            .collect();
        for call in calls {
            let answer = soon("an answer", call).await.unwrap().unwrap();
            assert_eq!(answer.status(), expected);
        }
    }
    // The session lives, so it gave a successor.
    assert_eq!((gate.issues(), gate.refreshes()), (1, 1));
    assert_eq!(seen.lock().unwrap().len(), 2, "two tokens, all in all");
}

#[tokio::test]
async fn who_hears_late_of_a_refusal_takes_nothing_from_the_next_token() {
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let old = source.token().await.unwrap();
    source.invalidate(&old);
    let new = soon("the next", source.token()).await.unwrap();
    assert_ne!(new.expose(), old.expose());
    past_the_pause().await;
    source.invalidate(&old);
    assert_eq!(source.token().await.unwrap().expose(), new.expose());
    assert_eq!((gate.issues(), gate.refreshes()), (1, 1));
}

#[tokio::test]
async fn a_token_that_was_given_up_is_not_served_again() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let source = TokenSource::new(world.client("app", &address, quick()).await, request());
    let old = source.token().await.unwrap();
    gate.fail(&[Code::Unavailable; 1000]);
    source.invalidate(&old);
    let error = soon("an error", source.token()).await.unwrap_err();
    assert!(matches!(error, TokenError::Passing(_)), "{error}");
    gate.repair();
    let new = soon("it passes", async {
        loop {
            match source.token().await {
                Ok(token) => return token,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert_ne!(new.await.expose(), old.expose());
}

/// Waits longer than the shortest time between two tokens that are given up.
async fn past_the_pause() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_service_that_always_refuses_does_not_make_a_storm() {
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let grpc = service_fn(|_: Request<GrpcBody>| async {
        Ok::<Response<GrpcBody>, Infallible>(Status::unauthenticated("always").into_http())
    });
    let mut client = KeyServiceClient::new(AttachToken::new(grpc, source.clone()));
    let began = std::time::Instant::now();
    for _ in 0..300 {
        let status = client.list_keys(ListKeysRequest::default()).await.unwrap_err();
        assert_eq!(status.message(), "always", "the service's own answer");
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "too slow to say anything"
    );
    assert_eq!((gate.issues(), gate.refreshes()), (1, 1));
    // Later, once more.
    past_the_pause().await;
    for _ in 0..10 {
        client.list_keys(ListKeysRequest::default()).await.unwrap_err();
    }
    assert_eq!((gate.issues(), gate.refreshes()), (1, 2));
}

/// Only UNAUTHENTICATED is about the token.
#[tokio::test]
async fn other_refusals_leave_the_token_in_use() {
    let world = World::start().await;
    let (gate, source) = source(&world).await;
    let token = source.token().await.unwrap();
    for code in [
        Code::PermissionDenied,
        Code::Unavailable,
        Code::Internal,
        Code::Ok,
    ] {
        let grpc = service_fn(move |_: Request<Body>| async move {
            Ok::<Response<Body>, Infallible>(Status::new(code, "").into_http())
        });
        let caller = AttachToken::new(grpc, source.clone());
        caller.oneshot(Request::new(Body::empty())).await.unwrap();
    }
    for status in [
        StatusCode::FORBIDDEN,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    ] {
        let http = service_fn(move |_: Request<Body>| async move {
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::empty()).unwrap())
        });
        let caller = AttachToken::new(http, source.clone());
        caller.oneshot(Request::new(Body::empty())).await.unwrap();
    }
    assert_eq!(source.token().await.unwrap().expose(), token.expose());
    assert_eq!((gate.issues(), gate.refreshes()), (1, 0));
}

/// The instance that was polled ready is the one that is called.
#[tokio::test]
async fn readiness_is_honoured() {
    let world = World::start().await;
    let (_gate, source) = source(&world).await;
    let mut caller = AttachToken::new(OnlyWhenReady::default(), source);
    for _ in 0..3 {
        let ready = caller.ready().await.unwrap();
        ready.call(Request::new(Body::empty())).await.unwrap();
    }
}
