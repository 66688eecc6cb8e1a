//! The body of a request, bounded while it arrives: in time, in bytes, and by the limits of its caller.
//!
//! A gRPC message is passed on only when it is complete, so that nothing reserves memory for bytes that are only
//! announced.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::{bytes::TakenBytes, exchange::Exchange, route::Shape};
use crate::error::ApiError;

/// How often a message that waits for its bytes requests them.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Before each gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The body of one request.
pub(crate) struct RequestBody<B = Incoming> {
    inner: B,
    exchange: Arc<Exchange>,
    taken: TakenBytes,
    message_time_max: Duration,
    /// The received bytes of messages that are not passed on yet.
    arrived: Vec<u8>,
    /// The length of a client's message whose bytes are reserved, though not all of them have arrived.
    reserved: Option<usize>,
    /// The end of the wait of a message that has no bytes reserved yet.
    retry: Option<Pin<Box<Sleep>>>,
    /// Bytes that were passed on and are given back when the next ones are requested.
    handed_on: usize,
    trailers: Option<HeaderMap>,
    /// Runs while the caller lets us wait for a message.
    overdue: Option<Pin<Box<Sleep>>>,
    /// Whether a first message was passed on.
    has_begun: bool,
    has_ended: bool,
}

/// Why the rest of a body is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is not read, because of a bound.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The connection or the stream broke.
    #[error("the body broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

