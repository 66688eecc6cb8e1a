//! The body of a request as tonic reads it: a failure is a status.

use http_body_util::{BodyExt, combinators::MapErr};
use tonic::Status;

use crate::edge::{BodyError, RequestBody};

/// A body for the gRPC services.
pub(crate) type GrpcBody = MapErr<RequestBody, fn(BodyError) -> Status>;

/// `body` for the gRPC services.
pub(crate) fn body(body: RequestBody) -> GrpcBody {
    body.map_err(|error| match error {
        BodyError::Refused(error) => Status::from(error),
        BodyError::Broken(error) => Status::from_error(error),
    })
}
