//! `/forward-auth`, which proxies call before they let a request through.
//!
//! `GET /forward-auth` is for nginx, Traefik and Caddy. The requirement of the route is in the query, which the proxy's
//! configuration writes and which holds no secret. Or the proxy sends headers that say which path was called, and the
//! policy's `routes.toml` says what it needs. Envoy's HTTP ext_authz appends the path that was called, with its query
//! and its method: the policy alone decides on these, as the client wrote them.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tessera_policy::Call;

use super::problem::Problem;
use crate::{
    edge::{Edge, authorization_in, exchange},
    error::ApiError,
    proxies::{self, Passed, Question, Refusal, Stated, Unstated},
};

/// The path; a proxy may append the path that its client called.
pub(super) const PATH: &str = "/forward-auth";

/// The parameters of the query. An unknown parameter is refused: if it were ignored, a misspelt `scope` would open the
/// route to every token, and `access_token` would be a secret in a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    scope: Option<String>,
    audience: Option<String>,
    realm: Option<String>,
}

#[utoipa::path(
    get,
    path = "/forward-auth",
    params(
        ("scope" = Option<String>, Query, description = "Scopes that the token must have, separated by spaces, or `any` for any good token; without it what the policy's `routes.toml` says of the path in `X-Forwarded-Uri` or `X-Original-URI`, and where the policy has no such file any good token"),
        ("audience" = Option<String>, Query, description = "The audience that it must be for"),
        ("realm" = Option<String>, Query, description = "The realm that it must be of"),
        ("X-Forwarded-Uri" = Option<String>, Header, description = "The path that was called; or `X-Original-URI`, or with its host `X-Original-URL`"),
        ("X-Forwarded-Method" = Option<String>, Header, description = "Its method; or `X-Original-Method`"),
        ("X-Forwarded-Host" = Option<String>, Header, description = "The host that was called"),
    ),
    // The route's configuration is checked first: any caller is told of a mistake there.
    security((), ("bearer" = [])),
    responses(
        (status = 200, description = "Good: `x-tessera-subject`, `-client`, `-scopes`, `-realm` say whose it is"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ask(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let stated = written_by_the_proxy(query, &parts.headers).and_then(stated_in);
    let question = stated.map(|stated| Question {
        stated,
        call: described(&parts.headers),
        unsaid: Unstated::AnyToken,
    });
    answer(&edge, &parts, question).await
}

#[utoipa::path(
    method(get, head, post, put, patch, delete, options, trace),
    path = "/forward-auth/{path}",
    params(("path" = String, Path, description = "The path that was called, with its slashes and its query")),
    security((), ("bearer" = [])),
    responses(
        (status = 200, description = "Good, as at `/forward-auth`; without the headers where the route is open"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ask_by_path(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let (parts, _body) = request.into_parts();
    let call = host(&parts).map(|host| {
        Some(Call {
            host,
            method: Some(parts.method.as_str()),
            target: parts.uri.path().strip_prefix(PATH).unwrap_or_default(),
        })
    });
    let question = Question {
        // The client wrote the query.
        stated: Stated::default(),
        call,
        unsaid: Unstated::Closed,
    };
    answer(&edge, &parts, Ok(question)).await
}

async fn answer(edge: &Edge, parts: &Parts, question: Result<Question<'_>, Refusal>) -> Response {
    let token = proxies::bearer(authorization_in(&parts.headers));
    let exchange = match exchange(&parts.extensions) {
        Ok(exchange) => exchange,
        Err(error) => return refused(&Refusal::Indeterminate(error)),
    };
    match proxies::check(edge, &exchange, question, token).await {
        Ok(passed) => allowed(&passed).unwrap_or_else(|refusal| refused(&refusal)),
        Err(refusal) => refused(&refusal),
    }
}

/// The query, if the client did not write it: Caddy passes on the client's query if its configuration has none, and a
/// client could choose the required scope.
fn written_by_the_proxy<'a>(query: &'a str, headers: &HeaderMap) -> Result<&'a str, Refusal> {
    let called = ["x-forwarded-uri", "x-original-uri", "x-original-url"];
    let called = called.iter().flat_map(|name| headers.get_all(*name));
    let mut of_clients = called.filter_map(|uri| {
        let position = uri.as_bytes().iter().position(|byte| *byte == b'?')?;
        uri.as_bytes().get(position + 1..)
    });
    if !query.is_empty() && of_clients.any(|of_client| of_client == query.as_bytes()) {
        let problem = "is the one of the client: let the proxy ask with its own, or with none (Caddy: `uri /forward-auth?`)";
        return Err(Refusal::misconfigured("query", &problem));
    }
    Ok(query)
}

fn stated_in(query: &str) -> Result<Stated, Refusal> {
    // The error would quote the name of a parameter, which may be a secret in the wrong position.
    let query: Query = serde_urlencoded::from_str(query).map_err(|_| {
        Refusal::misconfigured("query", &"may have `scope`, `audience` and `realm`, each once")
    })?;
    Ok(Stated {
        scope: query.scope,
        audience: query.audience,
        realm: query.realm,
    })
}

/// The request as the proxy's headers describe it: `X-Forwarded-…` of Caddy and Traefik, `X-Original-…` as is usual
/// with nginx, and `X-Original-URL` of the Ingress controller of Kubernetes. `None`: they contain no path.
fn described(headers: &HeaderMap) -> Result<Option<Call<'_>>, Refusal> {
    let url = one_of(headers, &["x-original-url"])?.map(split).transpose()?;
    let target = one_of(headers, &["x-forwarded-uri", "x-original-uri"])?;
    let method = one_of(headers, &["x-forwarded-method", "x-original-method"])?;
    let host = one_of(headers, &["x-forwarded-host"])?;
    let (url_host, url_target) = url.unzip();
    let target = agreed(
        "X-Original-URL and X-Forwarded-Uri or X-Original-URI",
        target,
        url_target,
    )?;
    let host = agreed("X-Original-URL and X-Forwarded-Host", host, url_host)?;
    Ok(target.map(|target| Call { host, method, target }))
}

/// The host of a URL, and its path with the query.
fn split(url: &str) -> Result<(&str, &str), Refusal> {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let wrong = || Refusal::misconfigured("X-Original-URL", &"is not a URL such as https://example.org/path");
    let rest = rest.ok_or_else(wrong)?;
    let path = rest.find('/').ok_or_else(wrong)?;
    Ok(rest.split_at(path))
}

/// One value that two headers state.
fn agreed<'a>(names: &str, one: Option<&'a str>, other: Option<&'a str>) -> Result<Option<&'a str>, Refusal> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(Refusal::misconfigured(
            names,
            &"differ: the proxy must set or remove each of them",
        )),
        (one, other) => Ok(one.or(other)),
    }
}

