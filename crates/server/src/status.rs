//! The one place that turns errors into wire status.
//!
//! Every status carries `google.rpc.ErrorInfo` with a reason from `error_reason.proto`. What goes to the
//! log and what goes to the caller are kept apart: a failed store is "unavailable" to callers.

use std::{collections::HashMap, time::Duration};

use tessera_authority::{
    ApiKeyError, ApplyError, AuthenticateError, CallNotAllowed, ExplainError, IntrospectError, IssueError,
    RefreshError, RevokeError, SessionError, TokenTooLarge, Unavailable, WatchEnd, WatchError,
};
use tessera_core::{Cursor, DecisionId, PolicyRevision, Scope};
use tessera_proto::v1::ErrorReason;
use tessera_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

const DOMAIN: &str = "tessera";

/// A status with its reason.
pub(crate) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    with(code, reason, message, &[], |_| {})
}

/// A field or several are wrong.
pub(crate) fn invalid_fields(violations: Vec<(String, String)>) -> Status {
    invalid(ErrorReason::FieldInvalid, &[], violations)
}

/// What a status says, for doors that say it in other words.
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

/// Too much work is under way.
pub(crate) fn overloaded() -> Status {
    with(
        Code::Unavailable,
        ErrorReason::Overloaded,
        "too much work is under way",
        &[],
        |details| {
            details.set_retry_info(Some(Duration::from_millis(200)));
        },
    )
}

/// One caller calls too often.
pub(crate) fn rate_limited(wait: Duration) -> Status {
    with(
        Code::ResourceExhausted,
        ErrorReason::RateLimited,
        "this client calls too often",
        &[],
        |details| {
            details.set_retry_info(Some(wait));
        },
    )
}

/// One client has written as much as it may for now.
pub(crate) fn disk_quota_used(wait: Duration) -> Status {
    with(
        Code::ResourceExhausted,
        ErrorReason::RateLimited,
        "this client has written as much as it may for now (disk_mib_per_hour_per_client)",
        &[],
        |details| {
            details.set_retry_info(Some(wait));
        },
    )
}

