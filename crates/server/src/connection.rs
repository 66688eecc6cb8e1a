//! Connections to the public socket: counted, so that there are never more than can be served, bounded in
//! what they may cost before they say anything, and served as HTTP/2 or HTTP/1.1, whichever they speak.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::tls::Tls;

/// How long a peer may take to say what it speaks, and to send the head of a request of HTTP/1.1.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// What a connection of HTTP/2 begins with is as long as this; no request of HTTP/1.1 is much shorter.
const PREFACE_BYTES: usize = 24;
const HEADERS_BYTES_MAX: u32 = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// Who is at the other end, in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// The public socket.
pub(crate) struct Public {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
    /// How many connections there may be at once; further ones wait in the listener's backlog.
    pub(crate) connections_max: usize,
    pub(crate) open: Gauge,
}

impl Public {
    /// Serves until `stop` is ready, and then until the calls under way have ended. Where it is dropped
    /// before, those are cut off.
    pub(crate) async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let places = Arc::new(Semaphore::new(self.connections_max));
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                (stream, place) = accept(&self.listener, &places) => {
                    let connection = Accepted {
                        stream,
                        tls: self.tls.clone(),
                        place: Place::take(place, &self.open),
                    };
                    connections.spawn(connection.serve(router.clone(), graceful.watcher()));
                }
            }
        }
        drop(self.listener);
        graceful.shutdown().await;
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                // Out of file descriptors, or the peer left already: try again, but not in a tight loop.
                tracing::warn!(%error, "accepting a connection failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A connection's place among those that may be open; given back at its end.
struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit, open: &Gauge) -> Self {
        open.inc();
        Self {
            open: open.clone(),
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

struct Accepted {
    stream: TcpStream,
    tls: Option<Tls>,
    place: Place,
}

impl Accepted {
    async fn serve(self, router: Router, watcher: Watcher) {
        let Self { stream, tls, place } = self;
        let Ok(peer) = stream.peer_addr() else { return };
        // Small answers must not wait for more to come. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        match tls {
            None => serve(stream, peer, router, watcher).await,
            Some(tls) => match timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(tls.0).accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, peer, router, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            },
        }
        drop(place);
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        request.map(axum::body::Body::new)
    });
    let builder = protocol();
    let stream = TokioIo::new(Connection::new(stream));
    let connection = builder.serve_connection(stream, TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// The limits that a public server needs; several are off unless they are set.
fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(2 * HEADERS_BYTES_MAX as usize)
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1024)
        .max_local_error_reset_streams(256)
        .max_pending_accept_reset_streams(20)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// A stream whose peer must say something in time.
struct Connection<S> {
    stream: S,
    /// What the peer has said is counted until it is enough.
    heard: usize,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            heard: 0,
            silence: Some(Box::pin(sleep(HEAD_TIME_MAX))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_cut_off() {
        let (mut peer, stream) = duplex(1024);
        let mut connection = Connection::new(stream);
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
        let mut connection = Connection::new(stream);
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut bytes = [0; 64];
        assert_eq!(connection.read(&mut bytes).await.unwrap(), PREFACE_BYTES);
        let reading = tokio::spawn(async move { connection.read(&mut [0; 64]).await });
        tokio::time::advance(HEAD_TIME_MAX * 10).await;
        peer.write_all(b"x").await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 1);
    }
}
