//! A server between client and authority: it counts calls, loses answers, and serves faulty watches.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tessera_client::v1::{
    AwaitPropagationRequest, AwaitPropagationResponse, Checkpoint, IntrospectManyRequest,
    IntrospectManyResponse, IntrospectRequest, IntrospectResponse, IssueRequest, IssueResponse,
    ListKeysRequest, ListKeysResponse, RefreshRequest, RefreshResponse, RevocationEvent, RevokeRequest,
    RevokeResponse, SnapshotBegin, SnapshotEnd, WatchRequest, WatchResponse,
    key_service_client::KeyServiceClient,
    key_service_server::{KeyService, KeyServiceServer},
    revocation_service_server::{RevocationService, RevocationServiceServer},
    token_service_client::TokenServiceClient,
    token_service_server::{TokenService, TokenServiceServer},
    watch_request,
    watch_response::Message,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

use crate::world::World;

/// The fault of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    SnapshotNeverEnds,
    CheckpointsWithoutNonce,
    UnknownEvent,
    /// The first stream is valid, with the given revocations; the others are snapshots that never end.
    SecondSnapshotNeverEnds,
}

#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    authority: Channel,
    issues: AtomicUsize,
    /// The `traceparent` of each Issue.
    traces: Mutex<Vec<String>>,
    refreshes: AtomicUsize,
    answered: AtomicUsize,
    faults: Mutex<VecDeque<Code>>,
    held: watch::Sender<bool>,
    script: Script,
    streams: AtomicUsize,
    revoked: Mutex<Option<RevocationEvent>>,
}

/// A server whose watch follows a script, with the keys and tokens of the authority.
pub(crate) async fn watch_server(world: &World, script: Script) -> String {
    serve(world, script).await.1
}

/// The same, with this content in its first snapshot.
pub(crate) async fn watch_server_with(
    world: &World,
    script: Script,
    revoked: RevocationEvent,
) -> (Gate, String) {
    let (gate, address) = serve(world, script).await;
    *gate.0.revoked.lock().unwrap() = Some(revoked);
    (gate, address)
}

/// A server that counts.
pub(crate) async fn gate(world: &World) -> (Gate, String) {
    serve(world, Script::SnapshotNeverEnds).await
}

async fn serve(world: &World, script: Script) -> (Gate, String) {
    let gate = Gate(Arc::new(Inner {
        authority: Endpoint::from_shared(world.address.clone())
            .unwrap()
            .connect_lazy(),
        issues: AtomicUsize::new(0),
        traces: Mutex::default(),
        refreshes: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
        faults: Mutex::default(),
        held: watch::Sender::new(false),
        script,
        streams: AtomicUsize::new(0),
        revoked: Mutex::default(),
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Server::builder()
        .add_service(TokenServiceServer::new(gate.clone()))
        .add_service(KeyServiceServer::new(gate.clone()))
        .add_service(RevocationServiceServer::new(gate.clone()));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    (gate, address)
}

impl Gate {
    pub(crate) fn issues(&self) -> usize {
        self.0.issues.load(Ordering::SeqCst)
    }

    pub(crate) fn traces(&self) -> Vec<String> {
        self.0.traces.lock().unwrap().clone()
    }

    pub(crate) fn refreshes(&self) -> usize {
        self.0.refreshes.load(Ordering::SeqCst)
    }

    /// Calls that the authority has answered, whether or not the answer was passed on.
    pub(crate) fn answered(&self) -> usize {
        self.0.answered.load(Ordering::SeqCst)
    }

    /// How many watches began.
    pub(crate) fn streams(&self) -> usize {
        self.0.streams.load(Ordering::SeqCst)
    }

    /// The next calls fail with these codes, without reaching the authority.
    pub(crate) fn fail(&self, codes: &[Code]) {
        self.0.faults.lock().unwrap().extend(codes);
    }

    /// Calls no longer fail.
    pub(crate) fn repair(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    /// Answers are held back until they are released.
    pub(crate) fn hold(&self, hold: bool) {
        self.0.held.send_replace(hold);
    }

    fn fault(&self) -> Result<(), Status> {
        let fault = self.0.faults.lock().unwrap().pop_front();
        fault.map_or(Ok(()), |code| Err(Status::new(code, "scripted")))
    }

    async fn release<T>(&self, answer: T) -> T {
        self.0.answered.fetch_add(1, Ordering::SeqCst);
        let mut held = self.0.held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        answer
    }

    fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.0.authority.clone())
    }
}

/// The same request with the caller's credential.
fn pass<T>(request: Request<T>) -> Request<T> {
    let credential = request.metadata().get("authorization").cloned();
    let mut passed = Request::new(request.into_inner());
    if let Some(credential) = credential {
        passed.metadata_mut().insert("authorization", credential);
    }
    passed
}

#[tonic::async_trait]
impl TokenService for Gate {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        self.0.issues.fetch_add(1, Ordering::SeqCst);
        if let Some(trace) = request.metadata().get("traceparent") {
            let trace = trace.to_str().unwrap().to_owned();
            self.0.traces.lock().unwrap().push(trace);
        }
        self.fault()?;
        let answer = self.tokens().issue(pass(request)).await;
        self.release(answer).await
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        self.0.refreshes.fetch_add(1, Ordering::SeqCst);
        self.fault()?;
        let answer = self.tokens().refresh(pass(request)).await;
        self.release(answer).await
    }

    async fn introspect(
        &self,
        request: Request<IntrospectRequest>,
    ) -> Result<Response<IntrospectResponse>, Status> {
        self.tokens().introspect(pass(request)).await
    }

    async fn introspect_many(
        &self,
        request: Request<IntrospectManyRequest>,
    ) -> Result<Response<IntrospectManyResponse>, Status> {
        self.tokens().introspect_many(pass(request)).await
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        self.tokens().revoke(pass(request)).await
    }
}

#[tonic::async_trait]
impl KeyService for Gate {
    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        KeyServiceClient::new(self.0.authority.clone())
            .list_keys(request)
            .await
    }
}

