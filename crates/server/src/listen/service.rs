//! The service of the requests of a connection.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tessera_core::Timestamp;

use crate::edge::Peer;

/// One request that is being served.
pub(crate) type Serving<Body> = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Serves the requests of one connection.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    type Body: http_body::Body<Data = axum::body::Bytes, Error = axum::Error> + Send + 'static;

    /// Serves one request of `peer`.
    fn serve(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Serving<Self::Body>;

    /// The time for the header `date`; `None` if answers have no such header.
    fn now(&self) -> Option<Timestamp>;

    /// The other end of a new connection.
    fn peer(&self, address: SocketAddr) -> Peer;
}
