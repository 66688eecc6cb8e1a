//! Requests without a credential that are never finished.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::sleep};

use super::announcement::announce;
use crate::failure::Failure;

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 100;
/// How often per second one of the connections begins a new request for those that were ended.
const BEGUN_ANEW_PER_SECOND: u64 = 20;

/// All services: paths with the longest message of each.
const PATHS: [(&str, u32); 9] = [
    ("/tessera.v1.PolicyService/Plan", 1_100_000),
    ("/tessera.v1.TokenService/IntrospectMany", 500_000),
    ("/tessera.v1.TokenService/Issue", 60_000),
    ("/tessera.v1.RevocationService/Watch", 16_000),
    ("/tessera.v1.KeyService/ListKeys", 4_000),
    ("/grpc.health.v1.Health/Check", 4_000),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 4_000),
    ("/envoy.service.auth.v3.Authorization/Check", 250_000),
    ("/oauth2/token", 60_000),
];

/// The paths with their unfinished messages.
type Messages = Arc<[(&'static str, Bytes)]>;

/// Keeps as many requests unfinished as the server allows.
pub(super) async fn leave_unfinished(url: &str) -> Result<(), Failure> {
    let address = url.trim_start_matches("http://").to_owned();
    let begun = Arc::new(Semaphore::new(0));
    let mut connections = JoinSet::new();
    // Made once: what making them costs this program would be missing to the server on the same processors.
    let messages: Messages = PATHS
        .iter()
        .map(|(path, length)| (*path, unfinished_message(*length)))
        .collect();
    for _ in 0..CONNECTIONS {
        connections.spawn(connection(
            address.clone(),
            Arc::clone(&messages),
            Arc::clone(&begun),
        ));
    }
    let all = u32::try_from(REQUESTS).unwrap_or(u32::MAX);
    let _ = begun.acquire_many(all).await;
    announce();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// One connection with its share of the requests; it is made again when it ends.
async fn connection(address: String, messages: Messages, begun: Arc<Semaphore>) {
    loop {
        // It was refused or ended, as the server should do.
        let _ = requests(&address, &messages, &begun).await;
        // A request that could not be begun counts as tried.
        begun.add_permits(1);
        sleep(Duration::from_millis(1000 / BEGUN_ANEW_PER_SECOND)).await;
    }
}

async fn requests(
    address: &str,
    messages: &[(&'static str, Bytes)],
    begun: &Semaphore,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = client::handshake(stream).await?;
    let mut running = tokio::spawn(connection);
    let mut unfinished = JoinSet::new();
    let share = REQUESTS / CONNECTIONS;
    for (path, message) in messages.iter().cycle() {
        if unfinished.len() >= share {
            tokio::select! {
                _ = unfinished.join_next() => {}
                _ = &mut running => return Ok(()),
            }
            sleep(Duration::from_millis(1000 / BEGUN_ANEW_PER_SECOND)).await;
        }
        sender = sender.ready().await?;
        let (answer, body) = begin(&mut sender, path)?;
        begun.add_permits(1);
        unfinished.spawn(keep_unfinished(answer, body, message.clone()));
    }
    Ok(())
}

fn begin(
    sender: &mut SendRequest<Bytes>,
    path: &str,
) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::post(format!("http://tessera{path}"));
    let kind = if path.starts_with("/oauth2") {
        "application/x-www-form-urlencoded"
    } else {
        "application/grpc"
    };
    let request = request.header("content-type", kind).header("te", "trailers");
    Ok(sender.send_request(request.body(())?, false)?)
}

/// Sends an unfinished message, as far as the server accepts it, and then nothing.
async fn keep_unfinished(answer: ResponseFuture, mut body: h2::SendStream<Bytes>, message: Bytes) {
    // What the windows do not allow stays here.
    let _ = body.send_data(message, false);
    let _ = answer.await;
}

/// All of a message except its last byte.
fn unfinished_message(length: u32) -> Bytes {
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.resize(4 + length as usize, b'x');
    message.into()
}
