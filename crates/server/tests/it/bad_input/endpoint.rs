//! The endpoints: a valid request to each, whose secrets must stay valid after all bad ones, and the form of its
//! errors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tessera_testkit::world::{Client, World};

use super::wire::{Ask, Over, basic};
use crate::endpoints::{Answer, FORM, form, login, send, text};

/// How an endpoint takes credentials, which determines the form of its errors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// In a member of a JSON object; fails with problems. A wrong credential gets the error with this name.
    Login {
        member: &'static str,
        wrong: &'static str,
    },
    /// As an OAuth client; fails with OAuth errors. This parameter is required.
    Form { needs: &'static str },
    /// No credentials, and no other input.
    Open,
    /// The bearer token of another client's request, with the requirement in the query.
    Proxy,
}

pub(super) struct Endpoint {
    /// The path in the description.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) good: Ask,
}

/// Secrets that must be neither consumed nor revealed.
pub(super) struct Secrets {
    pub(super) api_key: String,
    /// Of a session that began at `/auth/api-key`.
    pub(super) refresh_token: String,
    pub(super) access_token: String,
    /// Of one that began at `/oauth2/token`.
    pub(super) oauth_refresh_token: String,
}

/// The expected answer of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Problem(u16, &'static str),
    OAuth(u16, &'static str),
    /// 200, with the public content.
    Good,
    Empty(u16),
}

impl Secrets {
    pub(super) async fn of(world: &World, app: &Client) -> Self {
        let tokens = login(world, &app.api_key).await;
        let asked = "grant_type=client_credentials&audience=api&scope=videos:read+offline_access";
        let offline = form(world, "/oauth2/token", app, asked).await;
        Self {
            api_key: app.api_key.clone(),
            refresh_token: text(&tokens, "refresh_token"),
            access_token: text(&tokens, "access_token"),
            oauth_refresh_token: text(&offline, "refresh_token"),
        }
    }

    fn basic(&self) -> String {
        basic("app", &self.api_key)
    }

    /// In every form in which a secret is sent.
    pub(super) fn all(&self) -> [String; 5] {
        [
            self.api_key.clone(),
            self.refresh_token.clone(),
            self.access_token.clone(),
            self.oauth_refresh_token.clone(),
            self.basic()["Basic ".len()..].to_owned(),
        ]
    }
}

const METADATA: &str = "/.well-known/oauth-authorization-server";

/// All endpoints.
pub(super) fn endpoints(secrets: &Secrets) -> Vec<Endpoint> {
    let renewal = format!(
        "grant_type=refresh_token&refresh_token={}",
        secrets.oauth_refresh_token
    );
    let token = format!("token={}", secrets.oauth_refresh_token);
    let open = |path| Endpoint::new("GET", path, Kind::Open);
    let mut proxy = Endpoint::new("GET", "/forward-auth", Kind::Proxy);
    let bearer = format!("Bearer {}", secrets.access_token);
    proxy.good = proxy.good.header("authorization", [bearer.as_bytes()]);
    let mut issuer = open("/.well-known/oauth-authorization-server/{issuer}");
    issuer.good = issuer.good.target(format!("{METADATA}/production"));
    vec![
        Endpoint::login("/auth/api-key", "apiKey", &secrets.api_key, "CLIENT_AUTH_FAILED"),
        Endpoint::login(
            "/auth/refresh",
            "refreshToken",
            &secrets.refresh_token,
            "REFRESH_TOKEN_INVALID",
        ),
        Endpoint::form("/oauth2/token", "grant_type", &renewal, secrets),
        Endpoint::form("/oauth2/introspect", "token", &token, secrets),
        Endpoint::form("/oauth2/revoke", "token", &token, secrets),
        open(METADATA),
        issuer,
        open("/keys"),
        open("/openapi.json"),
        proxy,
    ]
}