type Step<T> = Poll<Option<Result<T, BodyError>>>;

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    pub(super) fn new(
        inner: B,
        exchange: Arc<Exchange>,
        taken: TakenBytes,
        message_time_max: Duration,
    ) -> Self {
        Self {
            inner,
            exchange,
            taken,
            message_time_max,
            arrived: Vec::new(),
            reserved: None,
            retry: None,
            handed_on: 0,
            trailers: None,
            overdue: None,
            has_begun: false,
            has_ended: false,
        }
    }

    fn shape(&self) -> Shape {
        self.exchange.route.shape
    }

    /// The next bytes to pass on: a complete message, or, for an HTTP body, the received bytes.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Step<Bytes> {
        self.give_back();
        loop {
            if let Some(stranger) = self.exchange.stranger()
                && stranger.poll_evicted(cx.waker())
            {
                return Poll::Ready(Some(Err(stranger.eviction().into())));
            }
            if self.is_beyond_one_message() {
                return Poll::Ready(Some(Err(ApiError::more_than_one_message().into())));
            }
            if let Err(error) = ready!(self.poll_reservation(cx)) {
                return Poll::Ready(Some(Err(error.into())));
            }
            match self.whole_message() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(self.hand_on(message)))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            let Some(bytes) = ready!(self.poll_arrival(cx)) else {
                return self.end();
            };
            if let Ok(bytes) = &bytes {
                self.exchange.peer.took_body(bytes.len());
            }
            let bytes = match bytes.and_then(|bytes| self.take_arrived(bytes)) {
                Ok(bytes) => bytes,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            if self.shape() == Shape::Http {
                return Poll::Ready(Some(Ok(bytes)));
            }
            let is_one_message = !self.has_begun_unary()
                && self.arrived.is_empty()
                && message_bytes(&bytes) == Some(bytes.len());
            if is_one_message && self.reserve(bytes.len()) {
                // The common case: one frame with one message needs no copy.
                let checked = self.check_length(bytes.len()).map_err(BodyError::from);
                return Poll::Ready(Some(checked.map(|()| self.hand_on(bytes))));
            }
            self.arrived.extend_from_slice(&bytes);
        }
    }

    /// Ready when the arriving message has its bytes of the budgets. A client's message has all of them before more of
    /// it is read, and waits for them. So messages that arrive in pieces never keep each other from being complete.
    fn poll_reservation(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        loop {
            let Some(length) = message_bytes(&self.arrived) else {
                return Poll::Ready(Ok(()));
            };
            if let Err(error) = self.check_length(length) {
                return Poll::Ready(Err(error));
            }
            if self.reserve(length) {
                self.retry = None;
                return Poll::Ready(Ok(()));
            }
            if self.poll_overdue(cx).is_ready() {
                return Poll::Ready(Err(ApiError::overloaded()));
            }
            let retry = self.retry.get_or_insert_with(|| Box::pin(sleep(RETRY_INTERVAL)));
            ready!(retry.as_mut().poll(cx));
            self.retry = None;
        }
    }

    /// Takes the bytes of a client's message, once. The bytes of an unauthenticated caller are taken as they arrive.
    fn reserve(&mut self, length: usize) -> bool {
        if self.exchange.stranger().is_some() || self.reserved.is_some() {
            return true;
        }
        let fits = self.taken.take(length);
        self.reserved = fits.then_some(length);
        fits
    }

    /// The next received bytes; `None` at the end. Fails if they take too long.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Step<Bytes> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => Poll::Ready(Some(Ok(bytes))),
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.has_ended = true;
                    Poll::Ready(None)
                }
            },
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(Box::new(error))))),
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.poll_overdue(cx));
                let error = ApiError::request_too_slow(self.message_time_max);
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    /// Ready when the caller has let us wait for too long. Only a client's stream may be silent between messages.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_stream = self.shape() == Shape::Stream;
        let may_be_silent = is_stream && self.has_begun && self.exchange.stranger().is_none();
        if may_be_silent && self.arrived.is_empty() {
            self.overdue = None;
            return Poll::Pending;
        }
        let overdue = self
            .overdue
            .get_or_insert_with(|| Box::pin(sleep(self.message_time_max)));
        overdue.as_mut().poll(cx)
    }

    /// Whether the only message of the call was passed on.
    fn has_begun_unary(&self) -> bool {
        self.has_begun && self.shape() == Shape::Unary
    }

    /// Whether more arrived than the only message of the call. Its reader waits for the end, so nothing was done yet.
    fn is_beyond_one_message(&self) -> bool {
        self.has_begun_unary() && !self.arrived.is_empty()
    }

    /// Takes the first message from the received bytes, if it is complete.
    fn whole_message(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(length) = message_bytes(&self.arrived) else {
            return Ok(None);
        };
        self.check_length(length)?;
        if self.arrived.len() < length {
            return Ok(None);
        }
        let rest = self.arrived.split_off(length);
        Ok(Some(std::mem::replace(&mut self.arrived, rest).into()))
    }

    fn check_length(&self, length: usize) -> Result<(), ApiError> {
        let max = self.exchange.route.message_bytes_max;
        if length - PREFIX_BYTES > max {
            return Err(ApiError::request_too_large(length - PREFIX_BYTES, max));
        }
        Ok(())
    }

    fn hand_on(&mut self, message: Bytes) -> Bytes {
        self.handed_on = message.len();
        self.reserved = None;
        self.has_begun = true;
        if self.shape() == Shape::Stream {
            // The time for the next message begins with this one.
            self.overdue = None;
        }
        message
    }

    /// The end of the body. An incomplete message is passed on, so that its reader reports the error.
    fn end(&mut self) -> Step<Bytes> {
        if self.arrived.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.arrived).into())))
    }

    /// Takes the bytes that arrived from an unauthenticated caller.
    fn take_arrived(&mut self, bytes: Bytes) -> Result<Bytes, BodyError> {
        let Some(stranger) = self.exchange.stranger() else {
            return Ok(bytes);
        };
        if stranger.take(bytes.len()).is_ok() && self.taken.take(bytes.len()) {
            return Ok(bytes);
        }
        Err(ApiError::overloaded().into())
    }

    fn give_back(&mut self) {
        let handed_on = std::mem::take(&mut self.handed_on);
        if handed_on == 0 {
            return;
        }
        self.taken.give_back(handed_on);
        if let Some(stranger) = self.exchange.stranger()
            && self.arrived.is_empty()
        {
            stranger.give_back();
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match ready!(this.poll_bytes(cx)) {
            Some(result) => Poll::Ready(Some(result.map(Frame::data))),
            None => Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.arrived.is_empty() && self.trailers.is_none() && (self.has_ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        // The request was read, or is not needed: from here on the server works.
        if let Some(stranger) = self.exchange.stranger() {
            stranger.give_back();
            stranger.works();
        }
    }
}

/// The length of a message with its prefix; `None` if the prefix is not complete yet.
fn message_bytes(arrived: &[u8]) -> Option<usize> {
    let (prefix, _) = arrived.split_first_chunk::<PREFIX_BYTES>()?;
    let [_compressed, length @ ..] = prefix;
    usize::try_from(u32::from_be_bytes(*length))
        .ok()?
        .checked_add(PREFIX_BYTES)
}
