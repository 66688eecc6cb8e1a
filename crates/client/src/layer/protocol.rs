//! gRPC, or plain HTTP.

/// Whether a request is a gRPC request: its refusals are statuses, all others are HTTP responses.
pub(super) fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
