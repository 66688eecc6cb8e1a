//! The HTTP endpoints, on the same port as gRPC: thin, as each calls the same use case as an RPC.
//!
//! Every failure is the one that the RPC would give, in the format of the endpoint: a problem (RFC 9457) or an error of
//! OAuth 2.0 (RFC 6749 §5.2).

use std::sync::Arc;

use axum::{
    Extension, Router,
    http::{HeaderName, HeaderValue, Method, header},
    routing::{any, get, post},
};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use self::refusal::{method_not_allowed, not_found};
use crate::edge::Edge;

mod forward_auth;
mod login;
pub(crate) mod message;
mod metadata;
mod oauth;
mod openapi;
pub(crate) mod problem;
pub(crate) mod refusal;
mod request;

/// The paths of the endpoints.
pub(crate) const PATHS: [&str; 9] = [
    "/auth/api-key",
    "/auth/refresh",
    "/oauth2/token",
    "/oauth2/introspect",
    "/oauth2/revoke",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-authorization-server/{*issuer}",
    "/keys",
    "/openapi.json",
];

/// How the endpoints are served.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Origins whose pages may call from a browser (`https://app.example.org`).
    pub cors_origins: Vec<HeaderValue>,
    /// Whether proxies may call, at `/forward-auth` and over Envoy's `ext_authz`.
    pub proxies: bool,
    /// Where clients reach the endpoints, such as `https://auth.example.org/tessera`. `None`: at the origin of the
    /// realm's issuer, if that is a URL.
    pub public_url: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            proxies: true,
            public_url: None,
        }
    }
}

/// The endpoints.
pub(crate) fn router(edge: &Arc<Edge>, options: &HttpOptions) -> Router {
    let id = HeaderName::from_static("x-request-id");
    let [
        api_key,
        refresh,
        token,
        introspect,
        revoke,
        first_issuer,
        issuer,
        keys,
        description,
    ] = PATHS;
    let mut endpoints = Router::new()
        .route(api_key, post(login::api_key))
        .route(refresh, post(login::refresh))
        .route(token, post(oauth::token))
        .route(introspect, post(oauth::introspect))
        .route(revoke, post(oauth::revoke))
        .route(first_issuer, get(metadata::first_issuer))
        .route(issuer, get(metadata::issuer))
        .route(keys, get(metadata::keys))
        .route(description, get(openapi::description));
    if let Some(url) = &options.public_url {
        endpoints = endpoints.layer(Extension(metadata::PublicUrl(url.clone())));
    }
    endpoints
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(edge))
        .layer(cors(options))
        .merge(asked_by_proxies(edge, options))
        .fallback(not_found)
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
}

/// Without the layer for CORS: it answers OPTIONS by itself. A proxy that calls with the method of its client would
/// treat that answer as permission.
fn asked_by_proxies(edge: &Arc<Edge>, options: &HttpOptions) -> Router {
    if !options.proxies {
        return Router::new();
    }
    Router::new()
        .route(forward_auth::PATH, get(forward_auth::ask))
        .route("/forward-auth/", any(forward_auth::ask_by_path))
        .route("/forward-auth/{*path}", any(forward_auth::ask_by_path))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(edge))
}

/// The requests that the video company's clients send from a browser, for configured origins only.
fn cors(options: &HttpOptions) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(options.cors_origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_RANGE,
            HeaderName::from_static("av-origin-client"),
            HeaderName::from_static("av-origin-app"),
            HeaderName::from_static("av-origin-sdk"),
            HeaderName::from_static("x-request-id"),
            // From a page that traces its calls (W3C Trace Context).
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
        ])
}
