//! The HTTP endpoints, through the whole server.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tessera_core::Seconds;
use tessera_proto::v1::{CreateApiKeyRequest, revoke_request::Target};
use tessera_testkit::{
    soon,
    world::{Client, World, access_token, reason, refresh_token, seconds, viewer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The same, or null if there is no body.
    pub(crate) fn json_or_null(&self) -> Value {
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(called, _)| called.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(crate) fn problem(&self, status: u16, name: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), ["application/problem+json"]);
        let body = self.json();
        assert_eq!(
            (&body["status"], &body["name"]),
            (&json!(status), &json!(name)),
            "{body}"
        );
        for member in ["type", "title", "detail"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{body}"
            );
        }
    }

    pub(crate) fn oauth_error(&self, status: u16, error: &str) {
        assert_eq!(
            (self.status, &self.json()["error"]),
            (status, &json!(error)),
            "{}",
            self.body
        );
        assert_eq!(self.header("content-type"), ["application/json"]);
        assert_eq!(self.header("cache-control"), ["no-store"]);
    }
}

/// Sends bytes, and reads an answer to its end.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    soon("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may answer, and close, before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{answer:?}"));
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    })
    .await
}

pub(crate) async fn send(world: &World, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nhost: tessera\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", body.len());
    raw(world.address, &[request.as_bytes(), body].concat()).await
}

pub(crate) async fn login(world: &World, api_key: &str) -> Answer {
    let body = json!({ "apiKey": api_key }).to_string();
    send(
        world,
        "POST /auth/api-key",
        &[("content-type", "application/json")],
        body.as_bytes(),
    )
    .await
}

async fn renew(world: &World, refresh_token: &str) -> Answer {
    let body = json!({ "refreshToken": refresh_token }).to_string();
    send(
        world,
        "POST /auth/refresh",
        &[("content-type", "application/json")],
        body.as_bytes(),
    )
    .await
}

pub(crate) fn text(answer: &Answer, member: &str) -> String {
    answer.json()[member]
        .as_str()
        .unwrap_or_else(|| panic!("{}", answer.body))
        .to_owned()
}

pub(crate) async fn form(world: &World, path: &str, client: &Client, body: &str) -> Answer {
    let credentials = STANDARD.encode(format!("app:{}", client.api_key));
    let basic = format!("Basic {credentials}");
    send(
        world,
        &format!("POST {path}"),
        &[FORM, ("authorization", &basic)],
        body.as_bytes(),
    )
    .await
}

/// A form whose sender sends its API key as a bearer token.
async fn bearer_form(world: &World, path: &str, client: &Client, body: &str) -> Answer {
    let bearer = format!("Bearer {}", client.api_key);
    let headers = [FORM, ("authorization", bearer.as_str())];
    send(world, &format!("POST {path}"), &headers, body.as_bytes()).await
}

#[tokio::test]
async fn an_api_key_is_traded_for_tokens_and_those_are_renewed() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let tokens = login(&world, &app.api_key).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    assert_eq!(tokens.header("content-type"), ["application/json"]);
    let body = tokens.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    assert_eq!(body.as_object().unwrap().len(), 4);
    let seen = app.introspect(&text(&tokens, "access_token")).await;
    assert_eq!((seen.aud.as_str(), seen.sub.as_str()), ("api", "client:app"));

    let renewed = renew(&world, &text(&tokens, "refresh_token")).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert!(app.introspect(&text(&renewed, "access_token")).await.active);
    // A retry gets the same successor; after that was used, a retry is a theft.
    let again = renew(&world, &text(&tokens, "refresh_token")).await;
    assert_eq!(text(&again, "refresh_token"), text(&renewed, "refresh_token"));
    renew(&world, &text(&renewed, "refresh_token")).await;
    renew(&world, &text(&tokens, "refresh_token"))
        .await
        .problem(400, "REFRESH_TOKEN_REUSED");
    assert!(!app.introspect(&text(&renewed, "access_token")).await.active);
}

