//! tower layers: one protects a service, the other calls one.

mod attach;
mod authorize;
mod bearer;
mod refusal;
mod requirements;

pub use attach::{AttachToken, AttachTokenLayer};
pub use authorize::{Authorize, AuthorizeLayer, Claims};
pub use requirements::{Requirement, Requirements};

/// Whether a request is a gRPC request: its refusals are statuses, all others are HTTP responses.
fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
