//! One connection, from its acceptance to its end.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
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
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    plaintext,
    registry::Share,
    service::Serve,
    talk::{Come, Talk},
    tls::Tls,
    turn::AfterOthers,
};
use crate::edge::{Ending, Peer};

/// How long a peer may take until its protocol is known, and to send the head of a request of HTTP/1.1 once it has
/// begun.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// The first bytes of a connection of HTTP/2 (RFC 9113 §3.4); no request of HTTP/1.1 is much shorter.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for the longest token, a browser's cookie of 16 KiB, and the other headers of proxies.
const HEADERS_BYTES_MAX: u32 = 48 * 1024;
/// The same for HTTP/1.1 with the request line.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Browsers and the proxies behind them send up to a hundred.
const HEADERS_MAX: usize = 128;
/// The bytes that a peer may send on a stream before we have read them. A connection may have as many for each of its
/// streams: with less, calls that wait for their turn would keep the messages of other calls from arriving.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
/// The bytes of an answer that we hold for a peer that does not read.
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
        // Small answers must not wait for more data. Without this option they are only slower.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return serve(stream, peer, streams_max, service).await;
        };
        let handshake = timeout(HANDSHAKE_TIME_MAX, handshake(stream, &tls));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            _ = peer.ends() => return,
        };
        match shaken {
            Ok(Ok(Some(stream))) => serve(stream, peer, streams_max, service).await,
            Ok(Ok(None)) => tracing::debug!(%address, "plaintext HTTP came to the port, which speaks TLS"),
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        }
    }
}

/// The encrypted stream. `None`: the client does not speak TLS, and was told.
async fn handshake(stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
    if plaintext::is_plaintext(&stream).await {
        plaintext::refuse(stream).await;
        return Ok(None);
    }
    TlsAcceptor::from(tls.config()).accept(stream).await.map(Some)
}

async fn serve<S>(stream: S, peer: &Arc<Peer>, streams_max: u32, service: impl Serve)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let of = Arc::clone(peer);
    let requests = Arc::new(Requests::default());
    let stream = TokioIo::new(Connection::new(stream, Arc::clone(peer), Arc::clone(&requests)));
    let service = service_fn(move |request: Request<Incoming>| {
        let begun = Begun::new(&requests);
        let (service, of, version) = (service.clone(), Arc::clone(&of), request.version());
        async move {
            let _begun = begun;
            let answered = service.serve(of, request).await;
            answered.map(|answer| dated(answer, version, service.now()))
        }
    });
    let builder = protocol(streams_max);
    let connection = pin!(builder.serve_connection(stream, service));
    let mut connection = AfterOthers::new(connection);
    loop {
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(address = %peer.address(), %error, "a connection broke");
                }
                return;
            }
            ending = peer.ends() => match ending {
                Ending::Gracefully => connection.inner().as_mut().graceful_shutdown(),
                Ending::Now => return,
            }
        }
    }
}

/// An answer with the time at which it was made (RFC 9110 §6.6.1). gRPC does not use it.
fn dated<B>(mut answer: Response<B>, version: Version, now: Option<Timestamp>) -> Response<B> {
    if version < Version::HTTP_2
        && let Some(date) = now.and_then(date)
    {
        answer.headers_mut().insert(DATE, date);
    }
    answer
}

/// The time in the format of the header `date`. Its year must have four digits, and no timestamp has more.
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
        // hyper's timeout would also end connections that are idle for a while: `Connection` has its own.
        .header_read_timeout(None)
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

/// The requests of one connection.
#[derive(Default)]
struct Requests {
    /// How many have arrived, counted when their head is complete.
    come: AtomicU64,
    /// How many of them are not answered yet. The peer counts those whose answer is not taken.
    unanswered: AtomicUsize,
}

/// A request whose head has arrived; dropping this marks it as answered.
struct Begun(Arc<Requests>);

