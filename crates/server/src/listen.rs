//! Sockets that accept connections. Connections are counted, so that there are never more than can be served. Their
//! cost is bounded before they send anything. They are served as HTTP/2 or HTTP/1.1, whichever they use.

mod connection;
pub(crate) mod descriptors;
mod limits;
mod pem;
mod plaintext;
mod registry;
mod service;
mod talk;
mod tls;
mod turn;

use std::{future::Future, io, pin::pin, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    connection::Accepted,
    registry::{Registry, Share},
};
pub(crate) use self::{
    limits::SocketLimits,
    service::{Serve, Serving},
};
pub use self::{
    pem::{PemError, PemFile},
    tls::{Tls, TlsConfig, TlsError},
};
use crate::edge::Ending;

/// How often connections that may have to end are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an exchange of a caller without a credential may take while the server stops.
pub(crate) const UNFINISHED_MAX: Duration = Duration::from_secs(1);
/// How long to wait if no connection can be accepted: out of file descriptors, or of slots.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket.
pub(crate) struct Socket {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: SocketLimits,
    pub(crate) open: Gauge,
}

impl Socket {
    /// Serves until `stop` is ready, and then until the running exchanges have ended. If it is dropped before, those
    /// are cut off.
    pub(crate) async fn serve(self, service: impl Serve, stop: impl Future<Output = ()>) {
        let registry = Registry::new(&self.limits, self.open.clone());
        let mut connections = JoinSet::new();
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        // A connection ends only for one that has arrived, never for one that may arrive.
        let mut waiting = None;
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                _ = looks.tick() => registry.end_overdue(&self.limits),
                stream = accept(&self.listener, &registry), if waiting.is_none() => waiting = Some(stream),
                () = room(&registry), if waiting.is_some() => {
                    let Some(stream) = waiting.take() else { continue };
                    let Some((stream, share)) = admit(stream, &registry, &service) else { continue };
                    let accepted = Accepted {
                        stream,
                        tls: self.tls.clone(),
                        share,
                        streams_max: self.limits.streams_per_connection_max,
                    };
                    connections.spawn(accepted.serve(service.clone()));
                }
            }
        }
        drop(self.listener);
        registry.end_all(Ending::Gracefully);
        let all = async { while connections.join_next().await.is_some() {} };
        let mut all = pin!(all);
        if timeout(UNFINISHED_MAX, all.as_mut()).await.is_err() {
            // At most the head of a request, or a handshake, has begun there.
            registry.end_unused(UNFINISHED_MAX);
            all.await;
        }
    }
}

/// The next connection.
async fn accept(listener: &TcpListener, registry: &Registry) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The peer has left already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of file descriptors, or of memory: try again, but not in a tight loop.
                tracing::warn!(%error, "accepting a connection failed");
                registry.end_idlest();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ready once there is a slot for a connection that waits for one.
async fn room(registry: &Registry) {
    while !registry.makes_room() {
        sleep(ACCEPT_PAUSE).await;
    }
}

/// A share of the connections for a new one; `None` if its address has used its share.
fn admit(stream: TcpStream, registry: &Registry, service: &impl Serve) -> Option<(TcpStream, Share)> {
    let address = stream.peer_addr().ok()?;
    let share = registry.admit(service.peer(address));
    if share.is_none() {
        tracing::debug!(%address, "this address has too many connections");
    }
    Some((stream, share?))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use axum::body::Body;
    use http::{Request, Response};
    use hyper::body::Incoming;
    use tessera_core::Timestamp;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::Peer;

    #[derive(Clone)]
    struct Hello;

    impl Serve for Hello {
        type Body = Body;

        fn serve(&self, _: Arc<Peer>, _: Request<Incoming>) -> Serving<Body> {
            Box::pin(async { Ok(Response::new(Body::from("hello"))) })
        }

        fn now(&self) -> Option<Timestamp> {
            None
        }

        fn peer(&self, address: SocketAddr) -> Peer {
            Peer::new(address, 1024, 1024)
        }
    }

    async fn serve(connections_max: usize) -> SocketAddr {
        let minute = Duration::from_secs(60);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Socket {
            listener,
            tls: None,
            limits: SocketLimits {
                connections_max,
                connections_per_address_max: 100,
                streams_per_connection_max: 1,
                connection_idle_max: minute,
                stranger_idle_max: minute,
                answer_time_max: minute,
            },
            open: Gauge::default(),
        };
        tokio::spawn(socket.serve(Hello, std::future::pending()));
        address
    }

    /// Whether a request on the connection is answered.
    async fn is_answered(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 12];
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && {
                let mut rest = Vec::new();
                while !rest.ends_with(b"hello") && stream.read_buf(&mut rest).await.is_ok_and(|read| read > 0)
                {
                }
                &answer == b"HTTP/1.1 200"
            }
    }

    #[tokio::test]
    async fn a_connection_ends_for_one_that_is_there_and_not_before() {
        let address = serve(2).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            assert!(is_answered(&mut first).await && is_answered(&mut second).await);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(&mut third).await);
        assert!(!is_answered(&mut first).await, "the idlest one");
        assert!(is_answered(&mut second).await && is_answered(&mut third).await);
    }

    #[tokio::test]
    async fn one_place_serves_one_after_the_other() {
        let address = serve(1).await;
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(is_answered(&mut stream).await && is_answered(&mut stream).await);
        }
    }
}
