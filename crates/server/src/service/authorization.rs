//! `envoy.service.auth.v3.Authorization`, which Envoy's `ext_authz` filter calls.
//!
//! The call itself always succeeds: whether a request may pass is in its answer.

use std::{collections::HashMap, sync::Arc};

use http::StatusCode;
use tessera_authority::Judged;
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
    proxies::{self, Refusal, Said},
};

/// What the keys of this configuration begin with, in a route's `context_extensions`.
const PREFIX: &str = "tessera.";
/// What the headers that Tessera vouches for begin with.
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
        let route = Route::read(&context_extensions, &http);
        let (said, removes_token) = match route {
            Ok(route) => (Ok(route.said), route.removes_token),
            Err(refusal) => (Err(refusal), false),
        };
        let token = proxies::bearer(authorization(&http).into_iter());
        let judged = proxies::judge(&self.0, &exchange, said, token).await;
        Ok(Response::new(match judged {
            Ok(judged) => allowed(&judged, &http, removes_token),
            Err(refusal) => denied(&refusal),
        }))
    }
}

/// What `context_extensions` say of a route.
struct Route {
    said: Said,
    removes_token: bool,
}

impl Route {
    fn read(extensions: &HashMap<String, String>, http: &HttpRequest) -> Result<Self, Refusal> {
        let (mut scope, mut audience, mut realm, mut removes_token) = (None, None, None, false);
        for (key, value) in extensions {
            // Other keys are other services'.
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
                // A misspelt key must not loosen what it was to tighten.
                _ => return Err(Refusal::misconfigured(key, &"is not known")),
            }
        }
        // An administrator who forgets it closes the route, and does not open it.
        let scope = scope.ok_or_else(|| Refusal::Unlisted { route: route(http) })?;
        Ok(Self {
            said: Said {
                scope,
                audience,
                realm,
            },
            removes_token,
        })
    }
}

/// The path of a request, for the log: without its query, which may hold a secret.
fn route(http: &HttpRequest) -> String {
    let path = http.path.split('?').next().unwrap_or_default();
    format!("{} {}{path}", http.method, http.host)
}

/// The headers with their names, from whichever of the two places Envoy puts them into.
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

/// Several headers of this name come as one value, joined by commas, which is no token.
fn authorization(http: &HttpRequest) -> Vec<&[u8]> {
    headers(http)
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value)
        .collect()
}

fn allowed(judged: &Judged, http: &HttpRequest, removes_token: bool) -> CheckResponse {
    let mut removed = forged(http);
    if removes_token {
        removed.push("authorization".to_owned());
    }
    let set = proxies::headers(judged);
    answer(
        tonic::Code::Ok,
        HttpResponse::OkResponse(OkHttpResponse {
            headers: set.map(|(name, value)| header(name, value)).to_vec(),
            headers_to_remove: removed,
        }),
    )
}

/// Headers of the request that look like ours and are not overwritten; also with `_` for `-`, which some
/// services take for the same.
fn forged(http: &HttpRequest) -> Vec<String> {
    let names = headers(http).map(|(name, _)| name.to_ascii_lowercase());
    let mut forged: Vec<_> = names
        .filter(|name| name.replace('_', "-").starts_with(VOUCHED))
        .filter(|name| !proxies::HEADERS.contains(&name.as_str()))
        .collect();
    forged.sort_unstable();
    forged.dedup();
    forged
}

fn denied(refusal: &Refusal) -> CheckResponse {
    let code = match refusal.code() {
        // The client is not the one whose request is wrong.
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
        refusal.status().code(),
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

/// Replaces what is there.
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
