//! The admin socket: probes and metrics over HTTP. It tells nothing secret, and takes no orders.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tessera_authority::Authority;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

type Shared = (Arc<Authority>, Arc<Metrics>);

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, authority: Arc<Authority>, metrics: Arc<Metrics>) {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State((_, metrics)): State<Shared>| async move { metrics.to_text() }),
        )
        .with_state((authority, metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin socket failed");
    }
}

async fn readyz(State((authority, _)): State<Shared>) -> (StatusCode, &'static str) {
    if authority.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the store failed, or the server is stopping; see the log\n",
        )
    }
}
