//! HTTP requirements: one row for each, with its section of the specification.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tessera_proto::v1::IntrospectManyRequest;
use tessera_testkit::world::{Client, World, access_token, reason, refresh_token, viewer};

use crate::endpoints::{Answer, FORM, send};

/// The expected answer.
enum Must {
    /// 200, with a token that has this scope.
    Grant(&'static str),
    /// An error of OAuth.
    Fail(u16, &'static str),
    /// 200 with exactly this.
    Say(Value),
    /// 200 with these members of it.
    Have(Value),
    /// A challenge that begins with this text, and this status.
    Challenge(u16, &'static str),
}

/// A requirement, and a request that tests it.
struct Rule {
    section: &'static str,
    path: &'static str,
    authorization: Option<String>,
    content_type: &'static str,
    body: String,
    must: Must,
}

/// The rows, and the data for them.
struct Rows {
    world: World,
    app: Client,
    basic: String,
    access: String,
    refresh: String,
    rules: Vec<Rule>,
}

fn basic(id: &str, key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{key}")))
}

impl Rows {
    async fn new() -> Self {
        let world = World::start().await;
        world.policy.write("catalogue.toml", CATALOGUE);
        world
            .authority
            .policies()
            .reload(tessera_authority::Trigger::Change)
            .await
            .unwrap();
        let app = world.client("production", "app").await;
        let session = app.issue(viewer("user:ann")).await.unwrap();
        Self {
            basic: basic("app", &app.api_key),
            access: access_token(session.tokens.as_ref()),
            refresh: refresh_token(session.tokens.as_ref()),
            world,
            app,
            rules: Vec::new(),
        }
    }

    fn rule(&mut self, section: &'static str, path: &'static str, body: &str, must: Must) -> &mut Rule {
        let last = self.rules.len();
        self.rules.push(Rule {
            section,
            path,
            authorization: Some(self.basic.clone()),
            content_type: FORM.1,
            body: body.to_owned(),
            must,
        });
        &mut self.rules[last]
    }

    /// A rule about client credentials, with more parameters.
    fn grant(&mut self, section: &'static str, more: &str, must: Must) -> &mut Rule {
        let body = format!("grant_type=client_credentials{more}");
        self.rule(section, "/oauth2/token", &body, must)
    }

    async fn check(&self) {
        for rule in &self.rules {
            let mut headers = vec![("content-type", rule.content_type)];
            headers.extend(
                rule.authorization
                    .as_deref()
                    .map(|value| ("authorization", value)),
            );
            let line = format!("POST {}", rule.path);
            let answer = send(&self.world, &line, &headers, rule.body.as_bytes()).await;
            rule.check(&answer);
        }
    }
}

impl Rule {
    fn check(&self, answer: &Answer) {
        let Self { section, body, .. } = self;
        let shown = format!("{section}: {body}: {} {}", answer.head, answer.body);
        match &self.must {
            Must::Grant(scope) => {
                assert_eq!(answer.status, 200, "{shown}");
                assert_eq!(answer.json()["scope"], *scope, "{shown}");
                assert_eq!(answer.json()["token_type"], "Bearer", "{shown}");
            }
            Must::Fail(status, error) => {
                assert_eq!(
                    (answer.status, &answer.json()["error"]),
                    (*status, &json!(error)),
                    "{shown}"
                );
                assert!(
                    !answer.json()["reason"].as_str().unwrap_or_default().is_empty(),
                    "{shown}"
                );
                assert_eq!(answer.header("cache-control"), ["no-store"], "{shown}");
            }
            Must::Say(said) => assert_eq!((answer.status, &answer.json()), (200, said), "{shown}"),
            Must::Have(members) => {
                assert_eq!(answer.status, 200, "{shown}");
                for (name, value) in members.as_object().unwrap() {
                    assert_eq!(answer.json()[name], *value, "{shown}");
                }
            }
            Must::Challenge(status, scheme) => {
                assert_eq!(answer.status, *status, "{shown}");
                let challenges = answer.header("www-authenticate");
                assert!(
                    challenges.len() == 1 && challenges[0].starts_with(scheme),
                    "{shown}"
                );
            }
        }
    }

    fn with_type(&mut self, content_type: &'static str) {
        self.content_type = content_type;
    }

    fn shows(&mut self, authorization: impl Into<Option<String>>) {
        self.authorization = authorization.into();
    }
}

/// The world's catalogue, with the addresses of `api` and `player`.
const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
sandbox = "for trying out"
[roles]
"role:viewer" = "watches"
"role:trial" = "tries"
"role:editor" = "changes"
[scopes]
"videos:read" = "list videos"
"videos:write" = "change videos"
"videos/{id}:play" = "play one video"
"videos/premium/{id}:play" = "play one premium video"
[audiences]
api = "the API"
player = "the player"
[resources]
"https://api.example.org/v1" = "api"
"https://api.example.org/v2" = "api"
"https://player.example.org/" = "player"
"#;

const ALL: &str = "videos:read videos:write";

#[tokio::test]
async fn tokens_are_asked_for_by_rfc_6749() {
    let mut rows = Rows::new().await;
    let api = "&audience=api";
    // Parameters without a value count as omitted.
    rows.grant("6749 §3.2", &format!("{api}&scope="), Must::Grant(ALL));
    rows.grant(
        "6749 §3.2",
        &format!("{api}&refresh_token=&resource="),
        Must::Grant(ALL),
    );
    rows.grant(
        "6749 §3.2",
        &format!("{api}&client_id=&client_secret="),
        Must::Grant(ALL),
    );
    rows.grant("6749 §3.2", &format!("{api}&audience="), Must::Grant(ALL));
    rows.rule(
        "6749 §3.2",
        "/oauth2/token",
        "grant_type=&audience=api",
        Must::Fail(400, "invalid_request"),
    );
    rows.rule(
        "6749 §3.2",
        "/oauth2/token",
        "grant_type=refresh_token&refresh_token=",
        Must::Fail(400, "invalid_request"),
    );
    // Unknown parameters are ignored, and none may be repeated.
    rows.grant(
        "6749 §3.2",
        &format!("{api}&more=1&other=2&more="),
        Must::Grant(ALL),
    );
    for wrong in ["more=1&more=2", "scope=%FF", "%C3%28=1"] {
        rows.grant(
            "6749 §3.2, appendix B",
            &format!("{api}&{wrong}"),
            Must::Fail(400, "invalid_request"),
        );
    }
    rows.grant(
        "6749 §3.2",
        &format!("{api}&scope=a:b&scope=c:d"),
        Must::Fail(400, "invalid_request"),
    );
    rows.check().await;
}

#[tokio::test]
async fn scopes_and_grants_that_are_wrong_are_said_by_rfc_6749() {
    let mut rows = Rows::new().await;
    let api = "&audience=api";
    rows.grant(
        "6749 §5.2",
        &format!("{api}&scope=videos"),
        Must::Fail(400, "invalid_scope"),
    );
    rows.grant(
        "6749 §5.2",
        &format!("{api}&scope=videos:read+%22"),
        Must::Fail(400, "invalid_scope"),
    );
    let many = "videos/a:play+".repeat(101);
    rows.grant(
        "6749 §5.2",
        &format!("{api}&scope={many}"),
        Must::Fail(400, "invalid_scope"),
    );
    rows.grant(
        "6749 §3.3",
        &format!("{api}&scope=++videos:read++"),
        Must::Grant("videos:read"),
    );
    rows.rule(
        "6749 §5.2",
        "/oauth2/token",
        "grant_type=implicit",
        Must::Fail(400, "unsupported_grant_type"),
    );
    for token in ["tsr_x".to_owned(), "x".repeat(30_000), "%00".to_owned()] {
        let body = format!("grant_type=refresh_token&refresh_token={token}");
        rows.rule(
            "6749 §5.2",
            "/oauth2/token",
            &body,
            Must::Fail(400, "invalid_grant"),
        );
    }
    rows.check().await;
}

#[tokio::test]
async fn clients_authenticate_in_one_way_by_rfc_6749() {
    let mut rows = Rows::new().await;
    let (key, refresh) = (rows.app.api_key.clone(), rows.refresh.clone());
    let api = "&audience=api";
    // One client, authenticated in one way.
    rows.grant("6749 §2.3", &format!("{api}&client_id=app"), Must::Grant(ALL));
    rows.grant(
        "6749 §2.3",
        &format!("{api}&client_id=client:app"),
        Must::Grant(ALL),
    );
    rows.grant(
        "6749 §2.3",
        &format!("{api}&client_id=other"),
        Must::Fail(400, "invalid_request"),
    );
    let both = format!("{api}&client_id=app&client_secret={key}");
    // An empty header is no credential.
    rows.grant("6749 §2.3.1", &both, Must::Grant(ALL))
        .shows(String::new());
    rows.grant("6749 §2.3", &both, Must::Fail(400, "invalid_request"));
    rows.grant("6749 §2.3.1", &both, Must::Grant(ALL)).shows(None);
    let others = format!("{api}&client_id=other");
    let bearer = format!("Bearer {key}");
    rows.grant("6749 §2.3", &others, Must::Fail(401, "invalid_client"))
        .shows(bearer.clone());
    let refreshes_others = format!("grant_type=refresh_token&refresh_token={refresh}&client_id=other");
    rows.rule(
        "6749 §6",
        "/oauth2/token",
        &refreshes_others,
        Must::Fail(400, "invalid_request"),
    );
    // The challenge uses the client's scheme.
    for body in ["", "&client_id=app"] {
        let wrong = basic("app", "tsk_production_wrong");
        rows.grant("6749 §5.2", body, Must::Challenge(401, "Basic realm=\""))
            .shows(wrong);
    }
    rows.grant("6749 §5.2", "", Must::Challenge(401, "Basic realm=\""))
        .shows(None);
    rows.grant(
        "6750 §3",
        "",
        Must::Challenge(401, "Bearer realm=\"tessera\", error=\"invalid_token\""),
    )
    .shows("Bearer tsk_production_wrong".to_owned());
    rows.check().await;
}

#[tokio::test]
async fn ascii_is_ascii_whatever_it_is_called() {
    let mut rows = Rows::new().await;
    let api = "&audience=api";
    for named in [
        "application/x-www-form-urlencoded; charset=ISO-8859-1",
        "application/x-www-form-urlencoded;charset=\"utf-8\"",
        "Application/X-WWW-Form-URLEncoded; charset=windows-1252",
    ] {
        rows.grant("9110 §8.3.2", api, Must::Grant(ALL)).with_type(named);
    }
    rows.grant("9110 §8.3.2", api, Must::Fail(400, "invalid_request"))
        .with_type("application/x-www-form-urlencoded; charset=utf-16");
    rows.grant(
        "9110 §8.3.2",
        &format!("{api}&more=ü"),
        Must::Fail(400, "invalid_request"),
    )
    .with_type("application/x-www-form-urlencoded; charset=iso-8859-1");
    rows.check().await;
}

#[tokio::test]
async fn resources_are_audiences_by_rfc_8707() {
    let mut rows = Rows::new().await;
    let resource = |uri: &str| format!("&resource={}", uri.replace(':', "%3A"));
    let (one, two) = (
        resource("https://api.example.org/v1"),
        resource("https://api.example.org/v2"),
    );
    rows.grant("8707 §2", &one, Must::Grant(ALL));
    rows.grant("8707 §2", &format!("{one}{two}&audience=api"), Must::Grant(ALL));
    let player = resource("https://player.example.org/");
    rows.grant(
        "8707 §2",
        &format!("{one}{player}"),
        Must::Fail(400, "invalid_target"),
    );
    rows.grant(
        "8707 §2",
        &format!("{one}&audience=player"),
        Must::Fail(400, "invalid_target"),
    );
    for wrong in [
        "https://api.example.org/v3",
        "https://api.example.org/v1#x",
        // The value is an absolute URI, and the name of an audience is not.
        "api",
        "moon",
        "/v1",
        "%00",
    ] {
        rows.grant("8707 §2", &resource(wrong), Must::Fail(400, "invalid_target"));
    }
    rows.grant("8707 §2", "&audience=a+b", Must::Fail(400, "invalid_target"));
    rows.check().await;
}

#[tokio::test]
async fn a_refresh_names_a_resource_by_rfc_8707() {
    let mut rows = Rows::new().await;
    let one = "&resource=https%3A//api.example.org/v1";
    let player = "&resource=https%3A//player.example.org/";
    let renewal = format!("grant_type=refresh_token&refresh_token={}", rows.refresh);
    let elsewhere = format!("{renewal}{player}");
    // A failed refresh consumes nothing, so the next rows use the same token.
    rows.rule(
        "8707 §2.2",
        "/oauth2/token",
        &elsewhere,
        Must::Fail(400, "invalid_target"),
    );
    let unknown = format!("{renewal}&resource=moon");
    rows.rule(
        "8707 §2.2",
        "/oauth2/token",
        &unknown,
        Must::Fail(400, "invalid_target"),
    );
    for wrong in ["&audience=player", "&audience=a+b"] {
        rows.rule(
            "8707 §2.2",
            "/oauth2/token",
            &format!("{renewal}{wrong}"),
            Must::Fail(400, "invalid_target"),
        );
    }
    rows.rule(
        "8707 §2.2",
        "/oauth2/token",
        &format!("{renewal}{one}&audience=api"),
        Must::Grant("videos:read"),
    );
    rows.check().await;
}

#[tokio::test]
async fn metadata_is_served_where_the_catalogue_has_resources() {
    let rows = Rows::new().await;
    let described = send(
        &rows.world,
        "GET /.well-known/oauth-authorization-server",
        &[],
        b"",
    )
    .await;
    assert_eq!(described.status, 200);
}

#[tokio::test]
async fn tokens_are_introspected_by_rfc_7662_and_revoked_by_rfc_7009() {
    let mut rows = Rows::new().await;
    let (access, refresh) = (rows.access.clone(), rows.refresh.clone());
    let inactive = || Must::Say(json!({ "active": false }));
    for token in [
        "",
        "nonsense",
        "v4.public.x",
        "tsr_x",
        "tsk_production_x",
        "%00%ff",
        "%F0%9F%99%82",
    ] {
        rows.rule(
            "7662 §2.2",
            "/oauth2/introspect",
            &format!("token={token}"),
            inactive(),
        );
        rows.rule(
            "7009 §2.2",
            "/oauth2/revoke",
            &format!("token={token}"),
            Must::Say(json!({})),
        );
    }
    for bytes in [4_097, 24 * 1024 + 1, 60_000] {
        let long = format!("token=v4.public.{}", "A".repeat(bytes));
        rows.rule("7662 §2.2", "/oauth2/introspect", &long, inactive());
        rows.rule("7009 §2.2", "/oauth2/revoke", &long, Must::Say(json!({})));
    }
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        rows.rule(
            "7662 §2.1",
            path,
            "token_type_hint=access_token",
            Must::Fail(400, "invalid_request"),
        );
        let nobody = rows.rule("7662 §2.3", path, "token=x", Must::Fail(401, "invalid_client"));
        nobody.shows(None);
    }
    let seen = json!({ "active": true, "token_type": "Bearer", "token_kind": "access_token" });
    let hinted = format!("token={access}&token_type_hint=nonsense");
    rows.rule("7662 §2.2", "/oauth2/introspect", &hinted, Must::Have(seen));
    let seen = json!({ "active": true, "token_type": null, "token_kind": "refresh_token" });
    rows.rule(
        "7662 §2.2",
        "/oauth2/introspect",
        &format!("token={refresh}"),
        Must::Have(seen),
    );
    rows.rule(
        "7009 §2.1",
        "/oauth2/revoke",
        &format!("token={refresh}&token_type_hint=x"),
        Must::Say(json!({})),
    );
    rows.rule(
        "7009 §2.1",
        "/oauth2/introspect",
        &format!("token={access}"),
        inactive(),
    );
    rows.check().await;
}

#[tokio::test]
async fn one_bad_token_of_many_is_inactive_and_the_others_are_answered() {
    let rows = Rows::new().await;
    let (app, access) = (&rows.app, &rows.access);
    for bad in [
        String::new(),
        "garbage".to_owned(),
        "x".repeat(5000),
        "x".repeat(30_000),
    ] {
        let asked = IntrospectManyRequest {
            tokens: vec![access.clone(), bad.clone(), access.clone()],
            at_least_as_fresh: String::new(),
        };
        let answer = app.tokens().introspect_many(asked).await.unwrap().into_inner();
        let active: Vec<_> = answer.results.iter().map(|result| result.active).collect();
        assert_eq!(active, [true, false, true]);
        assert_eq!(
            (
                answer.results[0].token_type.as_str(),
                &*answer.results[0].token_kind
            ),
            ("Bearer", "access_token")
        );
        assert!(!app.introspect(&bad).await.active);
    }
    let refused = app.refresh(&"x".repeat(30_000)).await.unwrap_err();
    assert_eq!(reason(&refused), "Unauthenticated / REFRESH_TOKEN_INVALID");
}

#[tokio::test]
async fn metadata_has_no_empty_list_by_rfc_8414() {
    let world = World::start().await;
    let answer = send(&world, "GET /.well-known/oauth-authorization-server", &[], b"").await;
    let metadata = answer.json();
    for (name, value) in metadata.as_object().unwrap() {
        assert!(
            value.as_array().is_none_or(|list| !list.is_empty()),
            "8414 §3.2: {name}"
        );
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_at_the_path_of_an_rpc() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let bearer = format!("Bearer {}", app.api_key);
    for path in [
        "/tessera.v1.TokenService/Issue",
        "/tessera.v1.TokenService/NoSuch",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/NoSuch",
        "/envoy.service.auth.v3.Authorization/Check",
    ] {
        for kind in [
            "application/json",
            "application/grpc-web",
            "application/grpc+json",
            "text/plain",
            "application/grpcx",
        ] {
            let headers = [("content-type", kind), ("authorization", &*bearer)];
            let answer = send(&world, &format!("POST {path}"), &headers, b"{}").await;
            assert_eq!(answer.status, 415, "{path} {kind}: {}", answer.body);
        }
        for method in ["GET", "PUT", "DELETE"] {
            let headers = [("content-type", "application/grpc"), ("authorization", &*bearer)];
            let answer = send(&world, &format!("{method} {path}"), &headers, b"").await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, vec!["POST"]),
                "{path}"
            );
        }
        let answer = send(&world, &format!("GET {path}"), &[], b"").await;
        assert_eq!(answer.status, 405, "{path}");
    }
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc; charset=utf-8",
    ] {
        let headers = [("content-type", kind), ("te", "trailers")];
        for path in ["/tessera.v1.KeyService/ListKeys", "/tessera.v1.KeyService/NoSuch"] {
            // It is gRPC, and not over HTTP/2.
            let answer = send(&world, &format!("POST {path}"), &headers, &[0; 5]).await;
            assert_eq!(answer.status, 505, "{kind}: {}", answer.body);
        }
    }
}

/// RFC 9110 §9.3.2; HTTP/2 would treat content as a broken stream.
#[tokio::test]
async fn the_answer_to_head_has_no_content() {
    let world = World::start().await;
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [
        ("/tessera.v1.TokenService/Issue", 405),
        ("/keys", 200),
        ("/nowhere", 404),
    ] {
        let request = http::Request::head(format!("http://tessera{path}"));
        let mut sender = sender.clone().ready().await.unwrap();
        let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.body_mut().data().await.is_none(), "{path}");
    }
}
