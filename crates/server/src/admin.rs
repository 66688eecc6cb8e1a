//! The admin socket: probes and metrics over HTTP. It tells nothing secret, and takes no orders.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, body::Body, extract::State, http::StatusCode, routing::get};
use http::{Request, header};
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tessera_authority::{AttemptOutcome, Authority, PolicyStatus};
use tessera_core::{Seconds, Timestamp};
use tessera_policy::Diagnostic;
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::{
    edge::{Edge, Metrics, Peer},
    listen::{Serve, Serving, Socket, SocketLimits, Tls},
};

type Shared = (Arc<Authority>, Arc<Metrics>, Option<Tls>);

/// The type of what `/metrics` answers with.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const IDLE_MAX: Duration = Duration::from_secs(90);
/// How long before a certificate expires `/readyz` warns of it: what is renewed on time has more left.
const EXPIRES_SOON: Seconds = Seconds::days(7);

/// Bounds of the admin socket. Those who probe come one after the other.
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
        .route("/server-keys", get(server_keys))
        .route(
            "/metrics",
            get(|State((_, metrics, _)): State<Shared>| async move {
                ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.to_text())
            }),
        )
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
    if !authority.is_ready() {
        let why = format!("not ready: {}; see the log\n", why_not_ready(&authority));
        return (StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let (policy, clock) = (policy_lines(&authority.policy_status()), clock_line(&authority));
    let sinks = sink_lines(&authority);
    let tls = tls
        .map(|tls| tls_lines(&tls, authority.now()))
        .unwrap_or_default();
    let keys = server_key_line(&authority);
    (
        StatusCode::OK,
        format!("ready\n{policy}{clock}{tls}{sinks}{keys}"),
    )
}

/// What each server key is needed for: ids, counts and times.
async fn server_keys(State((authority, _, _)): State<Shared>) -> Json<Value> {
    let status = authority.server_key_status();
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

/// What an operator must know of the server keys.
fn server_key_line(authority: &Authority) -> &'static str {
    if authority.server_key_status().is_last_change_refused {
        return "warning: the server keys of [keys] have changed and can't be used, those of before stay; see the log\n";
    }
    ""
}

fn why_not_ready(authority: &Authority) -> String {
    if !authority.takes_writes() {
        return "the store failed, or is closed".to_owned();
    }
    if authority.was_rolled_back() {
        return "the data directory is older than what it gave: stop, and run `tessera restore`".to_owned();
    }
    match authority.commit_waiting().as_secs() {
        0 => "the server is stopping".to_owned(),
        seconds => format!("a commit has waited for the disk for {seconds} s, or the server is stopping"),
    }
}

/// Where the first finding is, and of which kind. Whoever asks may not read the files, so nothing out of them.
fn places(diagnostics: &[Diagnostic]) -> String {
    let Some(first) = diagnostics.first() else {
        return "see the log".to_owned();
    };
    let Diagnostic {
        code,
        file,
        line,
        column,
        ..
    } = first;
    match diagnostics.len() - 1 {
        0 => format!("{code} at {file}:{line}:{column}"),
        more => format!("{code} at {file}:{line}:{column}, and {more} more"),
    }
}

/// The sinks of the audit trail that take nothing.
fn sink_lines(authority: &Authority) -> String {
    let failing = authority.audit_sinks().into_iter();
    let lines = failing.filter_map(|sink| {
        let since = sink.failing_since?.to_rfc3339();
        let (name, after) = (sink.name, sink.position);
        Some(format!("warning: audit records after {after} can't be delivered to sink {name} since {since}; see the log\n"))
    });
    lines.collect()
}

/// What an operator must know of the machine's clock.
fn clock_line(authority: &Authority) -> String {
    let state = authority.clock_state();
    if !state.is_stepped {
        return String::new();
    }
    format!(
        "warning: the machine's clock stepped by {} s; nothing is removed until it is right, or believed\n",
        state.offset_millis / 1000
    )
}

/// What an operator must know of the certificate. Nobody is served better by an authority that is not ready.
fn tls_lines(tls: &Tls, now: Timestamp) -> String {
    let mut lines = String::new();
    if tls.is_last_change_refused() {
        lines.push_str(
            "warning: the files of [server.tls] have changed and can't be used, the certificate before stays; see the log\n",
        );
    }
    if let Some(expires_at) = tls.expires_at().filter(|at| *at < now.plus(EXPIRES_SOON)) {
        let when = expires_at.to_rfc3339();
        lines.push_str(&format!(
            "warning: the certificate of [server.tls] expires at {when}\n"
        ));
    }
    lines
}

/// The policy in force, and what an operator must know of it. A refused change is no reason not to serve.
fn policy_lines(status: &PolicyStatus) -> String {
    let mut lines = format!("policy {}\n", status.policy);
    if let AttemptOutcome::Refused { diagnostics, .. } = &status.last_attempt.outcome {
        lines.push_str(&format!(
            "warning: the last change of policy was refused, this one stays: {}\n",
            places(diagnostics)
        ));
    }
    if !status.is_reconciled {
        lines.push_str("warning: not every live session is updated to the policy\n");
    }
    if !status.is_compiled {
        lines.push_str("warning: casbin itself answers, which is slow: the model is not the compiled one\n");
    }
    lines
}
