//! `envoy.service.auth.v3.Authorization`, which Envoy's `ext_authz` filter calls.
//!
//! The call itself always succeeds: its answer says whether a request may pass.

use std::{collections::HashMap, sync::Arc};

use http::StatusCode;
use tessera_core::AuthorizationHeader;
use tessera_policy::Call;
use tessera_proto::upstream::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption},
        service::auth::v3::{
            AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            attribute_context::HttpRequest, authorization_server::Authorization,
            check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode as WireCode},
    },
    google::rpc,
};
use tonic::{Request, Response, Status};

use crate::{
    edge::{Edge, exchange},
    proxies::{self, Passed, Question, Refusal, Stated, Unstated},
};

/// The prefix of the keys of this configuration, in a route's `context_extensions`.
const PREFIX: &str = "tessera.";
/// The prefix of the headers that Tessera vouches for.
const VOUCHED: &str = "x-tessera-";

/// The service.
pub(crate) struct ExternalAuthorization(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl Authorization for ExternalAuthorization {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let exchange = exchange(request.extensions())?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let AttributeContext {
            request,
            context_extensions,
        } = attributes;
        let http = request.and_then(|request| request.http).unwrap_or_default();
        let route = Route::read(&context_extensions);
        let (question, removes_token) = match route {
            Ok(Route {
                stated,
                removes_token,
            }) => (Ok(question(stated, &http)), removes_token),
            Err(refusal) => (Err(refusal), false),
        };
        let token = proxies::bearer(authorization(&http));
        let checked = proxies::check(&self.0, &exchange, question, token).await;
        Ok(Response::new(match checked {
            Ok(passed) => allowed(&passed, &http, removes_token),
            Err(refusal) => denied(&refusal),
        }))
    }
}

/// What the `context_extensions` of a route say.
struct Route {
    stated: Stated,
    removes_token: bool,
}

impl Route {
    fn read(extensions: &HashMap<String, String>) -> Result<Self, Refusal> {
        let (mut scope, mut audience, mut realm, mut removes_token) = (None, None, None, false);
        for (key, value) in extensions {
            // Other keys belong to other services.
            let Some(name) = key.strip_prefix(PREFIX) else {
                continue;
            };
            match (name, value.as_str()) {
                ("scope", _) => scope = Some(value.clone()),
                ("audience", _) => audience = Some(value.clone()),
                ("realm", _) => realm = Some(value.clone()),
                ("remove_authorization", "true") => removes_token = true,
                ("remove_authorization", "false") => removes_token = false,
                ("remove_authorization", _) => {
                    return Err(Refusal::misconfigured(key, &"must be `true` or `false`"));
                }
                // A misspelt key must not loosen the rule that it was meant to tighten.
                _ => return Err(Refusal::misconfigured(key, &"is not known")),
            }
        }
        Ok(Self {
            stated: Stated {
                scope,
                audience,
                realm,
            },
            removes_token,
        })
    }
}

/// The question: what the route's configuration says, otherwise what the policy says of the request.
fn question(stated: Stated, http: &HttpRequest) -> Question<'_> {
    Question {
        stated,
        call: Ok(Some(Call {
            host: Some(http.host.as_str()).filter(|host| !host.is_empty()),
            method: Some(http.method.as_str()).filter(|method| !method.is_empty()),
            target: &http.path,
        })),
        unsaid: Unstated::Closed,
    }
}

/// The headers with their names, from whichever of the two fields Envoy uses.
fn headers(http: &HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    let joined = http.headers.iter();
    let joined = joined.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let single = http.header_map.iter().flat_map(|map| &map.headers);
    joined.chain(single.map(|header| {
        let value = if header.raw_value.is_empty() {
            header.value.as_bytes()
        } else {
            &header.raw_value
        };
        (header.key.as_str(), value)
    }))
}

/// Several headers of this name come as one value, joined by commas, which is not a token.
fn authorization(http: &HttpRequest) -> AuthorizationHeader<'_> {
    let named = headers(http).filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    AuthorizationHeader::of(named.map(|(_, value)| value))
}

fn allowed(passed: &Passed, http: &HttpRequest, removes_token: bool) -> CheckResponse {
    let set = match passed {
        Passed::Open => Vec::new(),
        Passed::As(checked) => proxies::headers(checked).to_vec(),
    };
    let mut removed = forged(http);
    removed.retain(|forged| set.iter().all(|(name, _)| name != forged));
    if removes_token {
        removed.push("authorization".to_owned());
    }
    let set = set.into_iter();
    answer(
        tonic::Code::Ok,
        HttpResponse::OkResponse(OkHttpResponse {
            headers: set.map(|(name, value)| header(name, value)).collect(),
            headers_to_remove: removed,
        }),
    )
}

/// Headers of the request that look like ours; also with `_` for `-`, which some services treat as the same.
fn forged(http: &HttpRequest) -> Vec<String> {
    let names = headers(http).map(|(name, _)| name.to_ascii_lowercase());
    let mut forged: Vec<_> = names
        .filter(|name| name.replace('_', "-").starts_with(VOUCHED))
        .collect();
    forged.sort_unstable();
    forged.dedup();
    forged
}

fn denied(refusal: &Refusal) -> CheckResponse {
    let code = match refusal.code() {
        // The client's request is not what is wrong.
        StatusCode::BAD_REQUEST => StatusCode::FORBIDDEN,
        code => code,
    };
    let headers = refusal.headers().into_iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| header(name.as_str(), value))
        .collect();
    headers.push(header("content-type", "application/problem+json".to_owned()));
    headers.push(header("cache-control", "no-store".to_owned()));
    answer(
        refusal.error().code(),
        HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: wire_code(code).into(),
            }),
            headers,
            body: String::from_utf8(refusal.problem(code).to_json()).unwrap_or_default(),
        }),
    )
}

fn wire_code(code: StatusCode) -> WireCode {
    WireCode::try_from(i32::from(code.as_u16())).unwrap_or(WireCode::Forbidden)
}

fn answer(code: tonic::Code, response: HttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..rpc::Status::default()
        }),
        http_response: Some(response),
    }
}

/// Replaces an existing value.
fn header(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value,
            raw_value: Vec::new(),
        }),
        append: Some(false),
    }
}