/// Additional headers of the video company's clients must not make the call fail.
#[tokio::test]
async fn other_headers_and_other_types_of_body_do_no_harm() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let body = json!({ "apiKey": app.api_key, "more": [1, { "x": null }] }).to_string();
    for headers in [
        vec![],
        vec![("content-type", "text/plain;charset=UTF-8")],
        vec![("authorization", "Basic dXNlcjpwYXNz")],
        vec![("authorization", "")],
        vec![("authorization", "Bearer nonsense"), ("authorization", "twice")],
        vec![("accept", "text/html"), ("av-origin-client", "python:1.4.7")],
    ] {
        let answer = send(&world, "POST /auth/api-key", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_refused_login_says_why_and_no_more() {
    let world = World::start().await;
    let (app, admin, none) = (
        world.client("production", "app").await,
        world.client("production", "admin").await,
        world.client("production", "none").await,
    );
    login(&world, "tsk_production_wrong")
        .await
        .problem(400, "CLIENT_AUTH_FAILED");
    // Some clients retry forever on 401: a denial by policy is 403.
    login(&world, &none.api_key).await.problem(403, "SCOPE_DENIED");
    renew(&world, "tsr_wrong")
        .await
        .problem(400, "REFRESH_TOKEN_INVALID");

    // A session that began over gRPC needs its client, not only its token.
    let session = app.issue_for("user:ann").await;
    renew(&world, &refresh_token(session.tokens.as_ref()))
        .await
        .problem(400, "REFRESH_TOKEN_INVALID");
    assert!(app.refresh(&refresh_token(session.tokens.as_ref())).await.is_ok());

    let tokens = login(&world, &app.api_key).await;
    let session = app.introspect(&text(&tokens, "access_token")).await.session_id;
    app.revoke(Target::SessionId(session)).await.unwrap();
    renew(&world, &text(&tokens, "refresh_token"))
        .await
        .problem(400, "SESSION_REVOKED");

    let tokens = login(&world, &app.api_key).await;
    let id = app.api_key["tsk_production_".len()..][..16].to_owned();
    admin.revoke(Target::ApiKeyId(id)).await.unwrap();
    assert_eq!(renew(&world, &text(&tokens, "refresh_token")).await.status, 400);

    // When a key ends, its sessions at this endpoint end too.
    let request = CreateApiKeyRequest {
        name: "app".to_owned(),
        ttl: seconds(60),
        ..CreateApiKeyRequest::default()
    };
    let made = admin
        .api_keys()
        .create_api_key(request)
        .await
        .unwrap()
        .into_inner();
    let tokens = login(&world, &made.secret).await;
    world.clock.advance(Seconds(61));
    renew(&world, &text(&tokens, "refresh_token"))
        .await
        .problem(400, "SESSION_EXPIRED");
}

#[tokio::test]
async fn many_who_renew_at_once_get_one_successor() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let tokens = login(&world, &app.api_key).await;
    let token = text(&tokens, "refresh_token");
    let (one, two, three) = tokio::join!(
        renew(&world, &token),
        renew(&world, &token),
        renew(&world, &token)
    );
    let successor = text(&one, "refresh_token");
    for other in [&two, &three] {
        assert_eq!(text(other, "refresh_token"), successor);
    }
}

#[tokio::test]
async fn a_call_of_grpc_that_does_not_exist_is_told_so_in_grpc() {
    let world = World::start().await;
    let headers = [("content-type", "application/grpc")];
    let answer = send(&world, "POST /no.Such/Method", &headers, b"").await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, vec!["12"]));
}

#[tokio::test]
async fn requests_have_ids_and_pages_of_configured_origins_may_call() {
    let world = World::start().await;
    let answer = send(&world, "GET /keys", &[("x-request-id", "mine-1")], b"").await;
    assert_eq!(
        (answer.status, answer.header("x-request-id")),
        (200, vec!["mine-1"])
    );
    let answer = send(&world, "GET /keys", &[], b"").await;
    assert_eq!(answer.header("x-request-id")[0].len(), 36);
    let preflight = async |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,av-origin-client,content-range,traceparent,tracestate",
            ),
        ];
        send(&world, "OPTIONS /auth/refresh", &headers, b"").await
    };
    let allowed = preflight("https://app.example.org").await;
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        ["https://app.example.org"]
    );
    let names = allowed.header("access-control-allow-headers").join(",");
    for name in [
        "authorization",
        "av-origin-client",
        "content-range",
        "traceparent",
        "tracestate",
    ] {
        assert!(names.contains(name), "{names}");
    }
    let page = [("origin", "https://app.example.org")];
    let exposed = send(&world, "GET /keys", &page, b"").await;
    let exposed = exposed.header("access-control-expose-headers").join(",");
    for name in ["x-request-id", "retry-after", "www-authenticate"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert!(
        preflight("https://evil.example")
            .await
            .header("access-control-allow-origin")
            .is_empty()
    );
}

