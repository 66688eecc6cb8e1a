//! The one place that turns errors into wire status.
//!
//! Every status carries `google.rpc.ErrorInfo` with a reason from `error_reason.proto`. What goes to the
//! log and what goes to the caller are kept apart: a failed store is "unavailable" to callers. What it says is cut
//! until it can be sent (`draft`).

mod draft;
mod of_errors;
mod trailers;

use std::time::Duration;

use tessera_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use self::draft::{Draft, Part};
pub(crate) use self::{of_errors::IntoStatus, trailers::bound};

const DOMAIN: &str = "tessera";

/// A status with its reason.
pub(crate) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    Draft::new(message).status(code, reason)
}

/// A field or several are wrong.
pub(crate) fn invalid_fields(violations: Vec<(String, String)>) -> Status {
    invalid(violations).status(Code::InvalidArgument, ErrorReason::FieldInvalid)
}

/// What a status says, for endpoints that say it in other words.
pub(crate) struct Reading {
    /// The reason, as in `ErrorInfo`.
    pub(crate) reason: String,
    /// Fields that are wrong, with what is wrong with them.
    pub(crate) violations: Vec<(String, String)>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Reading {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|request| &request.field_violations);
        let violations = violations.into_iter().flatten();
        Self {
            reason: details
                .error_info()
                .map_or_else(|| "INTERNAL".to_owned(), |info| info.reason.clone()),
            violations: violations
                .map(|violation| (violation.field.clone(), violation.description.clone()))
                .collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

/// A call that needs a client comes without an API key.
pub(crate) fn no_credential() -> Status {
    status(
        Code::Unauthenticated,
        ErrorReason::ClientAuthFailed,
        "no API key: send one `authorization: Bearer tsk_…`",
    )
}

/// Too much work is under way.
pub(crate) fn overloaded() -> Status {
    Draft::new("too much work is under way")
        .retry_after(Duration::from_millis(200))
        .status(Code::Unavailable, ErrorReason::Overloaded)
}

/// One caller calls too often.
pub(crate) fn rate_limited(wait: Duration) -> Status {
    limited("this client calls too often", wait)
}

/// One client has written as much as it may for now.
pub(crate) fn disk_quota_used(wait: Duration) -> Status {
    limited(
        "this client has written as much as it may for now (disk_mib_per_hour_per_client)",
        wait,
    )
}

fn limited(message: impl Into<String>, wait: Duration) -> Status {
    Draft::new(message)
        .retry_after(wait)
        .status(Code::ResourceExhausted, ErrorReason::RateLimited)
}

/// A message is longer than its RPC takes.
pub(crate) fn request_too_large(bytes: usize, bytes_max: usize) -> Status {
    Draft::new(format!(
        "the request has {bytes} bytes; this RPC takes at most {bytes_max}"
    ))
    .metadata("bytes_max", bytes_max.to_string())
    .status(Code::InvalidArgument, ErrorReason::RequestTooLarge)
}

/// A message did not arrive in time.
pub(crate) fn request_too_slow(time_max: Duration) -> Status {
    status(
        Code::DeadlineExceeded,
        ErrorReason::RequestTooSlow,
        format!("the request did not arrive within {} s", time_max.as_secs()),
    )
}

/// The caller's deadline passed.
pub(crate) fn deadline_exceeded() -> Status {
    status(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        "the deadline passed; the call may still have its effect",
    )
}

/// The server is stopping.
pub(crate) fn draining() -> Status {
    status(Code::Unavailable, ErrorReason::Draining, "the server is stopping")
}

/// What is wrong with fields.
fn invalid(violations: Vec<(String, String)>) -> Draft {
    let parts = violations.into_iter();
    Draft {
        parts: parts
            .map(|(field, problem)| Part::Violation(field, problem))
            .collect(),
        ..Draft::new("")
    }
}