impl Endpoint {
    fn new(method: &str, path: &'static str, kind: Kind) -> Self {
        let good = Ask {
            method: method.to_owned(),
            target: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        Self { path, kind, good }
    }

    fn login(path: &'static str, member: &'static str, secret: &str, wrong: &'static str) -> Self {
        let endpoint = Self::new("POST", path, Kind::Login { member, wrong });
        let good = endpoint.good.body(json!({ member: secret }).to_string());
        let good = good.header("content-type", [&b"application/json"[..]]);
        Self { good, ..endpoint }
    }

    fn form(path: &'static str, needs: &'static str, body: &str, secrets: &Secrets) -> Self {
        let endpoint = Self::new("POST", path, Kind::Form { needs });
        let good = endpoint.good.body(body).header(FORM.0, [FORM.1.as_bytes()]);
        let good = good.header("authorization", [secrets.basic().as_bytes()]);
        Self { good, ..endpoint }
    }

    /// The answer to a request that the endpoint can't parse.
    pub(super) fn malformed(&self) -> Told {
        match self.kind {
            Kind::Login { .. } | Kind::Proxy => Told::Problem(400, "FIELD_INVALID"),
            Kind::Form { .. } => Told::OAuth(400, "invalid_request"),
            Kind::Open => Told::Good,
        }
    }

    /// The answer to a request whose body is not read.
    pub(super) fn unread(&self, status: u16, name: &'static str) -> Told {
        match self.kind {
            Kind::Form { .. } => Told::OAuth(status, "invalid_request"),
            Kind::Login { .. } | Kind::Open | Kind::Proxy => Told::Problem(status, name),
        }
    }

    /// The expected value of `Allow` (RFC 9110 §15.5.6).
    fn allow(&self) -> &str {
        match self.good.method.as_str() {
            "GET" => "GET,HEAD",
            other => other,
        }
    }

    /// Checks an answer as far as possible without knowing the request's error.
    pub(super) fn check(&self, name: &str, answer: &Answer, secrets: &Secrets) {
        assert!(answer.status < 500, "{name}: {}", answer.body);
        for secret in secrets.all() {
            assert!(!answer.body.contains(&secret), "{name}: {}", answer.body);
            assert!(!answer.head.contains(&secret), "{name}: {}", answer.head);
        }
        assert_eq!(answer.header("x-request-id").len(), 1, "{name}: {}", answer.head);
        assert!(answer.header("access-control-allow-origin").is_empty(), "{name}");
        let challenged = !answer.header("www-authenticate").is_empty();
        assert_eq!(challenged, answer.status == 401, "{name}: {}", answer.head);
        let allowed = answer.header("allow");
        if answer.status == 405 {
            assert_eq!(allowed, [self.allow()], "{name}");
        }
        if answer.status >= 400 {
            assert_eq!(answer.header("cache-control"), ["no-store"], "{name}");
        }
    }
}

impl Told {
    pub(super) fn check(self, name: &str, answer: &Answer) {
        match self {
            Self::Problem(status, reason) => {
                let body = answer.json_or_null();
                assert_eq!(
                    (answer.status, body["name"].as_str()),
                    (status, Some(reason)),
                    "{name}: {body}"
                );
                answer.problem(status, reason);
            }
            Self::OAuth(status, error) => {
                let body = answer.json_or_null();
                assert_eq!(
                    (answer.status, body["error"].as_str()),
                    (status, Some(error)),
                    "{name}: {body}"
                );
                answer.oauth_error(status, error);
                assert!(body["error_description"].is_string(), "{name}: {body}");
            }
            Self::Good => assert_eq!(answer.status, 200, "{name}: {}", answer.body),
            Self::Empty(status) => {
                assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{name}");
            }
        }
    }
}

/// For each method and path of `/openapi.json`, the statuses and their content types that it may answer with.
pub(super) struct Described(BTreeMap<(String, String), BTreeSet<(u16, String)>>);

impl Described {
    pub(super) async fn read(world: &World) -> Self {
        let document = send(world, "GET /openapi.json", &[], b"").await.json();
        let mut described = BTreeMap::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap().iter();
                let answers = responses.flat_map(|(status, response)| {
                    kinds(response)
                        .into_iter()
                        .map(|kind| (status.parse().unwrap(), kind))
                });
                described.insert((method.to_uppercase(), path.clone()), answers.collect());
            }
        }
        Self(described)
    }

    pub(super) fn endpoints(&self) -> Vec<(String, String)> {
        self.0.keys().cloned().collect()
    }

    /// An answer to the endpoint's own method at its own path must be described.
    pub(super) fn check(&self, endpoint: &Endpoint, name: &str, ask: &Ask, answer: &Answer) {
        let path = ask.target.split('?').next();
        if ask.method != endpoint.good.method || path != Some(&endpoint.good.target) {
            return;
        }
        let described = &self.0[&(ask.method.clone(), endpoint.path.to_owned())];
        let kind = answer.header("content-type").join(" and ");
        assert!(
            described.contains(&(answer.status, kind.clone())),
            "{name}: {} {kind} is not among {described:?}",
            answer.status
        );
    }
}

/// The content types of a response; one empty type if it has none.
fn kinds(response: &Value) -> Vec<String> {
    match response["content"].as_object() {
        Some(content) => content.keys().cloned().collect(),
        None => vec![String::new()],
    }
}

/// One wrong request.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) ask: Ask,
    pub(super) told: Told,
}

impl Row {
    pub(super) async fn run(
        &self,
        world: &World,
        endpoint: &Endpoint,
        over: Over,
        secrets: &Secrets,
        described: &Described,
    ) {
        let name = format!(
            "{over:?}, {} {}: {}",
            endpoint.good.method, endpoint.path, self.name
        );
        let answer = self.ask.send(world, over).await;
        endpoint.check(&name, &answer, secrets);
        self.told.check(&name, &answer);
        described.check(endpoint, &name, &self.ask, &answer);
    }
}