#[tokio::test]
async fn oauth_gives_tokens_for_client_credentials_and_refreshes_them() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let plain = form(
        &world,
        "/oauth2/token",
        &app,
        "grant_type=client_credentials&audience=api",
    )
    .await;
    assert_eq!(plain.status, 200, "{}", plain.body);
    assert_eq!(
        (plain.header("cache-control"), plain.header("pragma")),
        (vec!["no-store"], vec!["no-cache"])
    );
    let body = plain.json();
    assert_eq!(
        (&body["token_type"], &body["scope"]),
        (&json!("Bearer"), &json!("videos:read videos:write"))
    );
    assert!(body.get("refresh_token").is_none(), "{body}");

    let asked = "grant_type=client_credentials&audience=api&scope=videos:read+offline_access";
    let offline = form(&world, "/oauth2/token", &app, asked).await;
    assert_eq!(offline.json()["scope"], "videos:read");
    let renewal = format!(
        "grant_type=refresh_token&refresh_token={}",
        text(&offline, "refresh_token")
    );
    let renewed = form(&world, "/oauth2/token", &app, &renewal).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    // The token alone is not enough here.
    renew(&world, &text(&renewed, "refresh_token"))
        .await
        .problem(400, "REFRESH_TOKEN_INVALID");
}

#[tokio::test]
async fn oauth_clients_authenticate_in_one_of_three_ways() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let grant = "grant_type=client_credentials&audience=api";
    let in_form = |id: &str, key: &str| format!("{grant}&client_id={id}&client_secret={key}");
    let basic = |id: &str, key: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{key}")));
    let bearer = format!("Bearer {}", app.api_key);
    let status = async |headers: &[(&str, &str)], body: &str| {
        let headers = [&[FORM], headers].concat();
        let answer = send(&world, "POST /oauth2/token", &headers, body.as_bytes()).await;
        (
            answer.status,
            answer.json()["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let good = (200, String::new());
    let failed = |status: u16, error: &str| (status, error.to_owned());
    for id in ["app", "client%3Aapp", "client:app"] {
        assert_eq!(
            status(&[("authorization", &basic(id, &app.api_key))], grant).await,
            good,
            "{id}"
        );
        assert_eq!(status(&[], &in_form(id, &app.api_key)).await, good, "{id}");
    }
    assert_eq!(status(&[("authorization", &bearer)], grant).await, good);
    let refused = failed(401, "invalid_client");
    assert_eq!(
        status(&[("authorization", &basic("admin", &app.api_key))], grant).await,
        refused
    );
    assert_eq!(status(&[], &in_form("app", "tsk_production_no")).await, refused);
    let challenge = send(&world, "POST /oauth2/token", &[FORM], grant.as_bytes()).await;
    assert!(
        challenge.header("www-authenticate")[0].starts_with("Basic "),
        "{}",
        challenge.head
    );
}

/// As `echo` and `base64` make them.
#[tokio::test]
async fn a_key_may_end_with_a_line_feed() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let line = format!("{}\n", app.api_key);
    assert_eq!(login(&world, &line).await.status, 200);
    let grant = "grant_type=client_credentials&audience=api";
    let basic = format!("Basic {}", STANDARD.encode(format!("app:{line}")));
    let headers = [FORM, ("authorization", basic.as_str())];
    let in_header = send(&world, "POST /oauth2/token", &headers, grant.as_bytes()).await;
    assert_eq!(in_header.status, 200, "{}", in_header.body);
    let body = format!("{grant}&client_id=app&client_secret={}%0A", app.api_key);
    let in_form = send(&world, "POST /oauth2/token", &[FORM], body.as_bytes()).await;
    assert_eq!(in_form.status, 200, "{}", in_form.body);
}

#[tokio::test]
async fn oauth_errors_are_those_of_the_standard() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let token = async |body: &str| form(&world, "/oauth2/token", &app, body).await;
    token("grant_type=password")
        .await
        .oauth_error(400, "unsupported_grant_type");
    token("grant_type=refresh_token")
        .await
        .oauth_error(400, "invalid_request");
    token("grant_type=refresh_token&refresh_token=tsr_x")
        .await
        .oauth_error(400, "invalid_grant");
    let asked = |more: &str| format!("grant_type=client_credentials&audience=api&{more}");
    token(&asked("scope=videos:fly"))
        .await
        .oauth_error(400, "invalid_scope");
    token(&asked("scope=vid\"eos"))
        .await
        .oauth_error(400, "invalid_scope");
    token("grant_type=client_credentials&audience=moon")
        .await
        .oauth_error(400, "invalid_target");
    let other = world.client("production", "other").await;
    bearer_form(&world, "/oauth2/token", &other, &asked("scope=videos:write"))
        .await
        .oauth_error(400, "invalid_scope");
}

