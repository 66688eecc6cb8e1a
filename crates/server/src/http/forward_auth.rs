//! `GET /forward-auth`, which nginx, Traefik and Caddy ask before they let a request through.
//!
//! What the route needs comes in the query, which the proxy's configuration writes and which holds no
//! secret. Of the request itself only `authorization` is read: who calls may write the other headers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tessera_authority::Judged;
use tonic::Status;

use super::problem::Problem;
use crate::{
    edge::{Edge, exchange},
    proxies::{self, Refusal, Said},
};

/// What the query may have. A parameter that is not known is refused: as a misspelt `scope`, passed over,
/// it would open the route to every token, and as `access_token` it would be a secret in a log.
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
        ("scope" = Option<String>, Query, description = "Scopes that the token must have, separated by spaces; without it any good token"),
        ("audience" = Option<String>, Query, description = "The audience that it must be for"),
        ("realm" = Option<String>, Query, description = "The realm that it must be of"),
    ),
    // What the route says is looked at first: a mistake there is told whoever asks.
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
    let said = said(request.uri().query().unwrap_or_default());
    let token = proxies::bearer_in(request.headers());
    let exchange = match exchange(request.extensions()) {
        Ok(exchange) => exchange,
        Err(status) => return refused(&Refusal::Unsure(status)),
    };
    match proxies::judge(&edge, &exchange, said, token).await {
        Ok(judged) => allowed(&judged).unwrap_or_else(|refusal| refused(&refusal)),
        Err(refusal) => refused(&refusal),
    }
}

fn said(query: &str) -> Result<Said, Refusal> {
    // The error would quote the name of a parameter, which may be a secret that was put there.
    let query: Query = serde_urlencoded::from_str(query).map_err(|_| {
        Refusal::misconfigured("query", &"may have `scope`, `audience` and `realm`, each once")
    })?;
    let any = Said::any();
    Ok(Said {
        scope: query.scope.unwrap_or(any.scope),
        audience: query.audience,
        realm: query.realm,
    })
}

fn allowed(judged: &Judged) -> Result<Response, Refusal> {
    let mut response = StatusCode::OK.into_response();
    no_store(&mut response);
    for (name, value) in proxies::headers(judged) {
        let value = HeaderValue::from_str(&value)
            .map_err(|_| Refusal::Unsure(Status::internal("a name can't be sent in a header")))?;
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

/// A cache that answers for the authority would not know of a revocation.
fn no_store(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
