//! The layer that protects a service: which callers are admitted, and what the others are told.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tessera_client::{
    Mode, Requirement, Requirements, Verifier,
    v1::{
        AwaitPropagationRequest, IssueRequest, ListKeysRequest, key_service_client::KeyServiceClient,
        revocation_service_client::RevocationServiceClient, revoke_request::Target,
    },
};
use tessera_testkit::{soon, until};
use tonic::{Code, Status, metadata::MetadataValue, transport::Channel};
use tonic_types::StatusExt;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    fake::{Script, watch_server},
    shop::{NOBODY, READ, Shop, listed},
    world::{World, access, scope, viewer},
};

/// A refusal over gRPC and over HTTP.
struct Refusal {
    grpc: (Code, &'static str),
    http: (StatusCode, Option<(header::HeaderName, &'static str)>),
}

const fn unauthorized(challenge: &'static str) -> Refusal {
    Refusal {
        grpc: (Code::Unauthenticated, "CLIENT_AUTH_FAILED"),
        http: (
            StatusCode::UNAUTHORIZED,
            Some((header::WWW_AUTHENTICATE, challenge)),
        ),
    }
}

const NO_TOKEN: Refusal = unauthorized(r#"Bearer realm="tessera""#);
const NOT_GOOD: Refusal = unauthorized(
    r#"Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed""#,
);
const NO_SCOPE: Refusal = Refusal {
    grpc: (Code::PermissionDenied, "SCOPE_DENIED"),
    http: (
        StatusCode::FORBIDDEN,
        Some((
            header::WWW_AUTHENTICATE,
            r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:read""#,
        )),
    ),
};
const STALE: Refusal = Refusal {
    grpc: (Code::Unavailable, "NOT_FRESH_ENOUGH"),
    http: (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1"))),
};

/// One shop with an endpoint for gRPC and one for HTTP.
struct Endpoints {
    shop: Shop,
    channel: Channel,
    router: Router,
}

impl Endpoints {
    async fn open(verifier: &Verifier) -> Self {
        let shop = Shop::default();
        let outer = verifier.require(Requirement::open());
        Self {
            channel: shop.serve(outer, verifier.require(listed())).await,
            router: shop.router(verifier),
            shop,
        }
    }

    /// Both endpoints admit these credentials, as `subject`.
    async fn admit(&self, what: &str, credentials: &[&[u8]], subject: &str) {
        let called = list(&self.channel, credentials).await;
        assert_eq!(
            called.unwrap_or_else(|status| panic!("{what}: {status}")),
            subject
        );
        let (status, _, body) = get(&self.router, "/read", credentials).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, subject), "{what}");
    }

    /// Both endpoints refuse these credentials with exactly this refusal, and the shop is not called.
    async fn refuse(&self, what: &str, credentials: &[&[u8]], refusal: &Refusal) {
        let before = self.shop.calls();
        let status = list(&self.channel, credentials).await.expect_err(what);
        check_status(what, &status, refusal);
        let (status, headers, body) = get(&self.router, "/read", credentials).await;
        let (expected, header) = &refusal.http;
        assert_eq!((status, body.as_str()), (*expected, ""), "{what}");
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
            let value = header
                .as_ref()
                .filter(|(of, _)| *of == name)
                .map(|(_, value)| *value);
            let found = headers.get(&name).map(|found| found.to_str().unwrap());
            assert_eq!(found, value, "{what}: {name}");
        }
        assert_eq!(self.shop.calls(), before, "{what}: the service was reached");
    }
}

fn check_status(what: &str, status: &Status, refusal: &Refusal) {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("{what}: {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), refusal.grpc, "{what}");
    assert_eq!(info.domain, "tessera");
    let has_scope = info.metadata.get("scope").map(String::as_str) == Some("videos:read");
    assert_eq!(has_scope, refusal.grpc.1 == "SCOPE_DENIED", "{what}");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let expected = (refusal.grpc.0 == Code::Unavailable).then_some(Duration::from_secs(1));
    assert_eq!(delay, expected, "{what}");
}

/// The subject that the shop was called for.
async fn list(channel: &Channel, credentials: &[&[u8]]) -> Result<String, Status> {
    let mut request = tonic::Request::new(ListKeysRequest::default());
    for credential in credentials {
        let value = MetadataValue::try_from(*credential).unwrap();
        request.metadata_mut().append("authorization", value);
    }
    let mut client = KeyServiceClient::new(channel.clone());
    let answer = soon("an answer", client.list_keys(request)).await?;
    Ok(answer.into_inner().keys[0].kid.clone())
}

async fn get(router: &Router, path: &str, credentials: &[&[u8]]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for credential in credentials {
        let value = HeaderValue::from_bytes(credential).unwrap();
        request.headers_mut().append(header::AUTHORIZATION, value);
    }
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1024).await.unwrap();
    (
        parts.status,
        parts.headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

fn player() -> IssueRequest {
    IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    }
}

#[tokio::test]
async fn every_credential_has_its_answer() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let endpoints = Endpoints::open(&verifier).await;
    let issued = world.issue(viewer("user:ann")).await;
    let token = access(&issued);
    endpoints
        .admit("a good token", &[&bearer(token)], "user:ann")
        .await;
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let credential = format!("{scheme} {token}").into_bytes();
        endpoints.admit(scheme, &[&credential], "user:ann").await;
    }
    endpoints.refuse("none", &[], &NO_TOKEN).await;
    endpoints
        .refuse("another scheme", &[b"Basic dXNlcjpwYXNz"], &NO_TOKEN)
        .await;
    endpoints
        .refuse("a bare token", &[token.as_bytes()], &NO_TOKEN)
        .await;
    endpoints
        .refuse("twice", &[&bearer(token), &bearer(token)], &NOT_GOOD)
        .await;
    endpoints
        .refuse("two schemes", &[&bearer(token), b"Basic dXNlcjpwYXNz"], &NOT_GOOD)
        .await;
    endpoints.refuse("no token", &[b"Bearer"], &NOT_GOOD).await;
    endpoints.refuse("an empty token", &[b"Bearer "], &NOT_GOOD).await;
    endpoints.refuse("garbage", &[b"Bearer garbage"], &NOT_GOOD).await;
    endpoints
        .refuse("no text", &[b"Bearer \xff\xfe"], &NOT_GOOD)
        .await;
    endpoints
        .refuse("two in one", &[&bearer(&format!("{token}, {token}"))], &NOT_GOOD)
        .await;
    let elsewhere = access(&world.issue(player()).await).to_owned();
    endpoints
        .refuse("another audience", &[&bearer(&elsewhere)], &NOT_GOOD)
        .await;
    let request = IssueRequest {
        scopes: vec!["videos/v1:play".to_owned()],
        ..viewer("user:ann")
    };
    let play = access(&world.issue(request).await).to_owned();
    endpoints
        .refuse("without the scope", &[&bearer(&play)], &NO_SCOPE)
        .await;
    world.clock.advance(Duration::from_secs(3600 + 31));
    endpoints.refuse("expired", &[&bearer(token)], &NOT_GOOD).await;
}

/// The table is also used in the tests of the other SDKs.
#[tokio::test]
async fn every_challenge_is_as_in_the_other_sdks() {
    let table = include_str!("../../../../sdk/challenges.json");
    let table: serde_json::Value = serde_json::from_str(table).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let request = IssueRequest {
        scopes: vec!["videos:read".to_owned()],
        ..viewer("user:ann")
    };
    let issued = world.issue(request).await;
    for case in cases {
        let required = verifier.require(scope(case["scope"].as_str().unwrap()));
        let router = Router::new().route("/", axum::routing::get(async || "").layer(required));
        let headers = case["authorization"].as_array().unwrap().iter();
        let headers: Vec<String> = headers
            .map(|header| header.as_str().unwrap().replace("{token}", access(&issued)))
            .collect();
        let headers: Vec<&[u8]> = headers.iter().map(String::as_bytes).collect();
        let (status, answered, _) = get(&router, "/", &headers).await;
        let challenge = answered
            .get(header::WWW_AUTHENTICATE)
            .map(|value| value.to_str().unwrap());
        assert_eq!(
            (u64::from(status.as_u16()), challenge),
            (
                case["status"].as_u64().unwrap(),
                case["www_authenticate"].as_str()
            ),
            "{case}"
        );
    }
}

#[tokio::test]
async fn a_revocation_stops_a_call_that_worked_a_moment_before() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let endpoints = Endpoints::open(&verifier).await;
    let ann = world.issue(viewer("user:ann")).await;
    let bob = IssueRequest {
        scopes: vec!["videos:read".to_owned(), "videos/v1:play".to_owned()],
        ..viewer("user:bob")
    };
    let bob = world.issue(bob).await;
    let (ann, bob) = (bearer(access(&ann)), bearer(access(&bob)));
    endpoints.admit("before", &[&ann], "user:ann").await;
    world.kit.revoke_subject("user:ann").await;
    endpoints.refuse("after", &[&ann], &NOT_GOOD).await;
    endpoints.admit("somebody else", &[&bob], "user:bob").await;
    world.take_rules("p, role:viewer, *, videos, read").await;
    until("taken", || {
        verifier
            .verify(token_of(&bob), Some(&scope("videos:read")))
            .claims()
            .is_none()
    })
    .await;
    endpoints
        .refuse("policy took the scope", &[&bob], &NO_SCOPE)
        .await;
}