#[tokio::test]
async fn oauth_introspects_and_revokes() {
    let world = World::start().await;
    let (app, other) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
    );
    let session = app.issue(viewer("user:ann")).await.unwrap();
    let token = format!(
        "token={}&token_type_hint=access_token",
        access_token(session.tokens.as_ref())
    );
    let seen = form(&world, "/oauth2/introspect", &app, &token).await.json();
    assert_eq!(
        (&seen["active"], &seen["sub"], &seen["client_id"]),
        (&json!(true), &json!("user:ann"), &json!("client:app"))
    );
    let stranger = bearer_form(&world, "/oauth2/introspect", &other, &token).await;
    assert_eq!(stranger.json(), json!({ "active": false }));
    send(&world, "POST /oauth2/introspect", &[FORM], token.as_bytes())
        .await
        .oauth_error(401, "invalid_client");
    bearer_form(&world, "/oauth2/revoke", &other, &token)
        .await
        .oauth_error(400, "unauthorized_client");
    assert_eq!(
        form(&world, "/oauth2/revoke", &app, "token=nonsense")
            .await
            .status,
        200
    );
    let refresh = format!("token={}", refresh_token(session.tokens.as_ref()));
    assert_eq!(form(&world, "/oauth2/revoke", &app, &refresh).await.status, 200);
    let seen = form(&world, "/oauth2/introspect", &app, &token).await.json();
    assert_eq!(seen, json!({ "active": false }));
    let refused = app
        .refresh(&refresh_token(session.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / SESSION_REVOKED");
}

#[tokio::test]
async fn metadata_and_keys_are_there_for_everybody() {
    let world = World::start().await;
    let well_known = "GET /.well-known/oauth-authorization-server";
    for line in [well_known.to_owned(), format!("{well_known}/production")] {
        let metadata = send(&world, &line, &[], b"").await.json();
        assert_eq!(metadata["issuer"], "https://auth.example.org/production");
        assert_eq!(
            metadata["token_endpoint"],
            "https://auth.example.org/tessera/oauth2/token"
        );
    }
    let sandbox = send(&world, &format!("{well_known}/sandbox"), &[], b"")
        .await
        .json();
    assert_eq!(sandbox["issuer"], "https://auth.example.org/sandbox");
    send(&world, &format!("{well_known}/moon"), &[], b"")
        .await
        .problem(404, "NOT_FOUND");
    let described = send(&world, "GET /openapi.json", &[], b"").await.json();
    assert_eq!(
        described["paths"]["/auth/api-key"]["post"]["responses"]["200"]["content"]
            .as_object()
            .unwrap()
            .len(),
        1
    );
    let answer = send(&world, "GET /keys", &[], b"").await;
    // A key is published for 600 s before it signs.
    assert_eq!(answer.header("cache-control"), ["public, max-age=300"]);
    let key = &answer.json()["keys"][0];
    assert!(key["kid"].as_str().unwrap().starts_with("k4.pid."), "{key}");
    assert!(key["key"].as_str().unwrap().starts_with("k4.public."), "{key}");
    assert_eq!(key["status"], "active");
}
