//! The admin socket: probes and metrics over HTTP. It tells nothing secret, and takes no orders.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tessera_authority::{AttemptOutcome, Authority, PolicyStatus};
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

async fn readyz(State((authority, _)): State<Shared>) -> (StatusCode, String) {
    if authority.is_ready() {
        (
            StatusCode::OK,
            format!("ready\n{}", policy_lines(&authority.policy_status())),
        )
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the store failed, or the server is stopping; see the log\n".to_owned(),
        )
    }
}

/// The policy in force, and what an operator must know of it. A refused change is no reason not to serve.
fn policy_lines(status: &PolicyStatus) -> String {
    let mut lines = format!("policy {}\n", status.policy);
    if let AttemptOutcome::Refused { problem, .. } = &status.last_attempt.outcome {
        let first = problem.lines().next().unwrap_or_default();
        lines.push_str(&format!(
            "warning: the last change of policy was refused, this one stays: {first}\n"
        ));
    }
    if !status.is_settled {
        lines.push_str("warning: not every live session has felt the policy\n");
    }
    if !status.is_compiled {
        lines.push_str("warning: casbin itself answers, which is slow: the model is not the compiled one\n");
    }
    lines
}
