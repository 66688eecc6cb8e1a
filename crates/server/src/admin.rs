//! The admin socket: probes, metrics and status over HTTP. It tells nothing secret, and accepts no commands.

mod attention;
mod status;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router, body::Body, extract::State, http::StatusCode, response::IntoResponse, routing::get,
};
use http::{HeaderMap, HeaderName, Request, header};
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tessera_authority::Authority;
use tessera_core::Timestamp;
use tokio::net::TcpListener;
use tower::ServiceExt;

use self::attention::why_not_ready;
use crate::{
    edge::{Edge, Metrics, Peer, TextFormat, TlsSeen},
    http::message,
    listen::{Serve, Serving, Socket, SocketLimits, Tls},
};

type Shared = (Arc<Authority>, Arc<Metrics>, Option<Tls>);

const IDLE_MAX: Duration = Duration::from_secs(90);

/// Bounds of the admin socket. Probes come one after the other.
const LIMITS: SocketLimits = SocketLimits {
    connections_max: 64,
    connections_per_address_max: 64,
    streams_per_connection_max: 16,
    connection_idle_max: IDLE_MAX,
    stranger_idle_max: IDLE_MAX,
    answer_time_max: Duration::from_secs(10),
};

/// Serves until it is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    tls: Option<Tls>,
) {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/server-keys", get(server_keys))
        .route("/metrics", get(metrics_text))
        .with_state((authority, metrics, tls));
    serve_router(listener, router).await;
}

/// Serves a router within the bounds of the admin socket, until it is dropped.
pub(crate) async fn serve_router(listener: TcpListener, router: Router) {
    let socket = Socket {
        listener,
        tls: None,
        limits: LIMITS,
        open: Gauge::default(),
    };
    socket.serve(Admin(router), std::future::pending()).await;
}

/// Serves the requests of one connection.
#[derive(Clone)]
struct Admin(Router);

impl Serve for Admin {
    type Body = Body;

    fn serve(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Serving<Body> {
        let router = self.0.clone();
        Box::pin(async move {
            let _exchange = peer.begin_exchange();
            if let Some((code, why)) = message::refusal(&request) {
                return Ok((code, format!("{why}\n")).into_response());
            }
            router.oneshot(request.map(Body::new)).await
        })
    }

    /// It answers before there is an authority that knows the time.
    fn now(&self) -> Option<Timestamp> {
        None
    }

    fn peer(&self, address: SocketAddr) -> Peer {
        Edge::peer(address)
    }
}

async fn readyz(State((authority, _, tls)): State<Shared>) -> (StatusCode, String) {
    match why_not_ready(&authority) {
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}; see the log\n"),
        ),
        None => (StatusCode::OK, ready(&authority, tls.as_ref())),
    }
}

/// Ready, with the warnings that an operator must know.
fn ready(authority: &Authority, tls: Option<&Tls>) -> String {
    let mut text = format!("ready\npolicy {}\n", authority.policies().policy_status().policy);
    for warning in attention::warnings(authority, tls) {
        text.push_str(&format!("warning: {}\n", warning.message));
    }
    text
}

/// One document with what an operator needs first: names, ids, counts and times.
async fn status(State((authority, _, tls)): State<Shared>) -> Json<Value> {
    Json(status::document(&authority, tls.as_ref()).await)
}

/// All metrics, in the requested format.
async fn metrics_text(
    State((authority, metrics, tls)): State<Shared>,
    headers: HeaderMap,
) -> ([(HeaderName, &'static str); 1], String) {
    let accept: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = TextFormat::accepted(Some(&accept.join(",")));
    let seen = tls.map(|tls| TlsSeen {
        expires_at: tls.expires_at(),
        is_last_change_refused: tls.is_last_change_refused(),
    });
    let text = metrics.to_text(&authority, seen, format).await;
    ([(header::CONTENT_TYPE, format.content_type())], text)
}

/// What each server key is needed for: ids, counts and times.
async fn server_keys(State((authority, _, _)): State<Shared>) -> Json<Value> {
    let status = authority.signing_keys().server_key_status();
    let previous = status.previous.iter().map(|key| {
        json!({
            "id": key.id,
            "signing_keys": key.signing_keys,
            "refresh_tokens_until": key.refresh_tokens_until.to_rfc3339(),
        })
    });
    Json(json!({
        "current": { "id": status.current, "signing_keys": status.signing_keys },
        "previous": previous.collect::<Vec<_>>(),
        "last_change_refused": status.is_last_change_refused,
    }))
}
