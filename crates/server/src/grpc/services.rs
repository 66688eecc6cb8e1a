//! The served services.

use std::{collections::HashMap, convert::Infallible, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use tessera_proto::{
    FILE_DESCRIPTOR_SET, UPSTREAM_DESCRIPTOR_SET,
    framed::revocation_service_server::RevocationServiceServer,
    upstream::envoy::service::auth::v3::authorization_server::AuthorizationServer,
    v1::{
        api_key_service_server::ApiKeyServiceServer, audit_service_server::AuditServiceServer,
        backup_service_server::BackupServiceServer, key_service_server::KeyServiceServer,
        policy_service_server::PolicyServiceServer, session_service_server::SessionServiceServer,
        signing_key_service_server::SigningKeyServiceServer, token_service_server::TokenServiceServer,
    },
};
use tonic::{body::Body, server::NamedService};
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};
use tonic_reflection::server::Builder;
use tower::Service;

use super::{
    api_key::ApiKeys, audit::Audits, backup::Backups, body::GrpcBody, ext_authz::ExternalAuthorization,
    health::Healths, key::Keys, policy::Policies, revocation::Revocations, session::Sessions,
    signing_key::SigningKeys, token::Tokens,
};
use crate::edge::Edge;

/// An answer that is being made.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A service: answers a call of one of its methods.
type Serves = dyn Fn(Request<GrpcBody>) -> Answering + Send + Sync;

/// The services that are served, by their names.
pub(crate) struct Services(HashMap<&'static str, Box<Serves>>);

impl Services {
    /// Every service, served by `edge`.
    pub(crate) fn new(
        edge: &Arc<Edge>,
        health: &Health,
        proxies: bool,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let tokens = TokenServiceServer::new(Tokens(Arc::clone(edge)));
        let revocations = RevocationServiceServer::new(Revocations::new(Arc::clone(edge)));
        let keys = KeyServiceServer::new(Keys(Arc::clone(edge)));
        let api_keys = ApiKeyServiceServer::new(ApiKeys(Arc::clone(edge)));
        let audits = AuditServiceServer::new(Audits(Arc::clone(edge)));
        let policies = PolicyServiceServer::new(Policies(Arc::clone(edge)));
        let sessions = SessionServiceServer::new(Sessions(Arc::clone(edge)));
        let signing_keys = SigningKeyServiceServer::new(SigningKeys(Arc::clone(edge)));
        let backups = BackupServiceServer::new(Backups(Arc::clone(edge)));
        let services = Self(HashMap::new())
            .with(tokens.max_decoding_message_size(usize::MAX))
            .with(revocations.max_decoding_message_size(usize::MAX))
            .with(keys.max_decoding_message_size(usize::MAX))
            .with(api_keys.max_decoding_message_size(usize::MAX))
            .with(audits.max_decoding_message_size(usize::MAX))
            .with(policies.max_decoding_message_size(usize::MAX))
            .with(sessions.max_decoding_message_size(usize::MAX))
            .with(signing_keys.max_decoding_message_size(usize::MAX))
            .with(backups.max_decoding_message_size(usize::MAX))
            .with(HealthServer::new(Healths::of(&health.reporter)))
            .with(reflection(proxies).build_v1()?)
            .with(reflection(proxies).build_v1alpha()?);
        if !proxies {
            return Ok(services);
        }
        let authorization = AuthorizationServer::new(ExternalAuthorization(Arc::clone(edge)));
        Ok(services.with(authorization.max_decoding_message_size(usize::MAX)))
    }

    fn with<S>(mut self, service: S) -> Self
    where
        S: NamedService + Clone + Send + Sync + 'static,
        S: Service<Request<GrpcBody>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        // A service of tonic is always ready.
        let call = move |request| Box::pin(service.clone().call(request)) as Answering;
        self.0.insert(S::NAME, Box::new(call));
        self
    }

    /// The service that `path` names, if there is one. It may have no such method.
    pub(crate) fn at(&self, path: &str) -> Option<&Serves> {
        self.0.get(name(path)).map(AsRef::as_ref)
    }
}

/// `package.Service` of `/package.Service/Method`.
fn name(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or_default();
    path.split_once('/').map_or("", |(service, _)| service)
}

/// Tells clients what is served.
fn reflection(proxies: bool) -> Builder<'static> {
    let builder = Builder::configure();
    let builder = if proxies {
        builder.register_encoded_file_descriptor_set(UPSTREAM_DESCRIPTOR_SET)
    } else {
        builder
    };
    builder
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // With it, reflecting clients can read the details of an error.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// The health of the services for `grpc.health.v1`.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
}

impl Health {
    pub(crate) fn new(proxies: bool) -> Self {
        let mut services = vec![
            "",
            TokenServiceServer::<Tokens>::NAME,
            RevocationServiceServer::<Revocations>::NAME,
            KeyServiceServer::<Keys>::NAME,
            ApiKeyServiceServer::<ApiKeys>::NAME,
            AuditServiceServer::<Audits>::NAME,
            PolicyServiceServer::<Policies>::NAME,
            SessionServiceServer::<Sessions>::NAME,
            SigningKeyServiceServer::<SigningKeys>::NAME,
            BackupServiceServer::<Backups>::NAME,
        ];
        if proxies {
            services.push(AuthorizationServer::<ExternalAuthorization>::NAME);
        }
        Self {
            reporter: HealthReporter::new(),
            services,
        }
    }

    /// Sets it for all of them.
    pub(crate) async fn set(&self, status: ServingStatus) {
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
