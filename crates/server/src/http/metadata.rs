//! Discovery for clients: the authority's metadata (RFC 8414), and its keys.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tessera_authority::PublishedKey;
use tessera_core::{KeyStatus, Realm, RealmKind};

use super::problem::Problem;
use crate::edge::Edge;

/// The metadata of the production realm, or of the only one.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    responses(
        (status = 200, body = Object),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn first_issuer(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    let realms = edge.authority.realms();
    let first = realms
        .values()
        .find(|realm| realm.kind == RealmKind::Production)
        .or_else(|| realms.values().next());
    match first {
        Some(realm) => described(&edge, realm, &request),
        None => Problem::plain(StatusCode::NOT_FOUND, "there is no realm").into_response(),
    }
}

/// The metadata of the realm whose issuer has this path (RFC 8414 §3.1), or whose name it is.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server/{issuer}",
    params(("issuer" = String, Path, description = "The path of the realm's issuer, or its name")),
    responses(
        (status = 200, body = Object),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn issuer(
    State(edge): State<Arc<Edge>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that is not text belongs to no issuer.
    let named = path.ok().and_then(|Path(path)| {
        edge.authority.realms().values().find(|realm| {
            realm.name.as_str() == path || split(&realm.issuer).is_some_and(|(_, after)| after == path)
        })
    });
    match named {
        Some(realm) => described(&edge, realm, &request),
        None => Problem::plain(StatusCode::NOT_FOUND, "no realm has this issuer").into_response(),
    }
}

/// The verifying keys of all realms, for clients that do not use gRPC.
#[utoipa::path(get, path = "/keys", responses((status = 200, body = Object)))]
pub(super) async fn keys(State(edge): State<Arc<Edge>>) -> Response {
    let keys: Vec<_> = edge
        .authority
        .signing_keys()
        .published_keys(None)
        .iter()
        .map(key)
        .collect();
    let max_age = edge
        .authority
        .signing_keys()
        .key_rotation()
        .copies_may_be_kept()
        .0;
    let cache = [(header::CACHE_CONTROL, format!("public, max-age={max_age}"))];
    (cache, Json(json!({ "keys": keys }))).into_response()
}

/// The metadata of a realm, if the public address of the endpoints is known.
fn described(edge: &Edge, realm: &Realm, request: &Request) -> Response {
    let public = request.extensions().get::<PublicUrl>();
    let origin = || split(&realm.issuer).map(|(origin, _)| origin);
    // Never from the request: a caller could choose where other clients send their API keys.
    let base = public.map(|PublicUrl(url)| url.as_str()).or_else(origin);
    match base {
        Some(base) => Json(metadata(edge, realm, base.trim_end_matches('/'))).into_response(),
        None => Problem::plain(
            StatusCode::NOT_FOUND,
            "the realm's issuer is no URL, and no public URL is configured ([server] public_url)",
        )
        .into_response(),
    }
}

/// The configured public address of the endpoints; in the extensions of requests.
#[derive(Clone)]
pub(super) struct PublicUrl(pub(super) String);

fn metadata(edge: &Edge, realm: &Realm, base: &str) -> Value {
    let policy = edge.authority.policy();
    // Of a scope with a parameter, only those with a value can be requested.
    let scopes: Vec<_> = policy
        .catalogue()
        .scopes()
        .filter(|scope| !scope.contains('{'))
        .collect();
    let methods = ["client_secret_basic", "client_secret_post"];
    // RFC 8414 §3.2 requires that an empty list is left out: that of response types, as there is no authorization
    // endpoint.
    json!({
        "issuer": realm.issuer,
        "token_endpoint": format!("{base}/oauth2/token"),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "scopes_supported": scopes,
        "service_documentation": format!("{base}/openapi.json"),
    })
}

/// `https://host:port` and the path without its first slash.
fn split(issuer: &str) -> Option<(&str, &str)> {
    let start = ["https://", "http://"]
        .iter()
        .find(|scheme| issuer.starts_with(**scheme))?;
    let rest = issuer.get(start.len()..)?;
    match rest.find('/') {
        Some(slash) => Some((
            issuer.get(..start.len() + slash)?,
            rest.get(slash + 1..)?.trim_end_matches('/'),
        )),
        None => Some((issuer, "")),
    }
}

fn key(key: &PublishedKey) -> Value {
    let status = match key.status {
        KeyStatus::Published => "published",
        KeyStatus::Active => "active",
        KeyStatus::Retired => "retired",
        KeyStatus::Revoked => "revoked",
    };
    json!({
        "kid": key.id.to_string(),
        "key": key.paserk,
        "realm": key.realm.as_str(),
        "issuer": key.issuer,
        "status": status,
        "not_before": key.not_before.as_seconds(),
        "not_after": key.not_after.map(tessera_core::Timestamp::as_seconds),
    })
}