/// A message is longer than its RPC takes.
pub(crate) fn request_too_large(bytes: usize, bytes_max: usize) -> Status {
    with(
        Code::InvalidArgument,
        ErrorReason::RequestTooLarge,
        format!("the request has {bytes} bytes; this RPC takes at most {bytes_max}"),
        &[("bytes_max", bytes_max.to_string())],
        |_| {},
    )
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

fn with(
    code: Code,
    reason: ErrorReason,
    message: impl Into<String>,
    metadata: &[(&str, String)],
    more: impl FnOnce(&mut ErrorDetails),
) -> Status {
    let name = reason.as_str_name();
    let metadata: HashMap<_, _> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let mut details = ErrorDetails::with_error_info(
        name.strip_prefix("ERROR_REASON_").unwrap_or(name),
        DOMAIN,
        metadata,
    );
    more(&mut details);
    Status::with_error_details(code, message, details)
}

fn invalid(reason: ErrorReason, metadata: &[(&str, String)], violations: Vec<(String, String)>) -> Status {
    let message = violations
        .iter()
        .map(|(field, problem)| format!("{field}: {problem}"))
        .collect::<Vec<_>>()
        .join("; ");
    with(Code::InvalidArgument, reason, message, metadata, |details| {
        let violations = violations
            .into_iter()
            .map(|(field, problem)| FieldViolation::new(field, problem));
        details.set_bad_request(violations.collect::<Vec<_>>());
    })
}

fn unknown(reason: ErrorReason, field: &str, kind: &str, name: &str, nearest: Option<&String>) -> Status {
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    let mut metadata = vec![(kind, name.to_owned())];
    metadata.extend(nearest.map(|nearest| ("nearest", nearest.clone())));
    invalid(
        reason,
        &metadata,
        vec![(
            field.to_owned(),
            format!("`{name}` is not in the catalogue{hint}"),
        )],
    )
}

fn denied(
    message: &str,
    denied: &[(Scope, String)],
    decision: DecisionId,
    policy: &PolicyRevision,
) -> Status {
    let explained: serde_json::Map<_, _> = denied
        .iter()
        .map(|(scope, reason)| (scope.to_string(), serde_json::Value::String(reason.clone())))
        .collect();
    let lines = denied
        .iter()
        .take(5)
        .map(|(scope, reason)| format!("{scope}: {reason}"))
        .collect::<Vec<_>>();
    let message = format!("{message}: {}", lines.join("; "));
    let metadata = [
        ("denied", serde_json::Value::Object(explained).to_string()),
        ("decision_id", decision.to_string()),
        ("policy_revision", policy.to_string()),
    ];
    with(
        Code::PermissionDenied,
        ErrorReason::ScopeDenied,
        message,
        &metadata,
        |_| {},
    )
}

fn not_allowed(error: &impl ToString, required: &str) -> Status {
    refused_call(error.to_string(), &[("required", required.to_owned())])
}

fn not_allowed_to_issue(
    message: &str,
    required: &str,
    decision: DecisionId,
    policy: &PolicyRevision,
) -> Status {
    let metadata = [
        ("required", required.to_owned()),
        ("decision_id", decision.to_string()),
        ("policy_revision", policy.to_string()),
    ];
    refused_call(message.to_owned(), &metadata)
}

fn refused_call(message: String, metadata: &[(&str, String)]) -> Status {
    with(
        Code::PermissionDenied,
        ErrorReason::CallNotAllowed,
        message,
        metadata,
        |_| {},
    )
}

/// The first lines of a message that may be long: a status must fit into the headers.
fn shortened(message: &str) -> String {
    const LINES_MAX: usize = 10;
    let lines: Vec<_> = message.lines().collect();
    let more = lines.len().saturating_sub(LINES_MAX);
    let mut shown = lines.into_iter().take(LINES_MAX).collect::<Vec<_>>().join("\n");
    if more > 0 {
        shown.push_str(&format!(
            "\nand {more} more: see GetStatus, or `tessera policy check`"
        ));
    }
    shown
}

fn field(name: &str, problem: &str) -> Status {
    invalid_fields(vec![(name.to_owned(), problem.to_owned())])
}

fn evicted(until_free: Duration) -> Status {
    with(
        Code::Unavailable,
        ErrorReason::SubscriberEvicted,
        "an administrator evicted this subscriber",
        &[],
        |details| {
            details.set_retry_info(Some(until_free));
        },
    )
}

fn at_cursor(code: Code, reason: ErrorReason, message: &str, cursor: &Cursor) -> Status {
    with(code, reason, message, &[("cursor", cursor.to_string())], |_| {})
}

/// An error that callers see.
pub(crate) trait IntoStatus {
    /// The status that callers get.
    fn into_status(self) -> Status;
}

impl IntoStatus for Unavailable {
    fn into_status(self) -> Status {
        match &self {
            Self::Store(error) => {
                // The failure itself was logged; a thousand callers who meet its consequence add nothing.
                if matches!(error, StoreError::Closed) {
                    tracing::debug!(%error, "the store is not available");
                } else {
                    tracing::error!(%error, "the store failed");
                }
                status(
                    Code::Unavailable,
                    ErrorReason::StoreUnavailable,
                    "the store is not available",
                )
            }
            Self::Draining => draining(),
            Self::Overloaded => overloaded(),
            Self::OutOfTime => deadline_exceeded(),
            Self::PolicyChanging => with(
                Code::Unavailable,
                ErrorReason::PolicyNotReady,
                self.to_string(),
                &[],
                |details| {
                    details.set_retry_info(Some(Duration::from_millis(100)));
                },
            ),
            Self::Entropy(_) | Self::Defect(_) => {
                tracing::error!(error = %self, "internal error");
                status(
                    Code::Internal,
                    ErrorReason::Internal,
                    "internal error; the server's log has the details",
                )
            }
        }
    }
}

impl IntoStatus for AuthenticateError {
    fn into_status(self) -> Status {
        match self {
            Self::Refused => status(
                Code::Unauthenticated,
                ErrorReason::ClientAuthFailed,
                "the API key is not accepted",
            ),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for TokenTooLarge {
    fn into_status(self) -> Status {
        let metadata = [
            ("bytes", self.bytes.to_string()),
            ("bytes_max", self.bytes_max.to_string()),
            ("scopes", self.scopes.to_string()),
        ];
        let message = self.to_string();
        with(
            Code::FailedPrecondition,
            ErrorReason::TokenTooLarge,
            message,
            &metadata,
            |_| {},
        )
    }
}

impl IntoStatus for IssueError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotAllowed {
                refused,
                decision,
                policy,
            } => not_allowed_to_issue(&message, &refused.required, decision, &policy),
            Self::ScopeUnknown { scope, nearest } => unknown(
                ErrorReason::ScopeUnknown,
                "scopes",
                "scope",
                scope.as_str(),
                nearest.as_ref(),
            ),
            Self::AudienceUnknown { audience, nearest } => unknown(
                ErrorReason::AudienceUnknown,
                "audience",
                "audience",
                &audience,
                nearest.as_ref(),
            ),
            Self::RoleUnknown { role, nearest } => {
                unknown(ErrorReason::RoleUnknown, "roles", "role", &role, nearest.as_ref())
            }
            Self::Field { field: name, problem } => field(name, &problem),
            Self::Denied {
                denied: scopes,
                decision,
                policy,
                ..
            } => denied(&message, &scopes, decision, &policy),
            Self::TokenTooLarge(error) => error.into_status(),
            Self::IdempotencyMismatch => {
                status(Code::AlreadyExists, ErrorReason::IdempotencyMismatch, message)
            }
            Self::AlreadyRefreshed => status(Code::AlreadyExists, ErrorReason::AlreadyRefreshed, message),
            Self::SessionEnded => status(Code::Unauthenticated, ErrorReason::SessionRevoked, message),
            Self::CredentialEnded => AuthenticateError::Refused.into_status(),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for RefreshError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        let sign_in_again = |reason| status(Code::Unauthenticated, reason, message.clone());
        match self {
            Self::Invalid => sign_in_again(ErrorReason::RefreshTokenInvalid),
            Self::Ahead => sign_in_again(ErrorReason::RefreshTokenAhead),
            Self::Expired => sign_in_again(ErrorReason::SessionExpired),
            Self::Revoked(_) => sign_in_again(ErrorReason::SessionRevoked),
            Self::Reused => sign_in_again(ErrorReason::RefreshTokenReused),
            Self::WrongClient => status(Code::PermissionDenied, ErrorReason::BindingMismatch, message),
            Self::ScopeExceedsGrant(scope) => invalid(
                ErrorReason::ScopeExceedsGrant,
                &[("scope", scope.to_string())],
                vec![("scopes".to_owned(), message)],
            ),
            Self::TokenTooLarge(error) => error.into_status(),
            Self::Denied {
                denied: scopes,
                decision,
                policy,
            } => denied(&message, &scopes, decision, &policy),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for IntrospectError {
    fn into_status(self) -> Status {
        match self {
            Self::CursorInvalid => invalid(
                ErrorReason::CursorInvalid,
                &[],
                vec![("at_least_as_fresh".to_owned(), self.to_string())],
            ),
            Self::NotFreshEnough => with(
                Code::Unavailable,
                ErrorReason::NotFreshEnough,
                self.to_string(),
                &[],
                |details| {
                    details.set_retry_info(Some(Duration::from_millis(100)));
                },
            ),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for RevokeError {
    fn into_status(self) -> Status {
        match self {
            Self::NotAllowed(error) => not_allowed(&error, &error.required),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for SessionError {
    fn into_status(self) -> Status {
        match self {
            Self::NotFound => status(Code::NotFound, ErrorReason::NotFound, self.to_string()),
            Self::NotAllowed(error) => not_allowed(&error, &error.required),
            Self::PageTokenInvalid => field("page_token", &self.to_string()),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for ApiKeyError {
    fn into_status(self) -> Status {
        match self {
            Self::NotFound => status(Code::NotFound, ErrorReason::NotFound, self.to_string()),
            Self::NotAllowed(error) => not_allowed(&error, &error.required),
            Self::Field { field: name, problem } => field(name, &problem),
            Self::PageTokenInvalid => field("page_token", &self.to_string()),
            Self::RolledTooOften { wait } => with(
                Code::ResourceExhausted,
                ErrorReason::RateLimited,
                self.to_string(),
                &[],
                |details| {
                    details.set_retry_info(Some(Duration::from_secs(wait.0.into())));
                },
            ),
            Self::CredentialEnded => AuthenticateError::Refused.into_status(),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for WatchError {
    fn into_status(self) -> Status {
        match self {
            Self::NotAllowed(error) => not_allowed(&error, &error.required),
            Self::CursorInvalid => invalid(
                ErrorReason::CursorInvalid,
                &[],
                vec![("cursor".to_owned(), self.to_string())],
            ),
            Self::CursorExpired => status(Code::OutOfRange, ErrorReason::CursorExpired, self.to_string()),
            Self::Evicted { until_free } => evicted(until_free),
            Self::BoundTooLong { .. } => field("staleness_bound", &self.to_string()),
            Self::NameCrowded { until_free } => with(
                Code::ResourceExhausted,
                ErrorReason::RateLimited,
                self.to_string(),
                &[],
                |details| {
                    details.set_retry_info(Some(until_free));
                },
            ),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for CallNotAllowed {
    fn into_status(self) -> Status {
        not_allowed(&self, &self.required)
    }
}

impl IntoStatus for ApplyError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        let refused = |metadata: &[(&str, String)]| {
            with(
                Code::FailedPrecondition,
                ErrorReason::PolicyRefused,
                shortened(&message),
                metadata,
                |_| {},
            )
        };
        match self {
            Self::Refused(error) => refused(&[("diagnostics", error.diagnostics.len().to_string())]),
            Self::NoFolder | Self::RealmUnknown { .. } | Self::TooLong => refused(&[]),
            Self::PlanStale(_) => status(Code::Aborted, ErrorReason::PlanStale, message),
            Self::PlanInvalid => field("plan", &message),
            Self::TooManySessions { touched, max } => with(
                Code::FailedPrecondition,
                ErrorReason::TooManySessions,
                message,
                &[
                    ("sessions", touched.to_string()),
                    ("max_sessions", max.to_string()),
                ],
                |_| {},
            ),
            Self::Panicked => Unavailable::Defect("reading a policy panicked").into_status(),
            Self::NotAllowed(error) => error.into_status(),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for ExplainError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::NotAllowed(error) => error.into_status(),
            Self::DecisionUnknown => status(Code::NotFound, ErrorReason::NotFound, message),
            Self::PolicyForgotten(policy) | Self::PolicyUnreadable(policy) => with(
                Code::FailedPrecondition,
                ErrorReason::PolicyForgotten,
                message,
                &[("policy_revision", policy.to_string())],
                |_| {},
            ),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for WatchEnd {
    fn into_status(self) -> Status {
        match self {
            WatchEnd::Refused(error) => error.into_status(),
            WatchEnd::NotAllowed(error) => WatchError::NotAllowed(error).into_status(),
            WatchEnd::Evicted(until_free) => evicted(until_free),
            WatchEnd::SlowConsumer(cursor) => at_cursor(
                Code::ResourceExhausted,
                ErrorReason::SlowConsumer,
                "this subscriber did not read fast enough: resume after the cursor",
                &cursor,
            ),
            WatchEnd::Draining(cursor) => at_cursor(
                Code::Unavailable,
                ErrorReason::Draining,
                "the server is stopping: resume after the cursor",
                &cursor,
            ),
            WatchEnd::CursorInvalid => WatchError::CursorInvalid.into_status(),
            WatchEnd::CursorExpired => WatchError::CursorExpired.into_status(),
            WatchEnd::Failed(error) => error.into_status(),
        }
    }
}
