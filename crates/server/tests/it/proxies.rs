//! The answers to proxies: each question is sent to both endpoints, which must answer the same.

use std::{collections::HashMap, num::NonZeroU32};

use serde_json::Value;
use tessera_authority::{AccessError, Trigger};
use tessera_core::{OnPolicyLoss, Seconds};
use tessera_proto::{
    upstream::envoy::{
        config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption},
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse, OkHttpResponse,
            attribute_context::{HttpRequest, Request},
            check_response::HttpResponse,
        },
    },
    v1::{IssueRequest, revoke_request::Target},
};
use tessera_server::Limits;
use tessera_testkit::world::{
    Client, Fragile, Setup, World, access_token, reason, refresh_token, seconds, strings, viewer,
};

use crate::endpoints::{Answer, send};

const NAMES: [&str; 4] = [
    "x-tessera-subject",
    "x-tessera-client",
    "x-tessera-scopes",
    "x-tessera-realm",
];
const INVALID: &str =
    r#"Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed""#;

/// A proxy's question.
#[derive(Clone, Default)]
struct Question {
    /// `None`: any valid token.
    scope: Option<&'static str>,
    audience: Option<&'static str>,
    realm: Option<&'static str>,
    authorization: Vec<String>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) challenge: Vec<String>,
    /// The values of [`NAMES`], if it may pass.
    pub(crate) vouched: Vec<String>,
    /// The `name` of the problem, if it may not.
    pub(crate) problem: String,
}

impl Question {
    fn with(token: &str) -> Self {
        Self {
            authorization: vec![format!("Bearer {token}")],
            ..Self::default()
        }
    }

    fn scope(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    fn audience(mut self, audience: &'static str) -> Self {
        self.audience = Some(audience);
        self
    }

    fn realm(mut self, realm: &'static str) -> Self {
        self.realm = Some(realm);
        self
    }

    /// Asks both endpoints.
    async fn ask(&self, world: &World) -> Told {
        let by_http = self.by_http(world, "GET").await;
        let by_envoy = Told::of_envoy(&check(world, self.check_request()).await);
        if by_http.status == 400 {
            // The client of a route did not configure it.
            assert_eq!((by_envoy.status, &by_envoy.problem), (403, &by_http.problem));
        } else {
            assert_eq!(by_http, by_envoy);
        }
        by_http
    }

    async fn by_http(&self, world: &World, method: &str) -> Told {
        let said = [
            ("scope", self.scope),
            ("audience", self.audience),
            ("realm", self.realm),
        ];
        let said = said
            .iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)));
        let query: Vec<_> = said
            .map(|(name, value)| format!("{name}={}", value.replace(' ', "+")))
            .collect();
        let line = format!("{method} /forward-auth?{}", query.join("&"));
        let headers: Vec<_> = self
            .authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        Told::of_http(&send(world, &line, &headers, b"").await)
    }

    /// In Envoy's form: several headers with one name are joined.
    fn check_request(&self) -> CheckRequest {
        let said = [
            ("tessera.scope", Some(self.scope.unwrap_or("any"))),
            ("tessera.audience", self.audience),
            ("tessera.realm", self.realm),
        ];
        let said = said.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut headers = Vec::new();
        if !self.authorization.is_empty() {
            headers.push(("authorization", self.authorization.join(",")));
        }
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        check_request(&said.collect::<Vec<_>>(), &headers)
    }
}

