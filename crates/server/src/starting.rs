//! The admin socket while the authority starts: opening the data may take a while, during which the process is alive.

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
    /// Begins to answer on a socket that the server serves later, and reports `how_far` the start is. Each connection
    /// is closed after its answer, so that the next one goes to the server.
    ///
    /// # Errors
    /// Fails if the socket can't be shared.
    pub fn answer(
        admin: &TcpListener,
        how_far: impl Fn() -> String + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = admin.as_fd().try_clone_to_owned()?;
        let listener = TcpListener::from_std(std::net::TcpListener::from(shared))?;
        let router = Router::new()
            .route("/livez", get(|| async { (CLOSE, "alive\n") }))
            .fallback(move || {
                let text = format!("not ready: starting: {}\n", how_far());
                async { (StatusCode::SERVICE_UNAVAILABLE, CLOSE, text) }
            });
        Ok(Self(tokio::spawn(admin::serve_router(listener, router))))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn a_probe_is_told_how_far_the_start_is() {
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _starting = Starting::answer(&admin, || "checking the rows (34 %)".to_owned()).unwrap();
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(admin.local_addr().unwrap()).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ready = ask("/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
        assert!(
            ready.ends_with("\r\n\r\nnot ready: starting: checking the rows (34 %)\n"),
            "{ready}"
        );
        assert!(ask("/livez").await.ends_with("\r\n\r\nalive\n"));
    }
}
