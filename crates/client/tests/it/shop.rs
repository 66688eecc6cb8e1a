//! A service to protect: it returns the subject of each call, and counts its calls.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Extension, Router, routing::get};
use tessera_client::{
    AuthorizeLayer, Claims, Requirement, Requirements, ScopeTemplate, Verifier,
    v1::{
        AwaitPropagationRequest, AwaitPropagationResponse, Checkpoint, ListKeysRequest, ListKeysResponse,
        VerifyingKey, WatchRequest, WatchResponse,
        key_service_server::{KeyService, KeyServiceServer},
        revocation_service_server::{RevocationService, RevocationServiceServer},
        watch_response::Message,
    },
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

use crate::world::scope;

pub(crate) const READ: &str = "/tessera.v1.KeyService/ListKeys";
pub(crate) const STREAM: &str = "/tessera.v1.RevocationService/Watch";
pub(crate) const NOBODY: &str = "nobody";

/// Uses two services of the contract: `ListKeys` answers with the subject of the claims, `Watch` with the subject for
/// each message; `AwaitPropagation` plays the film that its cursor names.
#[derive(Clone, Default)]
pub(crate) struct Shop {
    calls: Arc<AtomicUsize>,
}

/// `ListKeys` for `videos:read`, `Watch` for any token; `AwaitPropagation` is not listed.
pub(crate) fn listed() -> Requirements {
    Requirements::deny_unlisted()
        .method(READ, scope("videos:read"))
        .method(STREAM, Requirement::any_token())
}

impl Shop {
    /// How often the service itself was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Serves gRPC within these layers, the first outermost.
    pub(crate) async fn serve(&self, outer: AuthorizeLayer, inner: AuthorizeLayer) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Server::builder()
            .layer(outer)
            .layer(inner)
            .add_service(KeyServiceServer::new(self.clone()))
            .add_service(RevocationServiceServer::new(self.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    /// HTTP at `/`, with these requirements.
    pub(crate) fn within(self, verifier: &Verifier, requirements: impl Into<Requirements>) -> Router {
        let say = move |Extension(claims): Extension<Claims>| async move { self.called(Some(&claims)) };
        Router::new().route("/", get(say).layer(verifier.require(requirements)))
    }

    /// The same over HTTP: `/read` for `videos:read`, `/open` for nothing.
    pub(crate) fn router(&self, verifier: &Verifier) -> Router {
        let shop = self.clone();
        let say = move |claims: Option<Extension<Claims>>| async move {
            shop.called(claims.map(|Extension(claims)| claims).as_ref())
        };
        Router::new()
            .route(
                "/read",
                get(say.clone()).layer(verifier.require(scope("videos:read"))),
            )
            .route("/open", get(say).layer(verifier.require(Requirement::open())))
    }

    fn called(&self, claims: Option<&Claims>) -> String {
        self.calls.fetch_add(1, Ordering::SeqCst);
        claims.map_or(NOBODY.to_owned(), |claims| claims.subject.to_string())
    }
}

#[tonic::async_trait]
impl KeyService for Shop {
    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let key = VerifyingKey {
            kid: self.called(request.extensions().get::<Claims>()),
            ..VerifyingKey::default()
        };
        Ok(Response::new(ListKeysResponse {
            keys: vec![key],
            ..ListKeysResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl RevocationService for Shop {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let subject = self.called(request.extensions().get::<Claims>());
        let answers = request.into_inner().map(move |message| {
            message.map(|_| WatchResponse {
                message: Some(Message::Checkpoint(Checkpoint {
                    through: subject.clone(),
                    ..Checkpoint::default()
                })),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn await_propagation(
        &self,
        request: Request<AwaitPropagationRequest>,
    ) -> Result<Response<AwaitPropagationResponse>, Status> {
        let claims = request.extensions().get::<Claims>();
        if let Some(claims) = claims.filter(|_| !request.get_ref().cursor.is_empty()) {
            let play = ScopeTemplate::parse("videos/{id}:play").unwrap();
            claims.require_scope(&play, &[("id", &request.get_ref().cursor)])?;
        }
        self.called(claims);
        Ok(Response::new(AwaitPropagationResponse::default()))
    }

    async fn list_subscribers(
        &self,
        _: Request<tessera_proto::v1::ListSubscribersRequest>,
    ) -> Result<Response<tessera_proto::v1::ListSubscribersResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn evict_subscriber(
        &self,
        _: Request<tessera_proto::v1::EvictSubscriberRequest>,
    ) -> Result<Response<tessera_proto::v1::EvictSubscriberResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}
