//! Accepted connections: counted, so that there are never more than can be served.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Who is at the other end, in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// A connection that holds its place until it is closed.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections, at most `max` at once; further ones wait in the listener's backlog.
pub(crate) fn accept(
    listener: TcpListener,
    max: usize,
    open: Gauge,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(max));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Small answers must not wait for more to come. Without it they are only slower.
                        let _ = stream.set_nodelay(true);
                        open.inc();
                        let connection = Connection { stream, peer, open: open.clone(), _place: place };
                        if sender.send(Ok(connection)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        // Out of file descriptors, or the peer left already: try again, but not in a tight loop.
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
            }
        }
    });
    ReceiverStream::new(receiver)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerAddress;

    fn connect_info(&self) -> PeerAddress {
        PeerAddress(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

/// Not vectored on purpose: for small answers one copied buffer is measurably cheaper than `writev`.
impl AsyncWrite for Connection {
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
