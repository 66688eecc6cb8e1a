//! `tessera.v1.RevocationService`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tessera_authority::{SubscriberMessage, WatchMessage, WatchQueue, Watcher};
use tessera_proto::v1::{
    AwaitPropagationRequest, AwaitPropagationResponse, WatchRequest, WatchResponse,
    revocation_service_server::RevocationService, watch_request::Message,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    convert,
    edge::Edge,
    status::{self, IntoStatus},
};

/// How long a subscriber may take to say where to begin.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// The service.
pub(crate) struct Revocations(pub(crate) Arc<Edge>);

#[tonic::async_trait]
impl RevocationService for Revocations {
    type WatchStream = Messages;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Messages>, Status> {
        let principal = self.0.authenticate(&request).await?;
        let (queue, messages) = Watcher::queue();
        let (ended, end) = oneshot::channel();
        let edge = Arc::clone(&self.0);
        // The stream answers at once and reads the start within: a client may wait for the headers first.
        tokio::spawn(async move {
            let watchers = edge.metrics.watchers().clone();
            watchers.inc();
            let end = run(&edge, &principal, request.into_inner(), queue).await;
            watchers.dec();
            // The subscriber may be gone.
            let _ = ended.send(end);
        });
        Ok(Response::new(Messages {
            messages,
            end: Some(end),
        }))
    }

    async fn await_propagation(
        &self,
        request: Request<AwaitPropagationRequest>,
    ) -> Result<Response<AwaitPropagationResponse>, Status> {
        self.0
            .call("AwaitPropagation", request, async |caller, wire| {
                let propagated = self
                    .0
                    .authority
                    .await_propagation(&caller.principal, &wire.cursor)
                    .await;
                let propagated = propagated.map_err(IntoStatus::into_status)?;
                Ok(AwaitPropagationResponse {
                    acknowledged: propagated.acknowledged,
                    failed_closed: propagated.failed_closed,
                })
            })
            .await
    }
}

/// Runs one watch to its end; none where the subscriber left.
async fn run(
    edge: &Edge,
    principal: &tessera_authority::Principal,
    mut stream: Streaming<WatchRequest>,
    queue: WatchQueue,
) -> Option<Status> {
    let start = match tokio::time::timeout(START_TIME_MAX, stream.message()).await {
        Ok(Ok(Some(WatchRequest {
            message: Some(Message::Start(start)),
        }))) => convert::watch_start(start),
        Ok(Ok(Some(_))) => Err(not_a_start()),
        Ok(Ok(None)) => return None,
        Ok(Err(status)) => Err(status),
        Err(_) => Err(status::deadline_exceeded()),
    };
    let watcher = match start {
        Ok(start) => edge
            .authority
            .watch(principal, start)
            .map_err(IntoStatus::into_status),
        Err(status) => Err(status),
    };
    let watcher = match watcher {
        Ok(watcher) => watcher,
        Err(status) => return Some(status),
    };
    let (inbox, messages) = mpsc::channel(16);
    let (fault, faulty) = oneshot::channel();
    let listener = tokio::spawn(listen(stream, inbox, fault));
    let end = tokio::select! {
        end = watcher.run(messages, queue) => status::watch_end(end),
        Ok(status) = faulty => Some(status),
    };
    listener.abort();
    end
}

/// Passes on what the subscriber says, until it says something wrong or no more.
async fn listen(
    mut stream: Streaming<WatchRequest>,
    inbox: mpsc::Sender<SubscriberMessage>,
    fault: oneshot::Sender<Status>,
) {
    while let Ok(Some(wire)) = stream.message().await {
        match convert::subscriber_message(wire) {
            Ok(message) => {
                if inbox.send(message).await.is_err() {
                    return;
                }
            }
            Err(status) => {
                let _ = fault.send(status);
                return;
            }
        }
    }
}

fn not_a_start() -> Status {
    status::invalid_fields(vec![("start".to_owned(), "must be the first message".to_owned())])
}

/// What a subscriber reads: the queue, then the status that ended it.
pub(crate) struct Messages {
    messages: mpsc::Receiver<WatchMessage>,
    end: Option<oneshot::Receiver<Option<Status>>>,
}

impl Stream for Messages {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.messages.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(message)) => return Poll::Ready(Some(Ok(convert::watch_response(message)))),
            Poll::Ready(None) => {}
        }
        let Some(end) = self.end.as_mut() else {
            return Poll::Ready(None);
        };
        match Pin::new(end).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                self.end = None;
                Poll::Ready(ended.unwrap_or_default().map(Err))
            }
        }
    }
}
