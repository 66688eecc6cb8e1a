//! Requests whose needs depend only on the path: each is checked at every endpoint that a proxy may call, and all must
//! answer the same.

use tessera_authority::Trigger;
use tessera_proto::{upstream::envoy::service::auth::v3::CheckRequest, v1::IssueRequest};
use tessera_testkit::world::{Client, PolicyDirectory, Setup, World, access_token, strings, viewer};

use crate::{
    endpoints::{Answer, raw, send},
    proxies::{Told, check, check_request, ok},
};

const ROUTES: &str = r#"
[[route]]
path = "/health"
open = true

[[route]]
host = "admin.example.org"
path = "/*"
scope = "videos:write"

[[route]]
path = "/videos"
methods = ["GET"]
scope = "videos:read"

[[route]]
path = "/videos/{id}/play"
scope = "videos/{id}:play"

[[route]]
path = "/player"
scope = "any"
audience = "player"
realm = "production"

[[route]]
path = "/trial"
scope = "any"
realm = "sandbox"

[[route]]
path = "/videos/*"
scope = "videos:read videos:write"
"#;

/// A client's request to the service behind a proxy.
#[derive(Clone, Copy, Debug)]
struct Sent<'a> {
    method: &'a str,
    host: &'a str,
    target: &'a str,
    token: Option<&'a str>,
}

async fn world() -> World {
    let directory = PolicyDirectory::new();
    directory.write("routes.toml", ROUTES);
    World::in_directory(Setup::default(), directory).await
}

impl Sent<'_> {
    fn bearer(&self) -> Option<String> {
        self.token.map(|token| format!("Bearer {token}"))
    }

    /// The request with the path appended, as Envoy's HTTP ext_authz sends it.
    async fn appended(&self, world: &World) -> Answer {
        let Self {
            method, host, target, ..
        } = self;
        let bearer = self
            .bearer()
            .map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
        let request = format!(
            "{method} /forward-auth{target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{bearer}content-length: 0\r\n\r\n"
        );
        raw(world.address, request.as_bytes()).await
    }

    async fn described(&self, world: &World, names: [&str; 2]) -> Answer {
        let bearer = self.bearer();
        let mut headers = vec![
            (names[0], self.target),
            (names[1], self.method),
            ("x-forwarded-host", self.host),
        ];
        headers.extend(bearer.as_deref().map(|value| ("authorization", value)));
        send(world, "GET /forward-auth", &headers, b"").await
    }

    fn check_request(&self, said: &[(&str, &str)]) -> CheckRequest {
        let bearer = self.bearer();
        let headers: Vec<_> = bearer
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let mut request = check_request(said, &headers);
        let attributes = request.attributes.as_mut().unwrap();
        let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
        http.method = self.method.to_owned();
        http.host = self.host.to_owned();
        http.path = self.target.to_owned();
        request
    }

    /// Asks every endpoint.
    async fn ask(&self, world: &World) -> Told {
        let told = Told::of_http(&self.appended(world).await);
        for names in [
            ["x-forwarded-uri", "x-forwarded-method"],
            ["x-original-uri", "x-original-method"],
        ] {
            assert_eq!(
                Told::of_http(&self.described(world, names).await),
                told,
                "{self:?}"
            );
        }
        let by_envoy = check(world, self.check_request(&[("other.key", "x")])).await;
        assert_eq!(Told::of_envoy(&by_envoy), told, "{self:?}");
        told
    }
}

fn get<'a>(target: &'a str, token: &'a str) -> Sent<'a> {
    Sent {
        method: "GET",
        host: "videos.example.org",
        target,
        token: Some(token),
    }
}

async fn token_with(client: &Client, scopes: &[&str]) -> String {
    let request = IssueRequest {
        scopes: strings(scopes),
        ..viewer("user:ann")
    };
    access_token(client.issue(request).await.unwrap().tokens.as_ref())
}

#[tokio::test]
async fn a_scope_has_its_parameter_from_the_path() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let token = token_with(&app, &["videos/v1:play"]).await;
    for target in [
        "/videos/v1/play",
        "/videos/v1/play?t=3&scope=any",
        "/videos/%761/play/",
    ] {
        let told = get(target, &token).ask(&world).await;
        told.passes("user:ann", "client:app", "videos/v1:play", "production");
    }
    get("/videos/v2/play", &token)
        .ask(&world)
        .await
        .lacks("videos/v2:play");
    for method in ["POST", "OPTIONS", "HEAD", "PROPFIND"] {
        let sent = Sent {
            method,
            ..get("/videos/v2/play", &token)
        };
        assert_eq!(sent.appended(&world).await.status, 403, "{method}");
        let sent = Sent {
            method,
            ..get("/videos/v1/play", &token)
        };
        assert_eq!(sent.appended(&world).await.status, 200, "{method}");
    }
}

