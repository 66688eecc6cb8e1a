//! One connection, from its acceptance to its end.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderValue, Request, Response, Version, header::DATE};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tessera_core::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Serve, registry::Share};
use crate::{
    edge::{Ending, Peer},
    tls::Tls,
};

/// How long a peer may take to say what it speaks, and to send the head of a request of HTTP/1.1.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// What a connection of HTTP/2 begins with is as long as this; no request of HTTP/1.1 is much shorter.
const PREFACE_BYTES: usize = 24;
/// The longest token, a browser's cookie of 16 KiB, and what else proxies send along.
const HEADERS_BYTES_MAX: u32 = 48 * 1024;
/// The same of HTTP/1.1 with the request line.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Browsers and the proxies behind them send a hundred.
const HEADERS_MAX: usize = 128;
/// What a peer may send on a stream before we have read what it sent. A connection may have so much of each of
/// its streams: where it had less, calls that wait their turn would keep the others' messages from arriving.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
/// What we hold of an answer for a peer that does not read.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) tls: Option<Tls>,
    pub(super) share: Share,
    pub(super) streams_max: u32,
}

impl Accepted {
    pub(super) async fn serve(self, service: impl Serve) {
        let Self {
            stream,
            tls,
            share,
            streams_max,
        } = self;
        let peer = &share.peer;
        let address = peer.address();
        // Small answers must not wait for more to come. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return serve(stream, peer, streams_max, service).await;
        };
        let handshake = timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(tls.0).accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            _ = peer.ends() => return,
        };
        match shaken {
            Ok(Ok(stream)) => serve(stream, peer, streams_max, service).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        }
    }
}

async fn serve<S>(stream: S, peer: &Arc<Peer>, streams_max: u32, service: impl Serve)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let of = Arc::clone(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, of, version) = (service.clone(), Arc::clone(&of), request.version());
        async move {
            let answered = service.serve(of, request).await;
            answered.map(|answer| dated(answer, version, service.now()))
        }
    });
    let builder = protocol(streams_max);
    let stream = TokioIo::new(Connection::new(stream, Arc::clone(peer)));
    let mut connection = pin!(builder.serve_connection(stream, service));
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(address = %peer.address(), %error, "a connection broke");
                }
                return;
            }
            ending = peer.ends() => match ending {
                Ending::Gracefully => connection.as_mut().graceful_shutdown(),
                Ending::Now => return,
            }
        }
    }
}

/// An answer with the time at which it was made (RFC 9110 §6.6.1). gRPC has no use for it.
fn dated<B>(mut answer: Response<B>, version: Version, now: Option<Timestamp>) -> Response<B> {
    if version < Version::HTTP_2
        && let Some(date) = now.and_then(date)
    {
        answer.headers_mut().insert(DATE, date);
    }
    answer
}

/// The time as the header `date` has it. Its year must have four digits, and no timestamp's has more.
fn date(now: Timestamp) -> Option<HeaderValue> {
    let since = Duration::from_millis(u64::try_from(now.as_millis()).ok()?);
    HeaderValue::from_str(&httpdate::fmt_http_date(UNIX_EPOCH + since)).ok()
}

/// The limits that a public server needs; several are off unless they are set.
fn protocol(streams_max: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // As below; the header is ours.
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .writev(false);
    builder
        .http2()
        // Its year has four digits: a clock beyond that would end each connection with a panic.
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .max_local_error_reset_streams(256)
        .max_pending_accept_reset_streams(20)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_connection_window_size(streams_max.saturating_add(1).saturating_mul(STREAM_WINDOW_BYTES))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// A stream whose peer must say something in time, and from which nothing is read while it is paused.
struct Connection<S> {
    stream: S,
    peer: Arc<Peer>,
    pause: Option<Pin<Box<Sleep>>>,
    /// What the peer has said is counted until it is enough.
    heard: usize,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    fn new(stream: S, peer: Arc<Peer>) -> Self {
        Self {
            stream,
            peer,
            pause: None,
            heard: 0,
            silence: Some(Box::pin(sleep(HEAD_TIME_MAX))),
        }
    }

    /// Ready when it is not paused.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.peer.paused_for() {
                Some(time) => self.pause = Some(Box::pin(sleep(time))),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_pause(cx));
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(silence) = &mut self.silence else {
            return read;
        };
        if read.is_pending() {
            return silence
                .as_mut()
                .poll(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        self.heard += buffer.filled().len() - before;
        if self.heard >= PREFACE_BYTES {
            self.silence = None;
        }
        read
    }
}

/// Not vectored on purpose: for small answers one copied buffer is measurably cheaper than `writev`.
impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    fn of_a_stranger() -> Arc<Peer> {
        Arc::new(Peer::new(([127, 0, 0, 1], 1).into(), 1, 1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_cut_off() {
        let (mut peer, stream) = duplex(1024);
        let mut connection = Connection::new(stream, of_a_stranger());
        let began = Instant::now();
        peer.write_all(b"PRI").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 3);
        let error = connection.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), HEAD_TIME_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_spoken_may_be_silent() {
        let (mut peer, stream) = duplex(1024);
        let mut connection = Connection::new(stream, of_a_stranger());
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(connection.read(&mut bytes).await.unwrap(), PREFACE_BYTES);
        let reading = tokio::spawn(async move { connection.read(&mut [0; 64]).await });
        tokio::time::advance(HEAD_TIME_MAX * 10).await;
        peer.write_all(b"x").await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 1);
    }

    #[test]
    fn every_time_has_a_date() {
        let date_of = |millis| date(Timestamp::from_millis(millis));
        assert_eq!(date_of(1999).unwrap(), "Thu, 01 Jan 1970 00:00:01 GMT");
        assert!(
            date_of(i64::MAX)
                .unwrap()
                .to_str()
                .unwrap()
                .contains(" Dec 9999 ")
        );
        assert!(date_of(i64::MIN).is_some());
    }
}
