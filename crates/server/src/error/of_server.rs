//! Failures that the server detects itself, before it calls the authority or instead of the authority's answer.

use std::time::Duration;

use tessera_proto::v1::ErrorReason;
use tonic::Code;

use super::{
    api_error::{ApiError, Violation},
    draft::Draft,
};

impl ApiError {
    /// A failure with this message only.
    pub(crate) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Draft::new(message).error(code, reason)
    }

    /// One or more fields are wrong.
    pub(crate) fn invalid_fields(violations: Vec<Violation>) -> Self {
        Draft::invalid(violations).error(Code::InvalidArgument, ErrorReason::FieldInvalid)
    }

    /// One field is wrong.
    pub(crate) fn invalid_field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::invalid_fields(vec![Violation::new(field, problem)])
    }

    /// A call that needs a client has no API key.
    pub(crate) fn no_credential() -> Self {
        Self::new(
            Code::Unauthenticated,
            ErrorReason::ClientAuthFailed,
            "no API key: send one `authorization: Bearer tsk_…`",
        )
    }

    /// Too much work is running.
    pub(crate) fn overloaded() -> Self {
        Draft::new("too much work is under way")
            .retry_after(Duration::from_millis(200))
            .error(Code::Unavailable, ErrorReason::Overloaded)
    }

    /// One caller calls too often.
    pub(crate) fn rate_limited(wait: Duration) -> Self {
        Self::limited("this client calls too often (calls_per_second_per_client)", wait)
    }

    /// One client has written as much as it may for now.
    pub(crate) fn disk_quota_used(wait: Duration) -> Self {
        Self::limited(
            "this client has written as much as it may for now (disk_mib_per_hour_per_client)",
            wait,
        )
    }

    /// The clients of one sandbox realm together call too often.
    pub(crate) fn sandbox_rate_limited(wait: Duration) -> Self {
        Self::limited(
            "the clients of this sandbox realm call too often (calls_per_second_per_sandbox)",
            wait,
        )
    }

    /// The clients of one sandbox realm together have written as much as they may for now.
    pub(crate) fn sandbox_disk_quota_used(wait: Duration) -> Self {
        Self::limited(
            "the clients of this sandbox realm have written as much as they may for now (disk_mib_per_hour_per_sandbox)",
            wait,
        )
    }

    /// A message is longer than its RPC accepts.
    pub(crate) fn request_too_large(bytes: usize, bytes_max: usize) -> Self {
        Draft::new(format!(
            "the request has {bytes} bytes; this RPC takes at most {bytes_max}"
        ))
        .metadata("bytes_max", bytes_max.to_string())
        .error(Code::InvalidArgument, ErrorReason::RequestTooLarge)
    }

    /// A unary call has several messages. The code is the one that gRPC's table of statuses has for it.
    pub(crate) fn more_than_one_message() -> Self {
        Self::new(
            Code::Unimplemented,
            ErrorReason::RequestTooLarge,
            "the request has more than one message; this RPC takes one",
        )
    }

    /// A message did not arrive in time.
    pub(crate) fn request_too_slow(time_max: Duration) -> Self {
        Self::new(
            Code::DeadlineExceeded,
            ErrorReason::RequestTooSlow,
            format!("the request did not arrive within {} s", time_max.as_secs()),
        )
    }

    /// The caller's deadline passed.
    pub(crate) fn deadline_exceeded() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            "the deadline passed; the call may still have its effect",
        )
    }

    /// A defect of the server.
    pub(crate) fn internal(message: &str) -> Self {
        Self::new(Code::Internal, ErrorReason::Internal, message)
    }

    /// The server is stopping.
    pub(crate) fn draining() -> Self {
        Self::new(Code::Unavailable, ErrorReason::Draining, "the server is stopping")
    }

    pub(super) fn limited(message: impl Into<String>, wait: Duration) -> Self {
        Draft::new(message)
            .retry_after(wait)
            .error(Code::ResourceExhausted, ErrorReason::RateLimited)
    }
}