#[tokio::test]
async fn host_method_audience_and_realm_count() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let reader = token_with(&app, &["videos:read"]).await;
    let read = get("/videos", &reader);
    assert_eq!(read.ask(&world).await.status, 200);
    let write = Sent {
        method: "POST",
        ..read
    };
    write.ask(&world).await.lacks("videos:write");
    let admin = Sent {
        host: "ADMIN.example.org:8443",
        ..read
    };
    admin.ask(&world).await.lacks("videos:write");
    get("/player", &reader).ask(&world).await.is_no_good_token();
    let player = app.issue(IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    });
    let player = access_token(player.await.unwrap().tokens.as_ref());
    assert_eq!(get("/player", &player).ask(&world).await.status, 200);
    get("/trial", &reader).ask(&world).await.is_no_good_token();
    let trial = token_with(&world.client("sandbox", "app").await, &["videos:read"]).await;
    assert_eq!(get("/trial", &trial).ask(&world).await.status, 200);
    get("/videos", &trial).ask(&world).await.is_no_good_token();
}

#[tokio::test]
async fn what_is_not_listed_or_can_be_read_in_two_ways_is_refused() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let token = token_with(&app, &["videos:read"]).await;
    for target in [
        "/",
        "/other",
        "/healthz",
        "/Health",
        "/forward-auth/health",
        "/health/../videos",
        "/health/%2e%2e/videos",
        "/health/..%2fvideos",
        "/health%2f..%2fvideos",
        "//health",
        "/health//",
        "/./health",
        "/health;/videos",
        "/health/..;/videos",
        "/videos/%252e%252e",
        "/videos/%00",
        "/videos/a%20b/play",
        "/videos/%5c..",
        "/health%zz",
    ] {
        let told = get(target, &token).ask(&world).await;
        assert_eq!(
            (told.status, told.problem.as_str()),
            (403, "CALL_NOT_ALLOWED"),
            "{target}"
        );
        assert!(told.challenge.is_empty());
    }
    let lower = Sent {
        method: "get",
        ..get("/videos", &token)
    };
    assert_eq!(lower.ask(&world).await.status, 403);
}

#[tokio::test]
async fn an_open_route_needs_nobody_and_vouches_for_nobody() {
    let world = world().await;
    for token in [None, Some("garbage")] {
        let sent = Sent {
            token,
            ..get("/health", "")
        };
        let told = sent.ask(&world).await;
        assert_eq!((told.status, told.vouched.len()), (200, 0));
        let spoofed = [
            ("x-tessera-subject", "user:root"),
            ("x_tessera_realm", "moon"),
            ("x-other", "stays"),
        ];
        let mut request = sent.check_request(&[]);
        let attributes = request.attributes.as_mut().unwrap();
        let http = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
        http.headers
            .extend(spoofed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let allowed = ok(check(&world, request).await);
        assert!(allowed.headers.is_empty());
        assert_eq!(
            allowed.headers_to_remove,
            ["x-tessera-subject", "x_tessera_realm"]
        );
    }
    // OPTIONS is not answered by anything else either.
    let options = send(
        &world,
        "OPTIONS /forward-auth/videos",
        &[("origin", "https://a.example")],
        b"",
    )
    .await;
    assert_eq!(options.status, 401);
    let options = send(
        &world,
        "OPTIONS /forward-auth?scope=any",
        &[("origin", "https://a.example")],
        b"",
    )
    .await;
    assert_eq!(options.status, 405);
}

#[tokio::test]
async fn what_the_configuration_says_overrides_the_routes() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let token = token_with(&app, &["videos:read"]).await;
    let bearer = format!("Bearer {token}");
    let sent = get("/other", &token);
    let said = check(&world, sent.check_request(&[("tessera.scope", "videos:read")])).await;
    assert_eq!(Told::of_envoy(&said).status, 200);
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-uri", "/health/../x"),
    ];
    let answer = send(&world, "GET /forward-auth?scope=videos:write", &headers, b"").await;
    assert_eq!(answer.status, 403);
    let answer = send(&world, "GET /forward-auth?scope=videos:read", &headers, b"").await;
    assert_eq!(answer.status, 200);
    let realm = check(
        &world,
        get("/videos", &token).check_request(&[("tessera.realm", "sandbox")]),
    )
    .await;
    Told::of_envoy(&realm).is_no_good_token();
}

