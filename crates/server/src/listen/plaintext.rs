//! Plaintext HTTP on a port that speaks TLS.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The answer, to a client that would take the alert of TLS for a broken server.
const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\n\
    content-length: 35\r\n\
    connection: close\r\n\
    \r\n\
    this port speaks TLS: use https://\n";
/// How long the client may take to read it.
const TIME_MAX: Duration = Duration::from_secs(1);
/// What is read of the request meanwhile: with unread bytes, closing would take the answer away.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Whether a connection begins with a request of HTTP/1.1. No handshake begins with a letter. The preface of HTTP/2 without
/// TLS is left to TLS, whose alert tells gRPC clients more than an answer that they can't read.
pub(super) async fn is_plaintext(stream: &TcpStream) -> bool {
    let mut first = [0; 4];
    let count = stream.peek(&mut first).await.unwrap_or_default();
    let first = first.get(..count).unwrap_or_default();
    first.len() > 2
        && first
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b' ')
        && !first.starts_with(b"PRI")
}

/// Tells the client what the port speaks.
pub(super) async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await?;
        let mut rest = tokio::io::sink();
        tokio::io::copy(&mut stream.take(READ_BYTES_MAX), &mut rest).await
    };
    // A client that is gone needs no answer.
    let _ = timeout(TIME_MAX, told).await;
}