impl Begun {
    fn new(requests: &Arc<Requests>) -> Self {
        requests.come.fetch_add(1, Ordering::Relaxed);
        requests.unanswered.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(requests))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose peer must send something in time, and with HTTP/1.1 complete the head of a request that it has begun;
/// nothing is read from it while it is paused.
struct Connection<S> {
    stream: S,
    peer: Arc<Peer>,
    pause: Option<Pin<Box<Sleep>>>,
    requests: Arc<Requests>,
    /// The received bytes are counted until there are enough.
    heard: usize,
    silence: Option<Pin<Box<Sleep>>>,
    /// The first bytes: the protocol.
    start: [u8; PREFACE.len()],
    head: Option<Head>,
    talk: Talk,
}

/// The head of a request that has begun and is not complete.
struct Head {
    /// How many requests had arrived before.
    before: u64,
    late: Pin<Box<Sleep>>,
}

impl<S> Connection<S> {
    fn new(stream: S, peer: Arc<Peer>, requests: Arc<Requests>) -> Self {
        Self {
            stream,
            peer,
            pause: None,
            requests,
            heard: 0,
            silence: Some(Box::pin(sleep(HEAD_TIME_MAX))),
            start: [0; PREFACE.len()],
            head: None,
            talk: Talk::new(),
        }
    }

    /// Delays further reading if the peer sends much besides its requests.
    fn count(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let come = Come {
            requests: self.requests.come.load(Ordering::Relaxed),
            body_bytes: self.peer.body_bytes(),
            is_client: self.peer.is_authenticated(),
        };
        if let Some(pause) = self.talk.read(bytes, come) {
            self.pause = Some(Box::pin(sleep(pause)));
        }
    }

    /// Records the received bytes, and whether they begin the head of a request of HTTP/1.1.
    fn hear(&mut self, bytes: &[u8]) {
        for (place, byte) in self.start.iter_mut().skip(self.heard).zip(bytes) {
            *place = *byte;
        }
        self.heard += bytes.len();
        if self.heard >= PREFACE.len() {
            self.silence = None;
        }
        if self
            .start
            .iter()
            .zip(PREFACE)
            .take(self.heard)
            .all(|(said, of_http_2)| *said == of_http_2)
        {
            return;
        }
        let before = self.requests.come.load(Ordering::Relaxed);
        if self.head.as_ref().is_some_and(|head| head.before != before) {
            self.head = None;
        }
        // While a request is running, the bytes belong to its body.
        if self.head.is_none() && !bytes.is_empty() && self.is_idle() {
            let late = Box::pin(sleep(HEAD_TIME_MAX));
            self.head = Some(Head { before, late });
        }
    }