impl Told {
    pub(crate) fn of_http(answer: &Answer) -> Self {
        assert_eq!(answer.header("cache-control"), ["no-store"]);
        let vouched = NAMES.iter().flat_map(|name| answer.header(name));
        let problem = answer.json_or_null();
        Self {
            status: answer.status,
            challenge: owned(answer.header("www-authenticate")),
            vouched: owned(vouched),
            problem: problem["name"].as_str().unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn of_envoy(response: &CheckResponse) -> Self {
        let code = response.status.as_ref().unwrap().code;
        match response.http_response.as_ref().unwrap() {
            HttpResponse::OkResponse(ok) => {
                assert_eq!(code, 0);
                Self {
                    status: 200,
                    challenge: Vec::new(),
                    vouched: owned(NAMES.iter().flat_map(|name| values(&ok.headers, name))),
                    problem: String::new(),
                }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(code, 0, "Envoy would let it through");
                let problem: Value = serde_json::from_str(&denied.body).unwrap();
                let status = denied.status.as_ref().unwrap().code;
                assert_eq!(problem["status"], status);
                assert_eq!(
                    values(&denied.headers, "content-type"),
                    ["application/problem+json"]
                );
                assert_eq!(values(&denied.headers, "cache-control"), ["no-store"]);
                Self {
                    status: status.try_into().unwrap(),
                    challenge: owned(values(&denied.headers, "www-authenticate")),
                    vouched: Vec::new(),
                    problem: problem["name"].as_str().unwrap().to_owned(),
                }
            }
        }
    }

    pub(crate) fn passes(&self, subject: &str, client: &str, scopes: &str, realm: &str) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.vouched, [subject, client, scopes, realm]);
    }

    pub(crate) fn is_no_good_token(&self) {
        assert_eq!((self.status, self.problem.as_str()), (401, "CLIENT_AUTH_FAILED"));
        assert_eq!(self.challenge, [INVALID]);
    }

    pub(crate) fn lacks(&self, scopes: &str) {
        assert_eq!((self.status, self.problem.as_str()), (403, "SCOPE_DENIED"));
        let challenge = format!(
            r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="{scopes}""#
        );
        assert_eq!(self.challenge, [challenge]);
    }

    fn is_indeterminate(&self, reason: &str) {
        assert_eq!((self.status, self.problem.as_str()), (503, reason));
    }
}

fn owned<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// The values of a header that Envoy must set, each replacing existing ones.
fn values<'a>(headers: &'a [HeaderValueOption], name: &str) -> Vec<&'a str> {
    assert!(headers.iter().all(|header| header.append == Some(false)));
    let headers = headers.iter().filter_map(|option| option.header.as_ref());
    headers
        .filter(|header| header.key == name)
        .map(|header| header.value.as_str())
        .collect()
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    pairs.collect()
}

pub(crate) fn check_request(said: &[(&str, &str)], headers: &[(&str, &str)]) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request {
                http: Some(HttpRequest {
                    method: "GET".to_owned(),
                    path: "/videos?secret=1".to_owned(),
                    host: "videos.example.org".to_owned(),
                    headers: map(headers),
                    header_map: None,
                }),
            }),
            context_extensions: map(said),
        }),
    }
}

pub(crate) async fn check(world: &World, request: CheckRequest) -> CheckResponse {
    world.authorization().check(request).await.unwrap().into_inner()
}

pub(crate) fn ok(response: CheckResponse) -> OkHttpResponse {
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => ok,
        HttpResponse::DeniedResponse(denied) => panic!("{denied:?}"),
    }
}

/// A viewer's access token.
async fn token(client: &Client) -> String {
    access_token(client.issue_for("user:ann").await.tokens.as_ref())
}

/// An access token of an editor, the client itself.
async fn editor(client: &Client) -> String {
    let issued = client.issue(IssueRequest::default()).await.unwrap();
    access_token(issued.tokens.as_ref())
}

#[tokio::test]
async fn a_good_token_passes_with_what_it_says() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let (ann, editor) = (
        Question::with(&token(&app).await),
        Question::with(&editor(&app).await),
    );
    for question in [
        ann.clone(),
        ann.clone().scope("any"),
        ann.clone().scope("videos:read"),
        ann.clone().audience("api").realm("production"),
    ] {
        let told = question.ask(&world).await;
        told.passes("user:ann", "client:app", "videos:read", "production");
    }
    let both = editor.scope("videos:write videos:read").ask(&world).await;
    both.passes(
        "client:app",
        "client:app",
        "videos:read videos:write",
        "production",
    );
    let mut shouted = ann.clone();
    shouted.authorization = vec![shouted.authorization[0].replace("Bearer ", "BEARER  ")];
    assert_eq!(shouted.ask(&world).await.status, 200);
    let head = ann.by_http(&world, "HEAD").await;
    head.passes("user:ann", "client:app", "videos:read", "production");
}

