//! Calls with one answer: the code that all RPCs share.

use std::future::Future;

use tessera_proto::Message;
use tonic::{Request, Response, Status};

use crate::{
    edge::{Caller, Edge, exchange},
    error::ApiError,
};

/// Serves one call of a client that was authenticated.
pub(super) async fn call<Req, Res, Fut>(
    edge: &Edge,
    request: Request<Req>,
    handle: impl FnOnce(Caller, Req) -> Fut,
) -> Result<Response<Res>, Status>
where
    Res: Message,
    Fut: Future<Output = Result<Res, ApiError>>,
{
    let exchange = exchange(request.extensions())?;
    let message = request.into_inner();
    let answer = edge
        .call(&exchange, |caller| handle(caller, message), Message::encoded_len)
        .await?;
    Ok(Response::new(answer))
}

/// Serves one call that needs no credential.
pub(super) async fn open_call<Req, Res>(
    edge: &Edge,
    request: &Request<Req>,
    answer: impl Future<Output = Result<Res, ApiError>>,
) -> Result<Response<Res>, Status> {
    let exchange = exchange(request.extensions())?;
    Ok(Response::new(edge.endpoint(&exchange, answer).await?))
}
