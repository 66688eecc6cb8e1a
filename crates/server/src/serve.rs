//! Serving until told to stop, and stopping without losing anybody.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tessera_authority::Authority;
use tessera_core::Timestamp;
use tessera_proto::{
    FILE_DESCRIPTOR_SET, UPSTREAM_DESCRIPTOR_SET,
    framed::revocation_service_server::RevocationServiceServer,
    upstream::envoy::service::auth::v3::authorization_server::AuthorizationServer,
    v1::{
        api_key_service_server::ApiKeyServiceServer, key_service_server::KeyServiceServer,
        policy_service_server::PolicyServiceServer, session_service_server::SessionServiceServer,
        signing_key_service_server::SigningKeyServiceServer, token_service_server::TokenServiceServer,
    },
};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{server::NamedService, service::Routes};
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};

use crate::{
    admin,
    edge::{AnswerBody, Edge, Peer},
    http::{self as endpoints, HttpOptions},
    limits::Limits,
    listen::{Serve, Serving, Socket, SocketLimits, descriptors},
    metrics::Metrics,
    service::{
        ApiKeys, ExternalAuthorization, Healths, Keys, Policies, Revocations, Sessions, SigningKeys, Tokens,
    },
    tls::Tls,
};

/// How often readiness is looked at.
const READINESS_INTERVAL: Duration = Duration::from_millis(250);

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub public: TcpListener,
    /// Metrics and probes over HTTP; none: nowhere.
    pub admin: Option<TcpListener>,
}

/// How to serve.
#[derive(Debug, Default)]
pub struct ServeOptions {
    /// Bounds.
    pub limits: Limits,
    /// TLS on the public socket; none: plaintext.
    pub tls: Option<Tls>,
    /// The HTTP endpoints.
    pub http: HttpOptions,
}

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server ended although nobody asked it to.
    #[error("the server ended unexpectedly: see the log")]
    Ended,
    /// The descriptors of the contract can't be served.
    #[error("gRPC reflection can't be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The store failed while serving: what was acknowledged is safe, and nothing more can be.
    #[error("the store failed: restart after fixing what the log says")]
    StoreFailed,
}

