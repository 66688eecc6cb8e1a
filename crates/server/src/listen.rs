//! Sockets that accept connections: counted, so that there are never more than can be served, bounded in what
//! they may cost before they say anything, and served as HTTP/2 or HTTP/1.1, whichever they speak.

mod connection;
pub(crate) mod descriptors;
mod registry;
mod talk;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use tessera_core::Timestamp;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    connection::Accepted,
    registry::{Registry, Share},
};
use crate::{
    edge::{Ending, Peer},
    tls::Tls,
};

/// How often connections are looked at that may have to end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait where no connection can be accepted: out of file descriptors, or of places.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of a socket.
#[derive(Clone, Debug)]
pub(crate) struct SocketLimits {
    /// How many connections there may be at once; further ones wait in the listener's backlog, unless an idle
    /// one can be ended for them.
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) streams_per_connection_max: u32,
    pub(crate) connection_idle_max: Duration,
    /// The same where no client was authenticated on the connection.
    pub(crate) stranger_idle_max: Duration,
    pub(crate) answer_time_max: Duration,
}

/// A socket.
pub(crate) struct Socket {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: SocketLimits,
    pub(crate) open: Gauge,
}

/// One request that is being served.
pub(crate) type Serving<Body> = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// What serves the requests of one connection.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    type Body: http_body::Body<Data = axum::body::Bytes, Error = axum::Error> + Send + 'static;

    /// Serves one request of `peer`.
    fn serve(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Serving<Self::Body>;

    /// The time for the header `date`; none where answers have none.
    fn now(&self) -> Option<Timestamp>;

    /// The other end of a new connection.
    fn peer(&self, address: SocketAddr) -> Peer;
}

impl Socket {
    /// Serves until `stop` is ready, and then until the exchanges under way have ended. Where it is dropped
    /// before, those are cut off.
    pub(crate) async fn serve(self, service: impl Serve, stop: impl Future<Output = ()>) {
        let registry = Registry::new(&self.limits, self.open.clone());
        let mut connections = JoinSet::new();
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                _ = looks.tick() => registry.end_overdue(&self.limits),
                stream = accept(&self.listener, &registry) => {
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
        while connections.join_next().await.is_some() {}
    }
}

/// The next connection, once there is a place for one.
async fn accept(listener: &TcpListener, registry: &Registry) -> TcpStream {
    loop {
        if !registry.makes_room() {
            sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Out of file descriptors, or the peer left already: try again, but not in a tight loop.
                tracing::warn!(%error, "accepting a connection failed");
                registry.end_idlest();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A share of the connections for a new one; none where its address has its share.
fn admit(stream: TcpStream, registry: &Registry, service: &impl Serve) -> Option<(TcpStream, Share)> {
    let address = stream.peer_addr().ok()?;
    let share = registry.admit(service.peer(address));
    if share.is_none() {
        tracing::debug!(%address, "this address has too many connections");
    }
    Some((stream, share?))
}
