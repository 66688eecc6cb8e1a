//! The client of the baseline.

use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Error},
};
use tonic_prost::ProstCodec;

use super::method;
use crate::parcel::Parcel;

/// A client of the echo server.
#[derive(Clone)]
pub(crate) struct EchoClient(Grpc<Channel>);

impl EchoClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    pub(crate) async fn echo(&mut self, request: Request<Parcel>) -> Result<Parcel, Status> {
        self.unary(method::ECHO, request).await
    }

    pub(crate) async fn broadcast(&mut self, request: Request<Parcel>) -> Result<Parcel, Status> {
        self.unary(method::BROADCAST, request).await
    }

    /// Every broadcast after the answer arrives.
    pub(crate) async fn subscribe(&mut self, request: Request<Parcel>) -> Result<Streaming<Parcel>, Status> {
        self.0.ready().await.map_err(unavailable)?;
        let path = PathAndQuery::from_static(method::SUBSCRIBE);
        let answer = self
            .0
            .server_streaming(request, path, ProstCodec::<Parcel, Parcel>::default());
        Ok(answer.await?.into_inner())
    }

    async fn unary(&mut self, path: &'static str, request: Request<Parcel>) -> Result<Parcel, Status> {
        self.0.ready().await.map_err(unavailable)?;
        let path = PathAndQuery::from_static(path);
        let answer = self
            .0
            .unary(request, path, ProstCodec::<Parcel, Parcel>::default());
        Ok(answer.await?.into_inner())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
fn unavailable(error: Error) -> Status {
    Status::unavailable(error.to_string())
}
