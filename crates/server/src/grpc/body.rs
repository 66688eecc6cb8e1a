//! The body of a request as tonic reads it: what fails is a status.

use axum::body::Body;
use http_body_util::BodyExt;
use tonic::Status;

use crate::edge::{BodyError, RequestBody};

/// A body for the gRPC services.
pub(crate) fn body(body: RequestBody) -> Body {
    Body::new(body.map_err(|error| match error {
        BodyError::Refused(error) => Status::from(error),
        BodyError::Broken(error) => Status::from_error(error),
    }))
}