fn token_of(credential: &[u8]) -> &str {
    std::str::from_utf8(credential)
        .unwrap()
        .trim_start_matches("Bearer ")
}

#[tokio::test]
async fn stale_is_no_fault_of_the_token() {
    let world = World::start().await;
    let options = world
        .options(Duration::from_millis(300), world.kit.address())
        .await;
    let verifier = Verifier::start(options).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let endpoints = Endpoints::open(&verifier).await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    endpoints.admit("fresh", &[&bearer(&token)], "user:ann").await;
    world.kit.stall();
    until("stale", || verifier.verify(&token, None).claims().is_none()).await;
    endpoints.refuse("stale", &[&bearer(&token)], &STALE).await;
    endpoints
        .refuse("stale and not good", &[b"Bearer garbage"], &NOT_GOOD)
        .await;

    // Another route with another mode.
    let mode = |mode| Requirement::scope(scope("videos:read")).mode(mode);
    let within = |requirement| Shop::default().within(&verifier, requirement);
    let day = Duration::from_secs(86_400);
    let open = within(mode(Mode::FailOpen { max: day }));
    assert_eq!(get(&open, "/", &[&bearer(&token)]).await.2, "user:ann");
    let closed = within(mode(Mode::FailClosed));
    assert_eq!(
        get(&closed, "/", &[&bearer(&token)]).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    world.kit.resume();
    until("fresh again", || verifier.verify(&token, None).claims().is_some()).await;
    endpoints
        .admit("fresh again", &[&bearer(&token)], "user:ann")
        .await;
}

#[tokio::test]
async fn a_route_may_ask_the_authority_while_stale() {
    let world = World::start().await;
    // No checkpoint makes it fresh; calls work.
    let address = watch_server(&world, Script::CheckpointsWithoutNonce).await;
    let verifier = Verifier::start(world.options(Duration::from_secs(1), &address).await).unwrap();
    let issued = world.issue(viewer("user:ann")).await;
    let credential = bearer(access(&issued));
    let asking = Requirement::scope(scope("videos:read")).mode(Mode::Introspect);
    let asking = Shop::default().within(&verifier, asking);
    assert_eq!(get(&asking, "/", &[&credential]).await.2, "user:ann");
    let closed = Shop::default().within(&verifier, Requirement::any_token());
    assert_eq!(
        get(&closed, "/", &[&credential]).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    world.revoke(Target::SessionId(issued.session_id.clone())).await;
    assert_eq!(
        get(&asking, "/", &[&credential]).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn what_is_not_listed_is_refused_to_all() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let endpoints = Endpoints::open(&verifier).await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let mut request = tonic::Request::new(AwaitPropagationRequest::default());
    let value = MetadataValue::try_from(bearer(&token).as_slice()).unwrap();
    request.metadata_mut().insert("authorization", value);
    let refusal = Refusal {
        grpc: (Code::PermissionDenied, "CALL_NOT_ALLOWED"),
        http: (StatusCode::FORBIDDEN, None),
    };
    let mut client = RevocationServiceClient::new(endpoints.channel.clone());
    let status = client.await_propagation(request).await.unwrap_err();
    check_status("a method that is not listed", &status, &refusal);
    assert_eq!(endpoints.shop.calls(), 0);
    // Over HTTP, by the same table.
    let router = Shop::default().within(&verifier, listed());
    let (status, headers, _) = get(&router, "/", &[&bearer(&token)]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!headers.contains_key(header::WWW_AUTHENTICATE));
    // With a default requirement, unlisted methods need it.
    let shop = Shop::default();
    let default = Requirements::every(scope("videos:read"));
    let open = verifier.require(Requirement::open());
    let channel = shop.serve(open, verifier.require(default)).await;
    assert_eq!(list(&channel, &[&bearer(&token)]).await.unwrap(), "user:ann");
    check_status("the default", &list(&channel, &[]).await.unwrap_err(), &NO_TOKEN);
}

#[tokio::test]
async fn an_open_method_has_no_claims_whoever_sends_a_token() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let token = bearer(access(&world.issue(viewer("user:ann")).await));
    let shop = Shop::default();
    let open = Requirements::deny_unlisted().open(READ);
    let nothing = verifier.require(Requirement::open());
    let channel = shop.serve(nothing, verifier.require(open.clone())).await;
    for credentials in [&[][..], &[&token[..]], &[b"Bearer garbage"], &[&token, &token]] {
        assert_eq!(list(&channel, credentials).await.unwrap(), NOBODY);
    }
    let router = shop.router(&verifier);
    assert_eq!(get(&router, "/open", &[&token]).await.2, NOBODY);
    // The claims of an outer layer are not used by this one.
    let any = verifier.require(Requirement::any_token());
    let channel = shop.serve(any.clone(), verifier.require(open)).await;
    assert_eq!(list(&channel, &[&token]).await.unwrap(), NOBODY);
    assert_eq!(get(&router.layer(any), "/open", &[&token]).await.2, NOBODY);
}

/// A status is in the headers: a client need not read a body to get it.
#[tokio::test]
async fn a_refusal_over_grpc_is_trailers_only() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let unreached = service_fn(|_: Request<Body>| async {
        panic!("the service was reached");
        #[expect(unreachable_code, reason = "the type of the answer")]
        Ok::<http::Response<Body>, std::convert::Infallible>(http::Response::default())
    });
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/json",
        "",
    ] {
        let guarded = verifier.require(listed()).layer(unreached);
        let request = Request::post(READ).header(header::CONTENT_TYPE, kind);
        let response = guarded
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let is_grpc = kind.starts_with("application/grpc");
        let expected = if is_grpc {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        };
        assert_eq!(response.status(), expected, "{kind}");
        let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
        assert_eq!(status, is_grpc.then_some(&b"16"[..]), "{kind}");
        assert_eq!(response.headers().contains_key("content-type"), is_grpc);
        let body = axum::body::to_bytes(response.into_body(), 16).await.unwrap();
        assert!(body.is_empty());
    }
}