#[tonic::async_trait]
impl RevocationService for Gate {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (say, messages) = mpsc::channel(16);
        let script = self.0.script;
        let is_first = self.0.streams.fetch_add(1, Ordering::SeqCst) == 0;
        self.fault()?;
        let revoked = self.0.revoked.lock().unwrap().clone();
        let (pinged, nonce) = watch::channel(Vec::new());
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(watch_request::Message::Ping(ping)) = request.message {
                    pinged.send_replace(ping.nonce);
                }
            }
        });
        tokio::spawn(async move {
            let say = async |message| {
                let message = WatchResponse {
                    message: Some(message),
                };
                say.send(Ok(message)).await.is_ok()
            };
            say(Message::SnapshotBegin(SnapshotBegin {
                realm: "production".to_owned(),
                ..SnapshotBegin::default()
            }))
            .await;
            let is_cut_short = script == Script::SecondSnapshotNeverEnds && !is_first;
            if script == Script::SnapshotNeverEnds || is_cut_short {
                return say_nothing().await;
            }
            let end = SnapshotEnd {
                cursor: "a".to_owned(),
                items: u64::from(revoked.is_some()),
            };
            if let Some(revoked) = revoked {
                say(Message::SnapshotItem(revoked)).await;
            }
            say(Message::SnapshotEnd(end)).await;
            if script == Script::UnknownEvent {
                let event = RevocationEvent {
                    kind: 99,
                    realm: "production".to_owned(),
                    ..RevocationEvent::default()
                };
                say(Message::Event(event)).await;
            }
            let checkpoint = Checkpoint {
                through: "b".to_owned(),
                server_time: Some(prost_types::Timestamp::default()),
                key_set: "1".to_owned(),
                realm: "production".to_owned(),
                ..Checkpoint::default()
            };
            let checkpoint = || Checkpoint {
                nonce: match script {
                    Script::CheckpointsWithoutNonce => Vec::new(),
                    _ => nonce.borrow().clone(),
                },
                ..checkpoint.clone()
            };
            while say(Message::Checkpoint(checkpoint())).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn await_propagation(
        &self,
        _: Request<AwaitPropagationRequest>,
    ) -> Result<Response<AwaitPropagationResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
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

async fn say_nothing() {
    std::future::pending::<()>().await;
}