#[tokio::test]
async fn no_token_is_asked_for_and_what_is_no_access_token_is_refused() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    for authorization in [vec![], vec!["Basic YTpi".to_owned()], vec![String::new()]] {
        let question = Question {
            authorization,
            ..Question::default()
        };
        let told = question.ask(&world).await;
        assert_eq!(
            (told.status, told.challenge),
            (401, owned([r#"Bearer realm="tessera""#]))
        );
    }
    let issued = app.issue_for("user:ann").await;
    let good = access_token(issued.tokens.as_ref());
    let refresh = refresh_token(issued.tokens.as_ref());
    let mut forged = good.clone();
    forged.replace_range(30..31, if &good[30..31] == "A" { "B" } else { "A" });
    for bad in [
        "",
        "garbage",
        &refresh,
        &app.api_key,
        &forged,
        &format!("{good} {good}"),
    ] {
        Question::with(bad).ask(&world).await.is_no_good_token();
    }
    let stranger = World::start().await;
    let strange = token(&stranger.client("production", "app").await).await;
    Question::with(&strange).ask(&world).await.is_no_good_token();
    // It is not known which of two headers the service would use.
    let mut two = Question::with(&good);
    two.authorization.push(format!("Bearer {good}"));
    two.ask(&world).await.is_no_good_token();
    two.authorization[0] = "Basic YTpi".to_owned();
    assert_eq!(two.ask_status(&world).await, (401, 401));
}

impl Question {
    /// The status of both endpoints, for questions whose other details may differ.
    async fn ask_status(&self, world: &World) -> (u16, u16) {
        let by_envoy = Told::of_envoy(&check(world, self.check_request()).await);
        (self.by_http(world, "GET").await.status, by_envoy.status)
    }
}

#[tokio::test]
async fn time_audience_and_realm_are_those_of_the_route() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let issued = app.issue(IssueRequest {
        access_ttl: seconds(60),
        audience: "player".to_owned(),
        ..viewer("user:ann")
    });
    let player = Question::with(&access_token(issued.await.unwrap().tokens.as_ref()));
    player.ask(&world).await.is_no_good_token();
    assert_eq!(player.clone().audience("player").ask(&world).await.status, 200);
    world.clock.advance(Seconds(59));
    assert_eq!(player.clone().audience("player").ask(&world).await.status, 200);
    world.clock.advance(Seconds(1));
    player.audience("player").ask(&world).await.is_no_good_token();

    let sandbox = world.client("sandbox", "app").await;
    let trial = Question::with(&token(&sandbox).await);
    // A sandbox token passes nowhere unless a route allows it.
    trial.ask(&world).await.is_no_good_token();
    trial
        .clone()
        .realm("production")
        .ask(&world)
        .await
        .is_no_good_token();
    let told = trial.realm("sandbox").ask(&world).await;
    told.passes("user:ann", "client:app", "videos:read", "sandbox");
    let real = Question::with(&token(&app).await);
    real.realm("sandbox").ask(&world).await.is_no_good_token();
}

#[tokio::test]
async fn every_scope_is_needed() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let ann = Question::with(&token(&app).await);
    ann.clone()
        .scope("videos:write")
        .ask(&world)
        .await
        .lacks("videos:write");
    let both = ann.clone().scope("videos:write videos:read");
    both.ask(&world).await.lacks("videos:write");
    ann.scope("videos/v1:play videos:write")
        .ask(&world)
        .await
        .lacks("videos/v1:play videos:write");
}