/// The layer marks the credential as sensitive for what is within it; the log has the reason, and never the token.
#[tokio::test]
async fn the_log_says_why_and_shows_no_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let elsewhere = access(&world.issue(player()).await).to_owned();
    let seen = Arc::new(Mutex::new(None));
    let sight = Arc::clone(&seen);
    let guarded = verifier
        .require(scope("videos:read"))
        .layer(service_fn(move |request: Request<Body>| {
            let credential = request.headers()[header::AUTHORIZATION].clone();
            *sight.lock().unwrap() = Some(credential.is_sensitive());
            async { Ok::<http::Response<Body>, std::convert::Infallible>(http::Response::default()) }
        }));
    let logging = tracing::subscriber::set_default(subscriber.finish());
    for credential in [&*token, &*elsewhere, "v4.public.c2VjcmV0LWdhcmJhZ2U"] {
        let request =
            Request::get("/videos?key=private").header("authorization", format!("Bearer {credential}"));
        guarded
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
    }
    drop(logging);
    assert_eq!(*seen.lock().unwrap(), Some(true));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for said in [
        "the token is for another audience",
        "not an access token",
        "/videos",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    for unsaid in [&token[20..60], &elsewhere[20..60], "c2VjcmV0", "private"] {
        assert!(!text.contains(unsaid), "{unsaid}: {text}");
    }
}