    /// Ready if the head of a request takes too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(head) = &mut self.head else {
            return Poll::Pending;
        };
        if head.before != self.requests.come.load(Ordering::Relaxed) {
            self.head = None;
            return Poll::Pending;
        }
        head.late.as_mut().poll(cx)
    }

    /// Whether no request is running.
    fn is_idle(&self) -> bool {
        self.requests.unanswered.load(Ordering::Relaxed) == 0 && self.peer.idle_for().is_some()
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
        self.hear(buffer.filled().get(before..).unwrap_or_default());
        self.count(buffer.filled().len().saturating_sub(before));
        if read.is_ready() {
            return read;
        }
        let is_silent = self
            .silence
            .as_mut()
            .is_some_and(|silence| silence.as_mut().poll(cx).is_ready());
        if is_silent || self.poll_late(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, advance},
    };

    use std::net::SocketAddr;

    use axum::body::Body;
    use http::{Request, Response};
    use hyper::body::Incoming;

    use super::*;
    use crate::listen::Serving;

    /// The other end of a connection, what reads from it, and the number of requests on it.
    struct World {
        other_end: DuplexStream,
        connection: Connection<DuplexStream>,
        peer: Arc<Peer>,
        requests: Arc<Requests>,
    }

    fn world() -> World {
        let (other_end, stream) = duplex(1024);
        let peer = Arc::new(Peer::new(([127, 0, 0, 1], 1).into(), 1, 1));
        let requests = Arc::new(Requests::default());
        World {
            other_end,
            connection: Connection::new(stream, Arc::clone(&peer), Arc::clone(&requests)),
            peer,
            requests,
        }
    }

    impl World {
        async fn hears(&mut self, bytes: &[u8]) {
            self.other_end.write_all(bytes).await.unwrap();
            let mut heard = vec![0; bytes.len()];
            self.connection.read_exact(&mut heard).await.unwrap();
        }

        /// Whether it is cut off, and after how long.
        async fn cut_off_within(&mut self, time: Duration) -> Option<Duration> {
            let began = Instant::now();
            let mut bytes = [0; 64];
            let read = self.connection.read(&mut bytes);
            let read = timeout(time, read).await.ok()?;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
            Some(began.elapsed())
        }
    }

    /// Answers everything.
    #[derive(Clone)]
    struct Answers;

    impl Serve for Answers {
        type Body = Body;

        fn serve(&self, peer: Arc<Peer>, _: Request<Incoming>) -> Serving<Body> {
            Box::pin(async move {
                let _exchange = peer.begin_exchange();
                Ok(Response::new(Body::from("good")))
            })
        }

        fn now(&self) -> Option<Timestamp> {
            None
        }

        fn peer(&self, address: SocketAddr) -> Peer {
            Peer::new(address, 1, 1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_after_minutes_without_one_is_answered_on_the_same_connection() {
        let (mut other_end, stream) = duplex(4096);
        let peer = Arc::new(Answers.peer(([127, 0, 0, 1], 1).into()));
        let serving = tokio::spawn(async move { serve(stream, &peer, 10, Answers).await });
        for _ in 0..3 {
            other_end
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut answer = [0; 256];
            let length = other_end.read(&mut answer).await.unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
            advance(HEAD_TIME_MAX * 10).await;
        }
        other_end.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        timeout(HEAD_TIME_MAX * 2, serving).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_cut_off() {
        let mut world = world();
        world.hears(b"PRI").await;
        assert_eq!(world.cut_off_within(HEAD_TIME_MAX * 2).await, Some(HEAD_TIME_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_speaks_http_2_may_be_silent() {
        let mut world = world();
        world.hears(&PREFACE).await;
        assert_eq!(world.cut_off_within(HEAD_TIME_MAX * 10).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_cut_off() {
        let mut world = world();
        world.hears(b"GET /keys HTTP/1.1\r\nhost: x\r\n").await;
        // More bytes of it give no more time.
        advance(HEAD_TIME_MAX / 2).await;
        world.hears(b"x: y\r\n").await;
        assert_eq!(
            world.cut_off_within(HEAD_TIME_MAX * 2).await,
            Some(HEAD_TIME_MAX / 2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_letter_by_letter_is_one_of_http_1() {
        for method in ["POST", "PRI", "PRINT"] {
            let mut world = self::world();
            let head = format!("{method} / HTTP/1.1\r\nhost: x\r\n");
            for byte in head.bytes() {
                world.hears(&[byte]).await;
            }
            assert_eq!(world.cut_off_within(HEAD_TIME_MAX * 2).await, Some(HEAD_TIME_MAX));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_a_connection_may_be_idle_and_during_one_slow() {
        let mut world = world();
        for _ in 0..2 {
            world.hears(b"POST /keys HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let begun = Begun::new(&world.requests);
            world.hears(b"the first half of a body").await;
            let exchange = world.peer.begin_exchange();
            world.hears(b"the second half of a body").await;
            drop(begun);
            assert_eq!(world.cut_off_within(HEAD_TIME_MAX * 3).await, None);
            drop(exchange);
            assert_eq!(world.cut_off_within(HEAD_TIME_MAX * 3).await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_part_of_no_request_is_read_slowly() {
        for (is_body, limits) in [(false, 5..60), (true, 0..1)] {
            let mut world = self::world();
            world.hears(&PREFACE).await;
            let began = Instant::now();
            for _ in 0..2048 {
                world.hears(&[0; 1024]).await;
                if is_body {
                    world.peer.took_body(1024);
                }
            }
            let seconds = began.elapsed().as_secs();
            assert!(limits.contains(&seconds), "{is_body}: {seconds} s");
        }
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