#[tokio::test]
async fn a_revocation_holds_at_once_whatever_its_kind() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let kinds: [fn(&Case) -> Target; 8] = [
        |case| Target::Token(case.token.clone()),
        |case| Target::SessionId(case.session.clone()),
        |_| Target::Subject("user:ann".to_owned()),
        |_| Target::Client("client:app".to_owned()),
        |case| Target::ApiKeyId(case.api_key["tsk_production_".len()..][..16].to_owned()),
        |_| Target::Label("stream:1".to_owned()),
        |case| Target::KeyId(case.key.clone()),
        |_| Target::WholeRealm(true),
    ];
    for kind in kinds {
        let app = world.client("production", "app").await;
        let case = Case::new(&world, &app).await;
        let question = Question::with(&case.token);
        // Twice, so that the signature is cached.
        assert_eq!(question.ask(&world).await.status, 200);
        admin.revoke(kind(&case)).await.unwrap();
        question.ask(&world).await.is_no_good_token();
    }
}

/// A session with all targets of its revocation.
struct Case {
    token: String,
    session: String,
    api_key: String,
    key: String,
}

impl Case {
    async fn new(world: &World, app: &Client) -> Self {
        let bound = IssueRequest {
            labels: strings(&["stream:1"]),
            ..viewer("user:ann")
        };
        let issued = app.issue(bound).await.unwrap();
        let keys = send(world, "GET /keys", &[], b"").await.json();
        let keys = keys["keys"].as_array().unwrap();
        let active = keys
            .iter()
            .find(|key| key["realm"] == "production" && key["status"] == "active");
        Self {
            token: access_token(issued.tokens.as_ref()),
            session: issued.session_id,
            api_key: app.api_key.clone(),
            key: active.unwrap()["kid"].as_str().unwrap().to_owned(),
        }
    }
}

#[tokio::test]
async fn a_scope_that_policy_takes_is_gone_at_once() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let question = Question::with(&editor(&app).await);
    assert_eq!(
        question.clone().scope("videos:write").ask(&world).await.status,
        200
    );
    world.policy.take("p, role:editor, *, videos, write");
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    question
        .clone()
        .scope("videos:write")
        .ask(&world)
        .await
        .lacks("videos:write");
    let told = question.ask(&world).await;
    told.passes("client:app", "client:app", "videos:read", "production");
    // After it is given back, the next token has it.
    world.policy.restore();
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    question
        .clone()
        .scope("videos:write")
        .ask(&world)
        .await
        .lacks("videos:write");
    world.policy.take("g, client:app, role:editor");
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    question.ask(&world).await.is_no_good_token();
}

/// After the new policy and before its events, answers follow the policy.
#[tokio::test]
async fn policy_holds_before_its_events_are_written() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let app = world.client("production", "app").await;
    let question = Question::with(&token(&app).await);
    world.policy.take("p, role:viewer, *, videos, read");
    let (reloading, release) = store.hold_behind_policy(&world.authority).await;
    // It is not revoked yet, but has no rights.
    question.ask(&world).await.is_no_good_token();
    release.send(()).unwrap();
    reloading.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_realm_that_lets_tokens_run_out_lets_them_pass_until_then() {
    let world = World::with(Setup {
        on_policy_loss: OnPolicyLoss::Expire,
        ..Setup::default()
    })
    .await;
    let app = world.client("production", "app").await;
    let question = Question::with(&editor(&app).await).scope("videos:write");
    world.policy.take("p, role:editor, *, videos, write");
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    assert_eq!(question.ask(&world).await.status, 200);
}

