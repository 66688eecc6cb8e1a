//! Sockets that accept connections: counted, so that there are never more than can be served, bounded in what
//! they may cost before they say anything, and served as HTTP/2 or HTTP/1.1, whichever they speak.

mod connection;
pub(crate) mod descriptors;
mod limits;
mod pem;
mod registry;
mod service;
mod talk;
mod tls;

use std::{future::Future, pin::pin, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
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

/// How often connections are looked at that may have to end.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait where no connection can be accepted: out of file descriptors, or of places.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket.
pub(crate) struct Socket {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: SocketLimits,
    pub(crate) open: Gauge,
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
