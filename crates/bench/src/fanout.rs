//! One event to many subscribers: the delay for each, and the cost for the server.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use tessera_proto::v1::{
    RevokeRequest, WatchRequest, WatchResponse, WatchStart,
    revocation_service_client::RevocationServiceClient, revoke_request::Target as Revoked,
    token_service_client::TokenServiceClient, watch_request, watch_response, watch_start,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout_at,
};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    echo::client::EchoClient,
    failure::Failure,
    parcel::{Parcel, Sizes},
    process::Process,
    stage::{Authorization, NARROW_WINDOW, Target},
    statistics::{Latencies, Percentiles},
};

/// The longest time for the delivery of an event.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(10);

/// Subscribers that report what they receive.
pub(crate) struct Watchers {
    count: usize,
    receipts: mpsc::UnboundedReceiver<Result<Receipt, Status>>,
    /// Ended when this is dropped.
    _tasks: JoinSet<()>,
}

/// An event, received.
struct Receipt {
    at: Instant,
    bytes: usize,
}

/// The measurements of a server for some events.
pub(crate) struct Deliveries {
    /// From the answer of the call that caused the event to its receipt.
    pub(crate) after_answer: Percentiles,
    /// From that call's beginning.
    pub(crate) after_call: Percentiles,
    /// The server's processor time per receipt, in microseconds.
    pub(crate) cpu: f64,
}

/// The cause of events.
pub(crate) trait Trigger {
    fn pull(&mut self) -> impl Future<Output = Result<Sizes, Status>> + Send;
}

impl Watchers {
    /// Subscribes to the revocations of `server`, and waits until each subscription is established.
    pub(crate) async fn of_revocations(
        server: &Target,
        channels: impl IntoIterator<Item = Channel>,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        for channel in channels {
            let stream = watch(channel, &server.authorization()).await;
            streams.push(stream.map_err(|status| Failure::at("watching", status))?);
        }
        Ok(Self::listening(streams, |message: &WatchResponse| {
            matches!(message.message, Some(watch_response::Message::Event(_)))
        }))
    }

    /// Subscribes to the events of an echo server.
    pub(crate) async fn of_broadcasts(
        server: &Target,
        channels: impl IntoIterator<Item = Channel>,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        for channel in channels {
            let request = server.authorization().on(Parcel::default());
            let stream = EchoClient::new(channel).subscribe(request).await;
            streams.push(stream.map_err(|status| Failure::at("subscribing", status))?);
        }
        Ok(Self::listening(streams, |_: &Parcel| true))
    }

    fn listening<M>(streams: Vec<Streaming<M>>, is_event: fn(&M) -> bool) -> Self
    where
        M: prost::Message + Default + 'static,
    {
        let (report, receipts) = mpsc::unbounded_channel();
        let count = streams.len();
        let mut tasks = JoinSet::new();
        for stream in streams {
            tasks.spawn(listen(stream, report.clone(), is_event));
        }
        Self {
            count,
            receipts,
            _tasks: tasks,
        }
    }

    /// Causes one event after the other for `time`: each once all subscribers have the previous one.
    pub(crate) async fn measure(
        &mut self,
        trigger: &mut impl Trigger,
        time: Duration,
        server: &Process,
    ) -> Result<Deliveries, Failure> {
        let used_before = server.cpu_time()?;
        let (mut after_answer, mut after_call) = (Latencies::default(), Latencies::default());
        let end = Instant::now() + time;
        while Instant::now() < end {
            let began = Instant::now();
            let pulled = trigger.pull().await;
            let answered = Instant::now();
            pulled.map_err(|status| Failure::at("causing an event", status))?;
            for _ in 0..self.count {
                let receipt = self.receipt().await?;
                // Some have it before the caller has its answer; that counts as no delay.
                after_answer.add(receipt.at.saturating_duration_since(answered));
                after_call.add(receipt.at.saturating_duration_since(began));
            }
        }
        let used = server.cpu_time()?.saturating_sub(used_before);
        let count = u32::try_from(after_call.count()).unwrap_or(u32::MAX);
        Ok(Deliveries {
            after_answer: after_answer.into_percentiles(),
            after_call: after_call.into_percentiles(),
            cpu: used.as_secs_f64() * 1e6 / f64::from(count.max(1)),
        })
    }

    /// Causes events for `time`, as many at once as there are triggers. An event is in progress until every subscriber
    /// has it, so none has to be dropped. Returns the deliveries per second.
    pub(crate) async fn flood<T: Trigger + Send + 'static>(
        &mut self,
        triggers: Vec<T>,
        time: Duration,
    ) -> Result<f64, Failure> {
        let room = Arc::new(Semaphore::new(triggers.len()));
        let began = Instant::now();
        let mut pulling = JoinSet::new();
        for trigger in triggers {
            pulling.spawn(pull_until(trigger, began + time, Arc::clone(&room)));
        }
        let (mut caused, mut received) = (0, 0);
        while !pulling.is_empty() || received < caused * self.count {
            tokio::select! {
                receipt = self.receipt() => {
                    receipt?;
                    received += 1;
                    if received % self.count == 0 {
                        room.add_permits(1);
                    }
                }
                Some(pulled) = pulling.join_next() => {
                    let pulled = pulled.map_err(|error| Failure::at("a trigger", error))?;
                    caused += pulled.map_err(|status| Failure::at("causing an event", status))?;
                }
            }
        }
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        Ok(f64::from(received) / began.elapsed().as_secs_f64())
    }

    /// Causes one event, and returns the sizes of the call and of the event.
    pub(crate) async fn try_out(&mut self, trigger: &mut impl Trigger) -> Result<(Sizes, usize), Failure> {
        let pulled = trigger.pull().await;
        let sizes = pulled.map_err(|status| Failure::at("causing an event", status))?;
        let mut bytes = 0;
        for _ in 0..self.count {
            bytes = self.receipt().await?.bytes;
        }
        Ok((sizes, bytes))
    }

    /// Skips what was received so far.
    pub(crate) fn pass_over(&mut self) -> Result<(), Failure> {
        while let Ok(receipt) = self.receipts.try_recv() {
            receipt.map_err(|status| Failure::at("a subscription", status))?;
        }
        Ok(())
    }

    async fn receipt(&mut self) -> Result<Receipt, Failure> {
        match tokio::time::timeout(DELIVERY_TIME_MAX, self.receipts.recv()).await {
            Ok(Some(receipt)) => receipt.map_err(|status| Failure::at("a subscription", status)),
            Ok(None) => Err(Failure::new("all subscriptions ended")),
            Err(_) => Err(Failure::new("a subscriber did not receive an event")),
        }
    }
}