/// The value of these headers. If two differ, the proxy has set one, and its client the other.
fn one_of<'a>(headers: &'a HeaderMap, names: &[&str]) -> Result<Option<&'a str>, Refusal> {
    let mut values = names.iter().flat_map(|name| headers.get_all(*name));
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|value| value != first) {
        let problem = "differ: the proxy must set or remove each of them";
        return Err(Refusal::misconfigured(&names.join(" and "), &problem));
    }
    let text = std::str::from_utf8(first.as_bytes());
    let text = text.map_err(|_| Refusal::misconfigured(&names.join(" or "), &"is not UTF-8"))?;
    Ok(Some(text))
}

/// The host of a request: of its target with HTTP/2, otherwise of its only `Host` header.
fn host(parts: &Parts) -> Result<Option<&str>, Refusal> {
    if let Some(authority) = parts.uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    one_of(&parts.headers, &["host"])
}

fn allowed(passed: &Passed) -> Result<Response, Refusal> {
    let mut response = StatusCode::OK.into_response();
    no_store(&mut response);
    // The answer does not identify the caller of an open route.
    let Passed::As(checked) = passed else {
        return Ok(response);
    };
    for (name, value) in proxies::headers(checked) {
        let value = HeaderValue::from_str(&value)
            .map_err(|_| Refusal::Indeterminate(ApiError::internal("a name can't be sent in a header")))?;
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
    Ok(response)
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = refusal.problem(refusal.code()).into_response();
    no_store(&mut response);
    for (name, value) in refusal.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A cached answer would ignore a later revocation.
fn no_store(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
