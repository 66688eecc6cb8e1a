//! The server of the baseline, in a separate process.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::TcpListener, sync::broadcast};
use tokio_stream::{Stream, StreamExt, wrappers::BroadcastStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::method;
use crate::{failure::Failure, parcel::Parcel, rotation::Rotations};

/// Events that may wait for one subscriber. The generator waits for each to arrive, so one would be enough.
const EVENTS_WAITING_MAX: usize = 1024;

/// Prints its address as one line of JSON, and serves until stdin ends: so it ends with its parent, even if the parent
/// is killed. With a database, the bare group program rotates a row of it before each echo.
pub(crate) async fn serve(rotating: Option<&str>) -> Result<(), Failure> {
    let what = "serving the echo";
    let rotations = match rotating {
        Some(url) => Some(Rotations::start(url).await?),
        None => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|error| Failure::at(what, error))?;
    let address = listener.local_addr().map_err(|error| Failure::at(what, error))?;
    println!("{}", serde_json::json!({ "grpc": format!("http://{address}") }));
    let (events, _) = broadcast::channel(EVENTS_WAITING_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server()
        .add_service(Echo { events, rotations })
        .serve_with_incoming(incoming);
    tokio::select! {
        served = serving => served.map_err(|error| Failure::at(what, error)),
        () = stdin_ended() => Ok(()),
    }
}

/// The settings of `tessera_server::serve`. They are copied by hand, because that crate has no reason to publish them.
fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(1024)
        .http2_max_local_error_reset_streams(Some(256))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_header_list_size(8 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
}

async fn stdin_ended() {
    // An error has the same effect.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

#[derive(Clone)]
struct Echo {
    events: broadcast::Sender<Parcel>,
    rotations: Option<Arc<Rotations>>,
}

impl Echo {
    fn echo(request: &Parcel) -> Response<Parcel> {
        Response::new(Parcel::padded(request.answer_padding))
    }

    fn broadcast(&self, request: &Parcel) -> Response<Parcel> {
        // It does not matter if there is no subscriber.
        let _ = self.events.send(Parcel::padded(request.event_padding));
        Self::echo(request)
    }

    fn subscribe(&self) -> Response<impl Stream<Item = Result<Parcel, Status>> + use<>> {
        let events = BroadcastStream::new(self.events.subscribe());
        Response::new(events.map(|event| event.map_err(|_| Status::data_loss("read too slowly"))))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "tessera.bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Parcel, Parcel>::default());
            Ok(match request.uri().path() {
                method::ECHO => {
                    let method = |call: Request<Parcel>| {
                        let rotations = echo.rotations.clone();
                        async move {
                            if let Some(rotations) = rotations {
                                rotations.rotate().await?;
                            }
                            Ok(Self::echo(call.get_ref()))
                        }
                    };
                    grpc.unary(service_fn(method), request).await
                }
                method::BROADCAST => {
                    let method =
                        |call: Request<Parcel>| std::future::ready(Ok(echo.broadcast(call.get_ref())));
                    grpc.unary(service_fn(method), request).await
                }
                method::SUBSCRIBE => {
                    let method = |_: Request<Parcel>| std::future::ready(Ok(echo.subscribe()));
                    grpc.server_streaming(service_fn(method), request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}
