//! `tessera.v1.RevocationService`.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tessera_authority::{SubscriberMessage, WatchMessage, Watcher};
use tessera_proto::{
    WatchFrame,
    framed::revocation_service_server::RevocationService,
    v1::{
        self, AwaitPropagationRequest, AwaitPropagationResponse, WatchRequest, WatchStart,
        watch_request::Message,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{call::call, convert::revocation as convert, frames::Frames};
use crate::{
    edge::{Edge, Exchange, exchange},
    error::ApiError,
};

/// How long a subscriber may take to send its start message.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// The service.
pub(crate) struct Revocations {
    edge: Arc<Edge>,
    frames: Arc<Frames>,
}

impl Revocations {
    pub(super) fn new(edge: Arc<Edge>) -> Self {
        Self {
            edge,
            frames: Arc::default(),
        }
    }
}

#[tonic::async_trait]
impl RevocationService for Revocations {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchFrame, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let exchange = exchange(request.extensions())?;
        let stream = request.into_inner();
        let frames = frames(Arc::clone(&self.edge), Arc::clone(&self.frames), exchange, stream);
        // The stream answers at once and reads the start message later: a client may wait for the headers first.
        Ok(Response::new(Box::pin(frames)))
    }

    async fn await_propagation(
        &self,
        request: Request<AwaitPropagationRequest>,
    ) -> Result<Response<AwaitPropagationResponse>, Status> {
        call(&self.edge, request, async |caller, wire| {
            let began = Instant::now();
            let propagated = self
                .edge
                .authority
                .fence()
                .await_propagation(&caller.principal, &wire.cursor)
                .await?;
            let realm = caller.principal.realm_name();
            self.edge.metrics.count_fence(realm, began.elapsed());
            Ok(AwaitPropagationResponse {
                acknowledged: propagated.acknowledged,
                failed_closed: propagated.failed_closed,
            })
        })
        .await
    }

    async fn list_subscribers(
        &self,
        request: Request<v1::ListSubscribersRequest>,
    ) -> Result<Response<v1::ListSubscribersResponse>, Status> {
        call(&self.edge, request, async |caller, _| {
            let (listed, committed) = self.edge.authority.fence().subscribers(&caller.principal).await?;
            let subscribers = listed.iter().map(|listed| convert::subscriber(listed, committed));
            Ok(v1::ListSubscribersResponse {
                subscribers: subscribers.collect(),
            })
        })
        .await
    }

    async fn evict_subscriber(
        &self,
        request: Request<v1::EvictSubscriberRequest>,
    ) -> Result<Response<v1::EvictSubscriberResponse>, Status> {
        call(&self.edge, request, async |caller, wire| {
            let (client, name) = convert::evict_subscriber(&wire)?;
            let target = format!("subscriber {name} of {client}");
            let streams = self
                .edge
                .authority
                .fence()
                .evict_subscriber(&caller.principal, client, name)
                .await?;
            caller.changed("subscriber evicted", &target);
            Ok(v1::EvictSubscriberResponse {
                streams: u32::try_from(streams).unwrap_or(u32::MAX),
            })
        })
        .await
    }
}

/// The frames that a subscriber reads, made as it reads them.
fn frames(
    edge: Arc<Edge>,
    frames: Arc<Frames>,
    exchange: Arc<Exchange>,
    mut stream: Streaming<WatchRequest>,
) -> impl Stream<Item = Result<WatchFrame, Status>> + Send {
    async_stream::try_stream! {
        let principal = exchange.principal().cloned().ok_or_else(ApiError::no_credential)?;
        let _watching = Watching::begin(edge.metrics.watchers());
        let Some(start) = first_message(&mut stream).await? else { return };
        let (inbox, messages) = mpsc::channel(16);
        let watcher = edge.authority.watches().watch(principal, convert::watch_start(start)?, messages);
        let mut watcher = match watcher.await {
            Ok(watcher) => watcher,
            Err(error) => Err(edge.refused(&exchange, error.into()).await)?,
        };
        let (fault, mut faulty) = oneshot::channel();
        let _listening = Listening(tokio::spawn(listen(stream, inbox, fault)));
        loop {
            yield next_frame(&frames, &mut watcher, &mut faulty).await?;
        }
    }
}

/// The start message; `None` if the subscriber left.
async fn first_message(stream: &mut Streaming<WatchRequest>) -> Result<Option<WatchStart>, Status> {
    match tokio::time::timeout(START_TIME_MAX, stream.message()).await {
        Ok(Ok(Some(WatchRequest {
            message: Some(Message::Start(start)),
        }))) => Ok(Some(start)),
        Ok(Ok(Some(_))) => Err(not_a_start().into()),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(ApiError::deadline_exceeded().into()),
    }
}

async fn next_frame(
    frames: &Frames,
    watcher: &mut Watcher,
    faulty: &mut oneshot::Receiver<ApiError>,
) -> Result<WatchFrame, ApiError> {
    let message = tokio::select! {
        message = watcher.next() => message?,
        // An error means that the task no longer listens, as the subscriber has nothing more to say.
        Ok(error) = faulty, if !faulty.is_terminated() => return Err(error),
    };
    Ok(match message {
        WatchMessage::Event(event, cursor) => frames.event(&event, &cursor),
        message => convert::watch_response(message).into(),
    })
}

/// Counts an open stream.
struct Watching(Gauge);

impl Watching {
    fn begin(watchers: &Gauge) -> Self {
        watchers.inc();
        Self(watchers.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Ends the listening task when the stream ends.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes on the subscriber's messages, until a wrong one or the last one.
async fn listen(
    mut stream: Streaming<WatchRequest>,
    inbox: mpsc::Sender<SubscriberMessage>,
    fault: oneshot::Sender<ApiError>,
) {
    while let Ok(Some(wire)) = stream.message().await {
        match convert::subscriber_message(wire) {
            Ok(message) => {
                if inbox.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = fault.send(error);
                return;
            }
        }
    }
}

fn not_a_start() -> ApiError {
    ApiError::invalid_field("start", "must be the first message")
}