const HOST: (&str, &str) = ("x-forwarded-host", "videos.example.org");
/// Headers that do not say what was called, or that contradict each other.
const NOT_BELIEVED: [&[(&str, &str)]; 11] = [
    &[],
    &[HOST],
    &[
        ("x-original-uri", "/videos/v1"),
        ("x-forwarded-uri", "/health"),
        HOST,
    ],
    &[
        ("x-forwarded-uri", "/videos/v1"),
        ("x-forwarded-uri", "/health"),
        HOST,
    ],
    &[
        ("x-original-uri", "/videos"),
        ("x-original-method", "POST"),
        ("x-forwarded-method", "GET"),
        HOST,
    ],
    &[("x-original-url", "/videos/v1"), ("x-original-method", "GET")],
    &[
        ("x-original-url", "https://videos.example.org"),
        ("x-original-method", "GET"),
    ],
    &[
        ("x-original-url", "https://videos.example.org/health"),
        ("x-forwarded-uri", "/videos/v1"),
        ("x-forwarded-method", "GET"),
        HOST,
    ],
    &[
        ("x-original-url", "https://other.example.org/health"),
        ("x-original-method", "GET"),
        HOST,
    ],
    // A route for GET alone matches, and the method is not given.
    &[("x-original-uri", "/videos"), HOST],
    &[("x-original-uri", "/videos"), ("x-original-method", "GET")],
];

#[tokio::test]
async fn headers_that_a_client_may_have_written_are_not_believed() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let bearer = format!("Bearer {}", token_with(&app, &["videos:read"]).await);
    let ask = async |headers: &[(&str, &str)]| {
        let headers = [headers, &[("authorization", bearer.as_str())]].concat();
        let answer = send(&world, "GET /forward-auth", &headers, b"").await;
        (
            answer.status,
            answer.json_or_null()["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let refused = (400, "FIELD_INVALID".to_owned());
    for headers in NOT_BELIEVED {
        assert_eq!(ask(headers).await, refused, "{headers:?}");
    }
    // Routes of one host are checked before those of all, and the host is not given.
    assert_eq!(ask(&[("x-original-uri", "/health")]).await, refused);
    assert_eq!(ask(&[("x-original-uri", "/health"), HOST]).await.0, 200);
    // ingress-nginx of Kubernetes.
    let get = ("x-original-method", "GET");
    let url = |path: &'static str| [("x-original-url", path), get];
    assert_eq!(ask(&url("https://videos.example.org/health")).await.0, 200);
    assert_eq!(ask(&url("https://videos.example.org/videos/v1?a=b")).await.0, 403);
    let all = [
        ("x-original-url", "https://videos.example.org/health"),
        get,
        ("x-forwarded-uri", "/health"),
        HOST,
    ];
    assert_eq!(ask(&all).await.0, 200);
    assert_eq!(ask(&[("x-original-uri", "/videos/v1"), HOST]).await.0, 403);
}

/// Caddy passes on its client's query if its configuration sets none.
#[tokio::test]
async fn a_query_that_the_client_wrote_is_not_believed() {
    let world = world().await;
    let app = world.client("production", "app").await;
    let bearer = format!("Bearer {}", token_with(&app, &["videos:read"]).await);
    let ask = async |query: &str, uri: &str| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-uri", uri),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-host", "videos.example.org"),
        ];
        let line = format!("GET /forward-auth{query}");
        let answer = send(&world, &line, &headers, b"").await;
        answer.status
    };
    assert_eq!(ask("", "/videos/v1").await, 403);
    for query in ["?scope=any", "?scope=videos:read", "?realm=sandbox"] {
        assert_eq!(ask(query, &format!("/videos/v1{query}")).await, 400, "{query}");
    }
    // This query was set by the proxy.
    assert_eq!(ask("?scope=videos:read", "/videos/v1?scope=any").await, 200);
    assert_eq!(ask("?scope=videos:read", "/videos/v1").await, 200);
}

#[tokio::test]
async fn routes_come_and_go_with_the_policy() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let token = token_with(&app, &["videos:read"]).await;
    let sent = get("/videos", &token);
    let names = ["x-forwarded-uri", "x-forwarded-method"];
    // Without routes the needs of a path are not known; a proxy that names none requires any valid token.
    assert_eq!(sent.appended(&world).await.status, 403);
    assert_eq!(sent.described(&world, names).await.status, 200);
    world.policy.write(
        "routes.toml",
        "[[route]]\npath = \"/videos\"\nscope = \"videos:write\"\n",
    );
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    sent.ask(&world).await.lacks("videos:write");
    world.policy.write(
        "routes.toml",
        "[[route]]\npath = \"/videos\"\nscope = \"videos:raed\"\n",
    );
    world
        .authority
        .policies()
        .reload(Trigger::Call)
        .await
        .unwrap_err();
    sent.ask(&world).await.lacks("videos:write");
    world.policy.write(
        "routes.toml",
        "[[route]]\npath = \"/videos\"\nscope = \"videos:read\"\n",
    );
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    assert_eq!(sent.ask(&world).await.status, 200);
}
