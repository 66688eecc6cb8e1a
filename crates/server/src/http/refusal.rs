//! Answers to requests that no endpoint serves.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{message::Refusal, oauth::error::Failure, problem::Problem};
use crate::{edge::is_of_type, error::ApiError, grpc::status};

pub(super) async fn not_found(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return status::no_such_method();
    }
    Problem::plain(StatusCode::NOT_FOUND, "there is nothing at this path").into_response()
}

/// The answer to a request that HTTP does not allow.
pub(crate) fn no_request((code, why): Refusal) -> Response {
    Problem::plain(code, why).into_response()
}

/// The answer to a method other than POST, at the path of an RPC.
pub(crate) fn not_post() -> Response {
    let detail = "this is the path of a gRPC method, which is called with POST";
    let mut response = Problem::plain(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The answer to a request that is not gRPC, at the path of an RPC.
pub(crate) fn not_grpc() -> Response {
    let detail = "this is the path of a gRPC method: send `content-type: application/grpc`";
    Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into_response()
}

/// The answer to gRPC over HTTP/1: the status of a call, which comes after the answer, would be lost there.
pub(crate) fn not_http_2() -> Response {
    let detail = "gRPC needs HTTP/2, from the caller and from each proxy on the way";
    Problem::plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, detail).into_response()
}

/// A refusal in the format of the endpoint at `path`.
pub(crate) fn refused(path: &str, error: &ApiError) -> Response {
    if path.starts_with("/oauth2/") {
        return Failure::from(error.clone()).into_response();
    }
    Problem::of(error).into_response()
}

pub(super) async fn method_not_allowed() -> Response {
    Problem::plain(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path is called with another method",
    )
    .into_response()
}

/// Whether a request is gRPC with Protocol Buffers: `application/grpc`, or `application/grpc+proto`.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/grpc") || is_of_type(headers, "application/grpc+proto")
}
