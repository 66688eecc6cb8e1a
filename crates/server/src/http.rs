//! The HTTP endpoints, on the same port as gRPC: thin, as each calls the same use case as an RPC.
//!
//! Every failure is the status that the RPC would give, told in the words of the endpoint: as a problem
//! (RFC 9457) or as an error of OAuth 2.0 (RFC 6749 §5.2).

use std::{error::Error as _, sync::Arc};

use axum::{
    Extension, Router,
    body::{Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use tonic::Code;
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use crate::{
    edge::{BodyError, Edge, Exchange, exchange},
    error::ApiError,
    grpc::status,
};

mod forward_auth;
mod login;
mod metadata;
mod oauth;
mod openapi;
mod problem;

pub(crate) use problem::Problem;

/// Where the endpoints are.
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
    /// Whether proxies may ask, at `/forward-auth` and over Envoy's `ext_authz`.
    pub proxies: bool,
    /// Where clients reach the endpoints, such as `https://auth.example.org/tessera`. None: at the origin of the
    /// realm's issuer, where that is a URL.
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

/// All that a endpoint sees of a request.
struct HttpRequest {
    edge: Arc<Edge>,
    exchange: Arc<Exchange>,
    headers: HeaderMap,
    body: Bytes,
}

/// The gRPC routes with the endpoints beside them.
pub(crate) fn beside(grpc: Router, edge: &Arc<Edge>, options: &HttpOptions) -> Router {
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
    let endpoints = endpoints
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(edge))
        .layer(cors(options))
        .merge(asked_by_proxies(edge, options))
        .fallback(not_found)
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid));
    endpoints.merge(grpc.reset_fallback())
}

/// Without the layer for CORS: it answers OPTIONS by itself, which a proxy that asks with the method of its client
/// would take for a yes.
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

/// What the video company's clients send from a browser, for configured origins only.
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
            // Of a page that traces its calls (W3C Trace Context).
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
        ])
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
        ])
}

async fn not_found(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return status::no_such_method();
    }
    Problem::plain(StatusCode::NOT_FOUND, "there is nothing at this path").into_response()
}

/// The answer to a method other than POST, at the path of an RPC.
pub(crate) fn not_post() -> Response {
    let detail = "this is the path of a gRPC method, which is called with POST";
    let mut response = Problem::plain(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The answer to a request that is not gRPC, at the path of an RPC.
pub(crate) fn not_grpc() -> Response {
    let detail = "this is the path of a gRPC method: send `content-type: application/grpc`";
    Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into_response()
}

/// A refusal in the words of the endpoint at `path`.
pub(crate) fn refused(path: &str, error: &ApiError) -> Response {
    if path.starts_with("/oauth2/") {
        return oauth::refused(error);
    }
    Problem::of(error).into_response()
}

async fn method_not_allowed() -> Response {
    Problem::plain(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path is called with another method",
    )
    .into_response()
}

/// Whether a request is gRPC with Protocol Buffers: `application/grpc`, or `application/grpc+proto`.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    let kind = kind.unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// What the type of a body says of its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// UTF-8; or nothing, as nothing else is read.
    Utf8,
    /// One of which the first 128 characters are ASCII.
    LikeAscii,
    Other,
}

impl Charset {
    fn of(headers: &HeaderMap) -> Self {
        let types = headers.get_all(header::CONTENT_TYPE).iter();
        let parameters = types.flat_map(|value| value.as_bytes().split(|byte| *byte == b';').skip(1));
        let mut charsets = parameters.filter_map(|parameter| {
            let mut halves = parameter.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
            let (name, value) = (halves.next()?, halves.next()?);
            name.eq_ignore_ascii_case(b"charset").then(|| Self::named(value))
        });
        match (charsets.next(), charsets.next()) {
            (None, _) => Self::Utf8,
            (Some(only), None) => only,
            (Some(first), Some(second)) if first == second => first,
            _ => Self::Other,
        }
    }

    fn named(value: &[u8]) -> Self {
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        let name = String::from_utf8_lossy(value).to_ascii_lowercase();
        match name.as_str() {
            "utf-8" | "utf8" => Self::Utf8,
            "us-ascii" | "ascii" | "latin1" => Self::LikeAscii,
            name if name.starts_with("iso-8859-") || name.starts_with("windows-125") => Self::LikeAscii,
            _ => Self::Other,
        }
    }

    /// Whether a body of these characters means the same as UTF-8.
    fn is_utf8(self, body: &[u8]) -> bool {
        match self {
            Self::Utf8 => true,
            Self::LikeAscii => body.is_ascii(),
            Self::Other => false,
        }
    }
}

impl HttpRequest {
    /// Reads a request. Secrets do not belong into a query, which is written to logs on the way.
    ///
    /// # Errors
    /// A reason to refuse it unread.
    async fn read(edge: Arc<Edge>, request: Request) -> Result<Self, Unread> {
        if request.uri().query().is_some_and(|query| !query.is_empty()) {
            return Err(Unread::Query);
        }
        let charset = Charset::of(request.headers());
        if charset == Charset::Other {
            return Err(Unread::Charset);
        }
        let exchange = exchange(request.extensions()).map_err(|_| Unread::Broken)?;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, exchange.route.message_bytes_max).await;
        let body = body.map_err(|error| Unread::of(&error))?;
        if !charset.is_utf8(&body) {
            return Err(Unread::Charset);
        }
        Ok(Self {
            edge,
            exchange,
            headers: parts.headers,
            body,
        })
    }
}

/// Why a request was refused before its content was looked at.
#[derive(Clone, Copy, Debug)]
enum Unread {
    Query,
    Charset,
    Broken,
    TooLarge,
    TooSlow,
    TooMany,
}

impl Unread {
    /// Why a body could not be read.
    fn of(error: &axum::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            match error.downcast_ref::<BodyError>() {
                Some(BodyError::Refused(error)) => return Self::of_refusal(error),
                Some(BodyError::Broken(_)) => return Self::Broken,
                None => {}
            }
            cause = error.source();
        }
        Self::TooLarge
    }

    fn of_refusal(error: &ApiError) -> Self {
        match error.code() {
            Code::DeadlineExceeded => Self::TooSlow,
            Code::Unavailable => Self::TooMany,
            _ => Self::Broken,
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Self::Query | Self::Charset | Self::Broken => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Query => "nothing is taken from the query string: send it in the body",
            Self::Charset => "the body must be UTF-8, and its type must not say otherwise",
            Self::Broken => "the body is broken off",
            Self::TooLarge => "the body is longer than 64 KiB",
            Self::TooSlow => "the body did not come in time",
            Self::TooMany => "too many requests are under way: try again",
        }
    }
}