#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The instance that was polled ready is the one that is called.
#[tokio::test]
async fn readiness_is_honoured() {
    let world = World::start().await;
    let verifier = world.kit.verifier("api").await;
    let mut guarded = verifier
        .require(Requirement::open())
        .layer(OnlyWhenReady::default());
    for _ in 0..3 {
        let ready = guarded.ready().await.unwrap();
        ready.call(Request::new(Body::empty())).await.unwrap();
    }
}

/// Panics if it is called without having been polled ready; a clone is not ready.
#[derive(Default)]
pub(crate) struct OnlyWhenReady {
    is_ready: bool,
}

impl Clone for OnlyWhenReady {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Body>> for OnlyWhenReady {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.is_ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        std::future::ready(Ok(http::Response::default()))
    }
}

#[tokio::test]
async fn a_scope_has_its_parameter_from_the_path() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let play = Requirement::scope_from_path("/videos/{id}/play", "videos/{id}:play").unwrap();
    let router = Router::new()
        .fallback(async || "played")
        .layer(verifier.require(play));
    let issued = world.app.issue(IssueRequest {
        scopes: vec!["videos/v1:play".to_owned()],
        ..viewer("user:ann")
    });
    let issued = issued.await.unwrap();
    let token = bearer(access(&issued));
    let ask = async |path: &str| {
        let (status, headers, _) = get(&router, path, &[&token]).await;
        let challenge = headers.get(header::WWW_AUTHENTICATE);
        let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
        (status, challenge.unwrap_or_default())
    };
    for path in ["/videos/v1/play", "/videos/v1/play/", "/videos/%761/play?t=1"] {
        assert_eq!(ask(path).await, (StatusCode::OK, String::new()), "{path}");
    }
    let (status, challenge) = ask("/videos/v2/play").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(challenge.ends_with(r#"scope="videos/v2:play""#), "{challenge}");
    for path in [
        "/videos/v1",
        "/videos/..%2fv1/play",
        "/videos/v2/../v1/play",
        "/videos//play",
        "/videos/v1;a/play",
    ] {
        assert_eq!(ask(path).await, (StatusCode::FORBIDDEN, String::new()), "{path}");
    }
    assert!(Requirement::scope_from_path("/videos/{name}", "videos/{id}:play").is_err());
    assert!(Requirement::scope_from_path("videos", "videos:read").is_err());
}

#[tokio::test]
async fn a_handler_requires_a_scope_with_its_parameter_from_the_message() {
    let world = World::start().await;
    let request = IssueRequest {
        scopes: vec!["videos/v1:play".to_owned(), "videos:read".to_owned()],
        ..viewer("user:ann")
    };
    let issued = world.issue(request).await;
    let verifier = world.verifier().await;
    let (shop, open) = (Shop::default(), verifier.require(Requirement::open()));
    let any = Requirements::every(Requirement::any_token());
    let channel = shop.serve(open, verifier.require(any)).await;
    for (film, expected) in [
        ("v1", None),
        ("v2", Some("SCOPE_DENIED")),
        // No scope can be made from these, with any token.
        ("a/b", Some("CALL_NOT_ALLOWED")),
        ("*", Some("CALL_NOT_ALLOWED")),
        ("..", Some("CALL_NOT_ALLOWED")),
        ("v1:play videos/v1", Some("CALL_NOT_ALLOWED")),
    ] {
        let mut request = tonic::Request::new(AwaitPropagationRequest {
            cursor: film.to_owned(),
        });
        let bearer = format!("Bearer {}", access(&issued)).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let called = RevocationServiceClient::new(channel.clone())
            .await_propagation(request)
            .await;
        let refused = called.err().map(|status| {
            assert_eq!(status.code(), Code::PermissionDenied, "{film}");
            status.get_details_error_info().unwrap()
        });
        let reason = refused.as_ref().map(|info| info.reason.as_str());
        assert_eq!(reason, expected, "{film}");
        let scope = refused.and_then(|info| info.metadata.get("scope").cloned());
        let needed = (film == "v2").then(|| "videos/v2:play".to_owned());
        assert_eq!(scope, needed, "{film}");
    }
    assert_eq!(shop.calls(), 1);
}
