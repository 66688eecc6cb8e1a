//! The body of an answer: until it is taken, its exchange keeps its slots. A peer that does not take it in time loses
//! its connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::{calls::Edge, exchange::Exchange, peer::UntakenAnswer, route::Shape, strangers::Stranger};
use crate::{
    error::ApiError,
    grpc::status::{self, Sent},
};

/// The body of one answer.
pub(crate) struct AnswerBody {
    inner: Inner,
    held: Arc<Held>,
    /// Observes how the call is answered, if that is not known before the first part.
    opened: Option<Arc<Edge>>,
    /// Whether it says that its exchange was ended: then it is not cut off for that reason.
    is_farewell: bool,
    /// Whether it was ended before its own end.
    is_over: bool,
}

/// What an answer holds until the last part of it is written to its connection.
struct Held {
    exchange: Arc<Exchange>,
    /// `None` if the answer is a stream, which has no time limit.
    _untaken: Option<UntakenAnswer>,
}

/// A part of an answer. HTTP/2 takes a part as a whole as soon as the peer lets it send one byte. From there on it is
/// in the connection's buffer, and the body may be gone: so the part itself holds what the answer holds.
struct Part {
    bytes: Bytes,
    held: Arc<Held>,
}

impl Part {
    fn of(held: &Arc<Held>, bytes: Bytes) -> Bytes {
        if let Some(stranger) = held.exchange.stranger() {
            stranger.part_given();
        }
        let held = Arc::clone(held);
        Bytes::from_owner(Self { bytes, held })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(stranger) = self.held.exchange.stranger() {
            stranger.part_written();
        }
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body that a handler made.
pub(crate) enum Inner {
    Http(Body),
    Grpc(tonic::body::Body),
}

impl From<Body> for Inner {
    fn from(body: Body) -> Self {
        Self::Http(body)
    }
}

impl From<tonic::body::Body> for Inner {
    fn from(body: tonic::body::Body) -> Self {
        Self::Grpc(body)
    }
}

impl Inner {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self {
            Self::Http(body) => Pin::new(body).poll_frame(cx),
            Self::Grpc(body) => Pin::new(body).poll_frame(cx).map_err(axum::Error::new),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Grpc(body) => body.size_hint(),
        }
    }
}

impl AnswerBody {
    /// `opened` observes the answer of a stream.
    pub(super) fn new(
        inner: Inner,
        exchange: Arc<Exchange>,
        is_stream: bool,
        opened: Option<Arc<Edge>>,
    ) -> Self {
        let is_farewell = exchange.stranger().is_some_and(Stranger::is_evicted);
        if let Some(stranger) = exchange.stranger() {
            stranger.answers();
        }
        let untaken = (!is_stream && !inner.is_end_stream()).then(|| exchange.peer.give_answer());
        Self {
            inner,
            held: Arc::new(Held {
                exchange,
                _untaken: untaken,
            }),
            opened,
            is_farewell,
            is_over: false,
        }
    }

    /// The first part, or the end, of a stream: trailers say why it was refused.
    fn observe(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(edge) = self.opened.take() {
            let sent = trailers.and_then(Sent::of);
            let outcome = sent.as_ref().map_or(Ok(()), |sent| Err(sent.into()));
            edge.observe_stream(&self.held.exchange, outcome);
        }
    }

    /// Another exchange took its slot, or the server is stopping: a gRPC call is told why, an HTTP answer is cut off.
    fn evicted(&mut self) -> Option<Result<Frame<Bytes>, axum::Error>> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let exchange = &self.held.exchange;
        let error = exchange
            .stranger()
            .map_or_else(ApiError::overloaded, Stranger::eviction);
        match exchange.route.shape {
            Shape::Http => Some(Err(axum::Error::new(error))),
            Shape::Unary | Shape::Stream => Some(Ok(Frame::trailers(status::trailers(&error)))),
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let stranger = this.held.exchange.stranger();
        let is_evicted =
            stranger.is_some_and(|stranger| stranger.poll_evicted(cx.waker())) && !this.is_farewell;
        let mut polled = if is_evicted {
            Poll::Ready(this.evicted())
        } else {
            this.inner.poll_frame(cx)
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            status::bound(trailers);
            this.observe(Some(trailers));
        }
        if polled.is_ready() {
            this.observe(None);
        }
        polled.map_ok(|frame| frame.map_data(|bytes| Part::of(&this.held, bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The peer left before the first part.
        self.observe(None);
    }
}
