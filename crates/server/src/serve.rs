//! Serving until told to stop, and stopping without losing a caller.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tessera_authority::Authority;
use tessera_core::Timestamp;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tonic_health::ServingStatus;

use crate::{
    admin,
    edge::{AnswerBody, Edge, Handlers, Limits, Metrics, Peer, Traces},
    grpc::services::{Health, Services},
    http::{self as endpoints, HttpOptions},
    listen::{Serve, Serving, Socket, SocketLimits, Tls, UNFINISHED_MAX, descriptors},
};

/// How often readiness is checked.
const READINESS_INTERVAL: Duration = Duration::from_millis(250);

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub public: TcpListener,
    /// Metrics and probes over HTTP; `None`: not served.
    pub admin: Option<TcpListener>,
}

/// How to serve.
#[derive(Debug, Default)]
pub struct ServeOptions {
    /// Bounds.
    pub limits: Limits,
    /// TLS on the public socket; `None`: plaintext.
    pub tls: Option<Tls>,
    /// The HTTP endpoints.
    pub http: HttpOptions,
    /// How calls are traced; `None`: they are not.
    pub traces: Option<Traces>,
}

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server ended without a request to stop.
    #[error("the server ended unexpectedly: see the log")]
    Ended,
    /// The descriptors of the contract can't be served.
    #[error("gRPC reflection can't be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The store failed while serving: acknowledged changes are safe, and no more can be made.
    #[error("the store failed: restart after fixing what the log says")]
    StoreFailed,
}

/// Serves `authority` on bound listeners until `shutdown` is ready, then stops: health says NOT_SERVING, watchers are
/// told with their cursor, and running calls may finish until the drain time is over. Then the authority can be closed.
///
/// # Errors
/// See [`ServeError`]. A failed store also ends serving, after the same steps.
pub async fn serve(
    listeners: Listeners,
    authority: Arc<Authority>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let ServeOptions {
        limits,
        tls,
        http,
        traces,
    } = options;
    let edge = edge(&authority, tls.is_some(), &limits, traces);
    let metrics = Arc::clone(&edge.metrics);
    let health = Health::new(http.proxies);
    let service = Public::new(&edge, &health, &http)?;
    health.set(ServingStatus::Serving).await;

    let housekeeping_task = tokio::spawn(housekeeping(Arc::clone(&edge), health.clone()));
    let admin = listeners.admin.map(|listener| {
        tokio::spawn(admin::serve(
            listener,
            Arc::clone(&authority),
            Arc::clone(&metrics),
            tls.clone(),
        ))
    });

    let public = Socket {
        listener: listeners.public,
        tls,
        limits: socket_limits(&limits),
        open: metrics.connections().clone(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(public.serve(service, async {
        // A dropped sender means the same.
        let _ = stopped.await;
    }));
    let store_failed = tokio::select! {
        () = shutdown => false,
        () = store_failure(Arc::clone(&authority)) => true,
        _ = &mut serving => return Err(ServeError::Ended),
    };

    tracing::info!("stopping");
    health.set(ServingStatus::NotServing).await;
    authority.drain();
    let _ = stop.send(());
    finish(&mut serving, &edge, limits.drain_time_max).await;
    for task in [Some(housekeeping_task), admin].into_iter().flatten() {
        task.abort();
    }
    if store_failed {
        return Err(ServeError::StoreFailed);
    }
    Ok(())
}

/// The edge that every call passes, with its metrics.
fn edge(authority: &Arc<Authority>, has_tls: bool, limits: &Limits, traces: Option<Traces>) -> Arc<Edge> {
    let spans = traces.as_ref().map(|traces| &traces.counts);
    let metrics = Arc::new(Metrics::new(authority, has_tls, spans));
    Arc::new(Edge::new(Arc::clone(authority), metrics, limits, traces))
}

/// Lets running calls finish, and cuts them off if they take too long. Callers without a credential have less time:
/// otherwise any of them could decide how long a stop takes.
async fn finish(serving: &mut JoinHandle<()>, edge: &Edge, time_max: Duration) {
    let unfinished_max = UNFINISHED_MAX.min(time_max);
    if timeout(unfinished_max, &mut *serving).await.is_ok() {
        return;
    }
    edge.dismiss_strangers();
    if timeout(time_max.saturating_sub(unfinished_max), &mut *serving)
        .await
        .is_err()
    {
        tracing::warn!(after = ?time_max, "calls under way are cut off");
        serving.abort();
    }
}

/// The bounds of the public socket, as far as there are file descriptors for them.
fn socket_limits(limits: &Limits) -> SocketLimits {
    let fit = descriptors::connections_that_fit();
    if fit < limits.connections_max {
        tracing::warn!(
            connections_max = limits.connections_max,
            connections = fit,
            "the limit of open files allows fewer connections than configured"
        );
    }
    SocketLimits {
        connections_max: limits.connections_max.min(fit),
        connections_per_address_max: limits.connections_per_address_max,
        streams_per_connection_max: limits.streams_per_connection_max,
        connection_idle_max: limits.connection_idle_max,
        stranger_idle_max: limits.stranger_idle_max.min(limits.connection_idle_max),
        answer_time_max: limits.answer_time_max,
    }
}

/// Serves the requests of one connection of the public socket.
#[derive(Clone)]
struct Public {
    edge: Arc<Edge>,
    handlers: Arc<Handlers>,
}

impl Public {
    fn new(edge: &Arc<Edge>, health: &Health, http: &HttpOptions) -> Result<Self, ServeError> {
        let handlers = Handlers {
            grpc: Services::new(edge, health, http.proxies)?,
            http: endpoints::router(edge, http),
        };
        Ok(Self {
            edge: Arc::clone(edge),
            handlers: Arc::new(handlers),
        })
    }
}

impl Serve for Public {
    type Body = AnswerBody;

    fn serve(&self, peer: Arc<Peer>, request: http::Request<hyper::body::Incoming>) -> Serving<AnswerBody> {
        let (edge, handlers) = (Arc::clone(&self.edge), Arc::clone(&self.handlers));
        Box::pin(edge.serve(peer, handlers, request))
    }

    fn now(&self) -> Option<Timestamp> {
        Some(self.edge.authority.now())
    }

    fn peer(&self, address: SocketAddr) -> Peer {
        Edge::peer(address)
    }
}

/// Ready when the store takes no more writes, which is final.
async fn store_failure(authority: Arc<Authority>) {
    loop {
        tokio::time::sleep(READINESS_INTERVAL).await;
        if authority.is_over() {
            return;
        }
    }
}

fn tell_why_not_ready(authority: &Authority) {
    if authority.is_draining() {
        tracing::info!("not ready: the server stops");
        return;
    }
    let commit_waiting = authority.commit_waiting();
    tracing::error!(
        ?commit_waiting,
        "not ready: the store takes no writes, or a commit waits for the disk"
    );
}

/// Keeps health and periodic state up to date.
async fn housekeeping(edge: Arc<Edge>, health: Health) {
    let mut was_ready = true;
    loop {
        let is_ready = edge.authority.is_ready();
        edge.housekeeping();
        if was_ready && !is_ready {
            tell_why_not_ready(&edge.authority);
            health.set(ServingStatus::NotServing).await;
        } else if !was_ready && is_ready {
            tracing::warn!("ready again");
            health.set(ServingStatus::Serving).await;
        }
        was_ready = is_ready;
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
}