/// Serves `authority` on bound listeners until `shutdown` is ready, then stops: health says NOT_SERVING,
/// watchers are told with their cursor, and calls under way may finish until the drain time is over. Then the
/// authority can be closed.
///
/// # Errors
/// See [`ServeError`]. A store that fails ends serving too, after the same steps.
pub async fn serve(
    listeners: Listeners,
    authority: Arc<Authority>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let ServeOptions { limits, tls, http } = options;
    let metrics = Arc::new(Metrics::new());
    let edge = Arc::new(Edge::new(Arc::clone(&authority), Arc::clone(&metrics), &limits));
    let health = HealthReporter::new();
    let health_service = HealthServer::new(Healths::of(&health));
    let grpc = routes(&edge, http.proxies)?.add_service(health_service);
    let router = endpoints::beside(grpc.into_axum_router(), &edge, &http);
    let health = Health::new(health, http.proxies);
    health.set(ServingStatus::Serving).await;

    let housekeeping_task = tokio::spawn(housekeeping(Arc::clone(&edge), health.clone()));
    let admin = listeners.admin.map(|listener| {
        tokio::spawn(admin::serve(
            listener,
            Arc::clone(&authority),
            Arc::clone(&metrics),
        ))
    });

    let public = Socket {
        listener: listeners.public,
        tls,
        limits: socket_limits(&limits),
        open: metrics.connections().clone(),
    };
    let service = Public {
        edge: Arc::clone(&edge),
        router,
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
    if tokio::time::timeout(limits.drain_time_max, &mut serving)
        .await
        .is_err()
    {
        tracing::warn!(after = ?limits.drain_time_max, "calls under way are cut off");
        serving.abort();
    }
    for task in [Some(housekeeping_task), admin].into_iter().flatten() {
        task.abort();
    }
    if store_failed {
        return Err(ServeError::StoreFailed);
    }
    Ok(())
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
    router: axum::Router,
}

impl Serve for Public {
    type Body = AnswerBody;

    fn serve(&self, peer: Arc<Peer>, request: http::Request<hyper::body::Incoming>) -> Serving<AnswerBody> {
        Box::pin(Arc::clone(&self.edge).serve(peer, self.router.clone(), request))
    }

    fn now(&self) -> Option<Timestamp> {
        Some(self.edge.authority.now())
    }

    fn peer(&self, address: SocketAddr) -> Peer {
        Edge::peer(address)
    }
}

fn routes(edge: &Arc<Edge>, proxies: bool) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure();
        let builder = if proxies {
            builder.register_encoded_file_descriptor_set(UPSTREAM_DESCRIPTOR_SET)
        } else {
            builder
        };
        builder
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that reflecting clients can read the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let tokens = TokenServiceServer::new(Tokens(Arc::clone(edge)));
    let revocations = RevocationServiceServer::new(Revocations(Arc::clone(edge)));
    let keys = KeyServiceServer::new(Keys(Arc::clone(edge)));
    let api_keys = ApiKeyServiceServer::new(ApiKeys(Arc::clone(edge)));
    let policies = PolicyServiceServer::new(Policies(Arc::clone(edge)));
    let sessions = SessionServiceServer::new(Sessions(Arc::clone(edge)));
    let signing_keys = SigningKeyServiceServer::new(SigningKeys(Arc::clone(edge)));
    let routes = Routes::default()
        .add_service(tokens.max_decoding_message_size(usize::MAX))
        .add_service(revocations.max_decoding_message_size(usize::MAX))
        .add_service(keys.max_decoding_message_size(usize::MAX))
        .add_service(api_keys.max_decoding_message_size(usize::MAX))
        .add_service(policies.max_decoding_message_size(usize::MAX))
        .add_service(sessions.max_decoding_message_size(usize::MAX))
        .add_service(signing_keys.max_decoding_message_size(usize::MAX))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    if !proxies {
        return Ok(routes);
    }
    let authorization = AuthorizationServer::new(ExternalAuthorization(Arc::clone(edge)));
    Ok(routes.add_service(authorization.max_decoding_message_size(usize::MAX)))
}

/// What `grpc.health.v1` says of the services.
#[derive(Clone)]
struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
}

impl Health {
    fn new(reporter: HealthReporter, proxies: bool) -> Self {
        let mut services = vec![
            "",
            TokenServiceServer::<Tokens>::NAME,
            RevocationServiceServer::<Revocations>::NAME,
            KeyServiceServer::<Keys>::NAME,
            ApiKeyServiceServer::<ApiKeys>::NAME,
            PolicyServiceServer::<Policies>::NAME,
            SessionServiceServer::<Sessions>::NAME,
            SigningKeyServiceServer::<SigningKeys>::NAME,
        ];
        if proxies {
            services.push(AuthorizationServer::<ExternalAuthorization>::NAME);
        }
        Self { reporter, services }
    }

    async fn set(&self, status: ServingStatus) {
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// Ready when the store takes no more writes, which it never does again.
async fn store_failure(authority: Arc<Authority>) {
    loop {
        tokio::time::sleep(READINESS_INTERVAL).await;
        if !authority.takes_writes() {
            return;
        }
    }
}

/// Keeps what others look at up to date.
async fn housekeeping(edge: Arc<Edge>, health: Health) {
    let mut was_ready = true;
    loop {
        let is_ready = edge.authority.is_ready();
        edge.metrics.set_ready(is_ready);
        edge.metrics.set_committed(edge.authority.position().sequence.0);
        edge.metrics.set_policy(&edge.authority.policy_status());
        edge.metrics.set_machine(&edge.authority);
        edge.housekeeping();
        if was_ready && !is_ready {
            let commit_waiting = edge.authority.commit_waiting();
            tracing::error!(
                ?commit_waiting,
                "not ready: the store takes no writes, a commit waits for the disk, or the server stops"
            );
            health.set(ServingStatus::NotServing).await;
        } else if !was_ready && is_ready {
            tracing::warn!("ready again");
            health.set(ServingStatus::Serving).await;
        }
        was_ready = is_ready;
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
}
