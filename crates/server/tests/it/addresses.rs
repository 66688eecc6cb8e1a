//! API keys that may be used only from some addresses: every endpoint checks this.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tessera_proto::v1::{
    CreateApiKeyRequest, GetApiKeyRequest, IntrospectRequest, IssueRequest, RollApiKeyRequest,
};
use tessera_server::Limits;
use tessera_testkit::world::{Client, Setup, World, fields, per_second, reason, refresh_token, strings};
use tonic::{Request, Status};

use crate::endpoints::{Answer, FORM, send, text};

const INSIDE: [&str; 4] = ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "192.0.2.1"];
const OUTSIDE: [&str; 4] = ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::7", "192.0.2.2"];

/// A world in which the test itself is the proxy, and a client with a key for [`INSIDE`].
async fn world() -> (World, Client, Client) {
    let world = World::with(Setup {
        server: Limits {
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
            refusals_per_second_per_address: per_second(1000).unwrap(),
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let admin = world.client("production", "admin").await;
    let request = create("app", &["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]);
    let made = admin
        .api_keys()
        .create_api_key(request)
        .await
        .unwrap()
        .into_inner();
    let allowed = made.api_key.unwrap().allow_from;
    assert_eq!(allowed, ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]);
    let app = world.with_key(&made.secret);
    (world, admin, app)
}

fn create(name: &str, allow_from: &[&str]) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        name: name.to_owned(),
        allow_from: strings(allow_from),
        ..CreateApiKeyRequest::default()
    }
}

fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-forwarded-for", address.parse().unwrap());
    request
}

async fn introspect(app: &Client, address: &str) -> Result<(), Status> {
    let request = IntrospectRequest {
        token: "x".to_owned(),
        ..IntrospectRequest::default()
    };
    app.tokens().introspect(from(address, request)).await.map(drop)
}

/// The answers of each HTTP endpoint to a key from an address.
async fn ways_in(world: &World, app: &Client, address: &str) -> Vec<Answer> {
    let key = &app.api_key;
    let basic = format!("Basic {}", STANDARD.encode(format!("app:{key}")));
    let bearer = format!("Bearer {key}");
    let grant = "grant_type=client_credentials&resource=api";
    let posted = format!("{grant}&client_id=app&client_secret={key}");
    let login = json!({ "apiKey": key }).to_string();
    let json = ("content-type", "application/json");
    let mut answers = Vec::new();
    for (path, header, body) in [
        ("/oauth2/token", Some(("authorization", basic.as_str())), grant),
        ("/oauth2/token", Some(("authorization", bearer.as_str())), grant),
        ("/oauth2/token", None, posted.as_str()),
        (
            "/oauth2/introspect",
            Some(("authorization", basic.as_str())),
            "token=x",
        ),
        (
            "/oauth2/revoke",
            Some(("authorization", basic.as_str())),
            "token=x",
        ),
        ("/auth/api-key", None, login.as_str()),
    ] {
        let content_type = if path.starts_with("/oauth2/") { FORM } else { json };
        let headers: Vec<_> = [content_type, ("x-forwarded-for", address)]
            .into_iter()
            .chain(header)
            .collect();
        answers.push(send(world, &format!("POST {path}"), &headers, body.as_bytes()).await);
    }
    answers
}

#[tokio::test]
async fn every_way_in_asks_from_where_a_key_is_used() {
    let (world, _, app) = world().await;
    for address in INSIDE {
        introspect(&app, address).await.unwrap();
        for answer in ways_in(&world, &app, address).await {
            assert!(
                !answer.body.contains("ADDRESS_NOT_ALLOWED"),
                "{address}: {}",
                answer.body
            );
            assert_ne!(answer.status, 401, "{address}: {}", answer.body);
        }
    }
    for address in OUTSIDE {
        let refused = introspect(&app, address).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "PermissionDenied / ADDRESS_NOT_ALLOWED",
            "{address}"
        );
        let shown = address.trim_start_matches("::ffff:");
        assert!(
            refused
                .message()
                .ends_with(&format!("may not be used from {shown}")),
            "{refused}"
        );
        for answer in ways_in(&world, &app, address).await {
            assert!([401, 403].contains(&answer.status), "{address}: {}", answer.body);
            assert!(
                answer.body.contains(shown) && !answer.body.contains(&app.api_key),
                "{}",
                answer.body
            );
        }
    }
    let [token, .., login] = &ways_in(&world, &app, OUTSIDE[0]).await[..] else {
        panic!("no answers")
    };
    assert_eq!(
        (token.status, text(token, "error").as_str()),
        (401, "invalid_client")
    );
    login.problem(403, "ADDRESS_NOT_ALLOWED");
    // Without a header of the proxy, the proxy's own address counts.
    let refused = app.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / ADDRESS_NOT_ALLOWED");
    // A caller with a wrong secret learns nothing about the addresses.
    let wrong = app.api_key.clone();
    let (head, tail) = wrong.split_at(wrong.len() - 20);
    let wrong = world.with_key(&format!(
        "{head}{}",
        tail.replace(|c: char| c.is_ascii_digit(), "z")
    ));
    let refused = introspect(&wrong, OUTSIDE[0]).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / CLIENT_AUTH_FAILED");
}