#[tokio::test]
async fn a_wrong_configuration_closes_the_route() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let good = Question::with(&token(&app).await);
    for question in [
        good.clone().scope(""),
        good.clone().scope("videos"),
        good.clone().scope("any videos:read"),
        good.clone().scope("*"),
        good.clone().audience("moon"),
        good.clone().audience("the moon"),
        good.clone().realm("moon"),
        good.clone().realm(""),
    ] {
        let told = question.ask(&world).await;
        assert_eq!((told.status, told.problem.as_str()), (400, "FIELD_INVALID"));
    }
    let bearer = good.authorization[0].as_str();
    let unlisted: [&[(&str, &str)]; 2] = [&[], &[("other.scope", "videos:read")]];
    for said in unlisted {
        let told = Told::of_envoy(&check(&world, check_request(said, &[("authorization", bearer)])).await);
        assert_eq!((told.status, told.problem.as_str()), (403, "CALL_NOT_ALLOWED"));
    }
    let scope = ("tessera.scope", "videos:read");
    for wrong in [
        ("tessera.scopes", "videos:write"),
        ("tessera.audiense", "player"),
        ("tessera.remove_authorization", "yes"),
    ] {
        let request = check_request(&[scope, wrong], &[("authorization", bearer)]);
        let told = Told::of_envoy(&check(&world, request).await);
        assert_eq!((told.status, told.problem.as_str()), (403, "FIELD_INVALID"));
    }
    let nothing = Told::of_envoy(&check(&world, CheckRequest::default()).await);
    assert_eq!(nothing.status, 403);
}

#[tokio::test]
async fn what_a_client_says_of_itself_does_not_survive() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let bearer = format!("Bearer {}", token(&app).await);
    let spoofed = [
        ("authorization", bearer.as_str()),
        ("x-tessera-subject", "user:root"),
        ("x-tessera-scopes", "everything"),
        ("x-tessera-roles", "role:root"),
        ("x_tessera_subject", "user:root"),
        ("x-forwarded-uri", "/videos?realm=sandbox&access_token=1"),
    ];
    let said = [("tessera.scope", "videos:read")];
    let ok_response = ok(check(&world, check_request(&said, &spoofed)).await);
    assert_eq!(
        ok_response.headers_to_remove,
        ["x-tessera-roles", "x_tessera_subject"]
    );
    assert_eq!(values(&ok_response.headers, "x-tessera-subject"), ["user:ann"]);
    assert_eq!(values(&ok_response.headers, "x-tessera-scopes"), ["videos:read"]);

    for (value, removed) in [("true", vec!["authorization"]), ("false", vec![])] {
        let said = [said[0], ("tessera.remove_authorization", value)];
        let ok_response = ok(check(&world, check_request(&said, &spoofed[..1])).await);
        assert_eq!(ok_response.headers_to_remove, removed);
    }
    let answer = send(&world, "GET /forward-auth", &spoofed, b"").await;
    assert_eq!(answer.header("x-tessera-subject"), ["user:ann"]);
    assert!(answer.header("x-tessera-roles").is_empty());
}

