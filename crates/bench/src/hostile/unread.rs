//! Requests of public content, without a credential, whose answers are never read.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client;
use http::Request;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::sleep};

use super::announcement::announce;
use crate::failure::Failure;

const CONNECTIONS: usize = 100;
/// How many answers a connection leaves unread.
const ANSWERS: usize = 100;
/// How long a connection that ended waits before it is made again.
const PAUSE: Duration = Duration::from_millis(50);
/// A server may send one byte of each answer, and as many answers as it likes.
const STREAM_WINDOW: u32 = 1;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// The public content, and a question of reflection.
const PATHS: [&str; 4] = [
    "/openapi.json",
    "/keys",
    "/production/.well-known/oauth-authorization-server",
    REFLECTION,
];
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const SYMBOL: &[u8] = b"tessera.v1.TokenService";

/// Leaves as many answers unread as the server allows.
pub(super) async fn leave_unread(url: &str) -> Result<(), Failure> {
    let address = url.trim_start_matches("http://").to_owned();
    let made = Arc::new(Semaphore::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(connection(address.clone(), Arc::clone(&made)));
    }
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = made.acquire_many(all).await;
    announce();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// One connection; it is made again when it ends.
async fn connection(address: String, made: Arc<Semaphore>) {
    loop {
        // It was refused or ended, as the server should do.
        let _ = unread(&address, &made).await;
        made.add_permits(1);
        sleep(PAUSE).await;
    }
}

async fn unread(address: &str, made: &Semaphore) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let running = tokio::spawn(connection);
    let mut kept = Vec::new();
    for path in PATHS.iter().cycle().take(ANSWERS) {
        sender = sender.ready().await?;
        let is_reflection = *path == REFLECTION;
        let request = Request::builder().uri(format!("http://tessera{path}"));
        let request = if is_reflection {
            let request = request.method("POST").header("te", "trailers");
            request.header("content-type", "application/grpc")
        } else {
            request
        };
        let (answer, mut body) = sender.send_request(request.body(())?, !is_reflection)?;
        if is_reflection {
            body.send_data(question(), false)?;
        }
        kept.push((answer, body));
    }
    made.add_permits(1);
    running.await??;
    Ok(())
}

/// A message that asks for the file of [`SYMBOL`].
fn question() -> Bytes {
    let length = u8::try_from(SYMBOL.len()).unwrap_or(u8::MAX);
    // The field `file_containing_symbol`.
    let message = [&[0x22, length][..], SYMBOL].concat();
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    [&[0, 0, 0, 0, length][..], &message].concat().into()
}