#[tokio::test]
async fn a_session_goes_on_for_its_user_wherever_that_is() {
    let (world, _, app) = world().await;
    let login = json!({ "apiKey": app.api_key }).to_string();
    let json = ("content-type", "application/json");
    let headers = [json, ("x-forwarded-for", INSIDE[0])];
    let tokens = send(&world, "POST /auth/api-key", &headers, login.as_bytes()).await;
    let renew = json!({ "refreshToken": text(&tokens, "refresh_token") }).to_string();
    let headers = [json, ("x-forwarded-for", OUTSIDE[0])];
    let renewed = send(&world, "POST /auth/refresh", &headers, renew.as_bytes()).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    // The address of a client that sends its key is checked again.
    let mut tokens = app.tokens();
    let issued = tokens.issue(from(
        INSIDE[0],
        IssueRequest {
            audience: "api".to_owned(),
            ..IssueRequest::default()
        },
    ));
    let issued = issued.await.unwrap().into_inner();
    let refused = app
        .refresh(&refresh_token(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / ADDRESS_NOT_ALLOWED");
}

#[tokio::test]
async fn a_successor_is_used_from_where_its_predecessor_is_unless_its_maker_may_create_keys() {
    let (world, admin, app) = world().await;
    let roll = |id: &str, allow_from: &[&str]| RollApiKeyRequest {
        id: id.to_owned(),
        allow_from: strings(allow_from),
        ..RollApiKeyRequest::default()
    };
    let id = app.api_key.rsplit('_').next().unwrap()[..16].to_owned();
    for wider in [&["0.0.0.0/0"][..], &["10.1.0.0/16", "11.0.0.0/8"]] {
        let refused = app
            .api_keys()
            .roll_api_key(from(INSIDE[0], roll(&id, wider)))
            .await;
        assert_eq!(
            reason(&refused.unwrap_err()),
            "PermissionDenied / CALL_NOT_ALLOWED",
            "{wider:?}"
        );
    }
    let narrower = app
        .api_keys()
        .roll_api_key(from(INSIDE[0], roll(&id, &["10.1.0.0/16"])))
        .await;
    let narrower = narrower.unwrap().into_inner().api_key.unwrap();
    assert_eq!(narrower.allow_from, ["10.1.0.0/16"]);
    let same = admin
        .api_keys()
        .roll_api_key(roll(&narrower.id, &[]))
        .await
        .unwrap();
    let same = same.into_inner().api_key.unwrap();
    assert_eq!(same.allow_from, ["10.1.0.0/16"]);
    let wider = admin
        .api_keys()
        .roll_api_key(roll(&same.id, &["0.0.0.0/0"]))
        .await
        .unwrap();
    let wider = wider.into_inner();
    introspect(&world.with_key(&wider.secret), OUTSIDE[0])
        .await
        .unwrap();
    let request = GetApiKeyRequest {
        id: wider.api_key.unwrap().id,
        ..GetApiKeyRequest::default()
    };
    let shown = admin.api_keys().get_api_key(request).await.unwrap().into_inner();
    assert_eq!(shown.api_key.unwrap().allow_from, ["0.0.0.0/0"]);
}

#[tokio::test]
async fn wrong_ranges_are_named() {
    let (_world, admin, _) = world().await;
    for wrong in ["10.0.0.1/8", "10.0.0.0/33", "", "example.org"] {
        let refused = admin
            .api_keys()
            .create_api_key(create("shop", &["10.0.0.0/8", wrong]))
            .await;
        assert_eq!(fields(&refused.unwrap_err()), ["allow_from[1]"], "{wrong}");
    }
    let many = vec!["10.0.0.0/8"; 33];
    let refused = admin
        .api_keys()
        .create_api_key(create("shop", &many))
        .await
        .unwrap_err();
    assert_eq!(fields(&refused), ["allow_from"]);
}