#[tokio::test]
async fn raw_headers_are_read_one_by_one() {
    let world = World::start().await;
    let app = world.client("production", "app").await;
    let bearer = format!("Bearer {}", token(&app).await);
    let raw = |values: &[(&str, &str)]| {
        let mut request = check_request(&[("tessera.scope", "any")], &[]);
        let context = request.attributes.as_mut().unwrap().request.as_mut().unwrap();
        let headers = values.iter().map(|(key, value)| HeaderValue {
            key: (*key).to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..HeaderValue::default()
        });
        context.http.as_mut().unwrap().header_map = Some(HeaderMap {
            headers: headers.collect(),
        });
        request
    };
    let one = [
        ("authorization", bearer.as_str()),
        ("x-tessera-roles", "role:root"),
    ];
    let ok_response = ok(check(&world, raw(&one)).await);
    assert_eq!(values(&ok_response.headers, "x-tessera-subject"), ["user:ann"]);
    assert_eq!(ok_response.headers_to_remove, ["x-tessera-roles"]);
    let two = Told::of_envoy(&check(&world, raw(&[one[0], one[0]])).await);
    two.is_no_good_token();
    let none = Told::of_envoy(&check(&world, raw(&[])).await);
    assert_eq!(none.challenge, [r#"Bearer realm="tessera""#]);
}

#[tokio::test]
async fn refused_tokens_of_its_users_are_not_held_against_a_proxy() {
    let world = World::start().await;
    for _ in 0..100 {
        Question::with("garbage").ask(&world).await.is_no_good_token();
    }
    let app = world.client("production", "app").await;
    assert_eq!(Question::with(&token(&app).await).ask(&world).await.status, 200);
    let stranger = world.with_key("tsk_production_guess");
    let refused = stranger.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn an_authority_that_can_not_tell_says_so() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let app = world.client("production", "app").await;
    let question = Question::with(&token(&app).await);
    world.authority.drain();
    question.ask(&world).await.is_indeterminate("DRAINING");
    let busy = World::with(Setup {
        server: Limits {
            proxy_checks_per_second: NonZeroU32::MIN,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let app = busy.client("production", "app").await;
    let minted = token(&app).await;
    // The signature must be verified to find whether these are valid.
    let [first, second] = [30, 31].map(|at| with_another_letter(&minted, at));
    let answer = |token: &str| {
        let authorization = format!("Bearer {token}");
        let busy = &busy;
        async move {
            let headers = [("authorization", authorization.as_str())];
            send(busy, "GET /forward-auth", &headers, b"").await
        }
    };
    assert_eq!(answer(&first).await.status, 401);
    Question::with(&second)
        .ask(&busy)
        .await
        .is_indeterminate("OVERLOADED");
    assert_eq!(answer(&minted).await.status, 200, "its signature is known");
    assert_eq!(answer(&second).await.header("retry-after"), ["1"]);
}

/// The token with another letter at an index within its claims.
fn with_another_letter(token: &str, at: usize) -> String {
    let mut letters: Vec<char> = token.chars().collect();
    letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
    letters.into_iter().collect()
}

/// If there are no slots at all, waiting is useless.
#[tokio::test]
async fn without_a_place_a_proxy_is_refused_at_once() {
    let full = World::with(Setup {
        server: Limits {
            unauthenticated_calls_max: 0,
            ..Limits::default()
        },
        ..Setup::default()
    })
    .await;
    let answer = send(&full, "GET /forward-auth", &[], b"").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, vec!["1"]));
    let checked = full.authorization().check(CheckRequest::default()).await;
    assert_eq!(reason(&checked.unwrap_err()), "Unavailable / OVERLOADED");
}

#[tokio::test]
async fn a_store_that_failed_vouches_for_nothing() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let app = world.client("production", "app").await;
    let token = token(&app).await;
    let judge = async || {
        let realm = &world.authority.realms()[&tessera_testkit::world::realm("production")];
        let wanted = tessera_authority::RequiredAccess {
            realm,
            audience: &tessera_core::Audience::parse("api").unwrap(),
            scopes: &tessera_core::ScopeSet::default(),
        };
        world.authority.access().check_access(&token, &wanted).await
    };
    assert!(judge().await.is_ok());
    // Not over the wire: the server, which now ends by itself, may be faster.
    store.break_now();
    assert!(matches!(judge().await, Err(AccessError::Unavailable(_))));
}

/// The health of the service that Envoy calls.
async fn health(world: &World) -> Result<i32, tonic::Code> {
    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel());
    let asked = tonic_health::pb::HealthCheckRequest {
        service: "envoy.service.auth.v3.Authorization".to_owned(),
    };
    let answer = health.check(asked).await.map_err(|refused| refused.code())?;
    Ok(answer.into_inner().status)
}

#[tokio::test]
async fn proxies_that_are_turned_off_find_nothing() {
    let world = World::with(Setup {
        proxies: false,
        ..Setup::default()
    })
    .await;
    send(&world, "GET /forward-auth", &[], b"")
        .await
        .problem(404, "NOT_FOUND");
    let refused = world.authorization().check(CheckRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unimplemented);
    assert_eq!(health(&world).await, Err(tonic::Code::NotFound));
    assert_eq!(health(&World::start().await).await, Ok(1));
}
