//! The admin socket while the authority starts: opening the data may take a while, in which the process lives.

use std::{io, os::fd::AsFd};

use axum::{
    Router,
    http::{HeaderName, StatusCode, header::CONNECTION},
    routing::get,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::admin;

const CLOSE: [(HeaderName, &str); 1] = [(CONNECTION, "close")];

/// Answers probes until it is dropped: alive, and not ready.
#[derive(Debug)]
pub struct Starting(JoinHandle<()>);

impl Starting {
    /// Begins to answer on a socket that the server serves later. Each connection is closed after its answer, so
    /// that the next is the server's.
    ///
    /// # Errors
    /// Fails where the socket can't be shared.
    pub fn answer(admin: &TcpListener) -> io::Result<Self> {
        let shared = admin.as_fd().try_clone_to_owned()?;
        let listener = TcpListener::from_std(std::net::TcpListener::from(shared))?;
        let router = Router::new()
            .route("/livez", get(|| async { (CLOSE, "alive\n") }))
            .fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, CLOSE, "not ready: starting\n") });
        Ok(Self(tokio::spawn(admin::serve_router(listener, router))))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