/// Causes events until `end`, each when there is room; returns their number.
async fn pull_until(mut trigger: impl Trigger, end: Instant, room: Arc<Semaphore>) -> Result<usize, Status> {
    let mut caused = 0;
    while let Ok(Ok(permit)) = timeout_at(end.into(), room.acquire()).await {
        if Instant::now() >= end {
            break;
        }
        // It is released when every subscriber has the event.
        permit.forget();
        trigger.pull().await?;
        caused += 1;
    }
    Ok(caused)
}

/// Subscribers that do not read: their streams are open, nothing polls them, and their windows are full.
pub(crate) struct Frozen {
    _streams: Vec<Streaming<WatchResponse>>,
}

impl Frozen {
    /// Each has a separate connection, and gets as many events of `event` bytes as fill its window twice.
    pub(crate) async fn on(
        server: &Target,
        count: u16,
        trigger: &mut impl Trigger,
        event: usize,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        for channel in server.narrow_channels_for(count).await? {
            let stream = watch(channel, &server.authorization()).await;
            streams.push(stream.map_err(|status| Failure::at("watching", status))?);
        }
        let window = usize::try_from(NARROW_WINDOW).unwrap_or(usize::MAX);
        for _ in 0..window.saturating_mul(2).div_ceil(event.max(1)) {
            let pulled = trigger.pull().await;
            pulled.map_err(|status| Failure::at("filling the windows", status))?;
        }
        Ok(Self { _streams: streams })
    }
}

/// The stream of an established subscription: its first checkpoint has arrived.
async fn watch(channel: Channel, authorization: &Authorization) -> Result<Streaming<WatchResponse>, Status> {
    let start = WatchStart {
        from: Some(watch_start::From::Latest(true)),
        ..WatchStart::default()
    };
    let start = WatchRequest {
        message: Some(watch_request::Message::Start(start)),
    };
    let request = authorization.on(tokio_stream::once(start));
    let answer = RevocationServiceClient::new(channel).watch(request).await?;
    let mut stream = answer.into_inner();
    stream.message().await?;
    Ok(stream)
}

async fn listen<M: prost::Message + Default + 'static>(
    mut stream: Streaming<M>,
    report: mpsc::UnboundedSender<Result<Receipt, Status>>,
    is_event: fn(&M) -> bool,
) {
    loop {
        let receipt = match stream.message().await {
            Ok(Some(message)) if is_event(&message) => Ok(Receipt {
                at: Instant::now(),
                bytes: message.encoded_len(),
            }),
            Ok(Some(_)) => continue,
            Ok(None) => Err(Status::cancelled("the server ended it")),
            Err(status) => Err(status),
        };
        let is_over = receipt.is_err();
        if report.send(receipt).is_err() || is_over {
            return;
        }
    }
}

/// Revokes one label after the other.
pub(crate) struct Revoke {
    client: TokenServiceClient<Channel>,
    authorization: Authorization,
    /// Its number among several at once.
    number: u16,
    revoked: u32,
}

impl Revoke {
    pub(crate) fn new(channel: Channel, authorization: Authorization, number: u16) -> Self {
        Self {
            client: TokenServiceClient::new(channel),
            authorization,
            number,
            revoked: 0,
        }
    }

    /// Makes ten revocations per second, for as long as it is polled.
    pub(crate) async fn steadily(&mut self) -> Status {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            if let Err(status) = self.pull().await {
                return status;
            }
        }
    }
}

impl Trigger for Revoke {
    async fn pull(&mut self) -> Result<Sizes, Status> {
        self.revoked += 1;
        let request = RevokeRequest {
            target: Some(Revoked::Label(format!(
                "bench:{:02}-{:06}",
                self.number, self.revoked
            ))),
            ..RevokeRequest::default()
        };
        let bytes = request.encoded_len();
        let answer = self.client.revoke(self.authorization.on(request)).await?;
        Ok(Sizes {
            request: bytes,
            answer: answer.get_ref().encoded_len(),
        })
    }
}

/// Broadcasts one parcel after the other.
pub(crate) struct Broadcast {
    client: EchoClient,
    authorization: Authorization,
    parcel: Parcel,
}

impl Broadcast {
    pub(crate) fn new(channel: Channel, authorization: Authorization, sizes: Sizes, event: usize) -> Self {
        Self {
            client: EchoClient::new(channel),
            authorization,
            parcel: Parcel::broadcast(sizes, event),
        }
    }
}

impl Trigger for Broadcast {
    async fn pull(&mut self) -> Result<Sizes, Status> {
        let request = self.authorization.on(self.parcel.clone());
        let answer = self.client.broadcast(request).await?;
        Ok(Sizes {
            request: self.parcel.encoded_len(),
            answer: answer.encoded_len(),
        })
    }
}
