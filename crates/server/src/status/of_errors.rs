//! Which status each error of the authority is.

use std::time::Duration;

use tessera_authority::{
    ApiKeyError, ApplyError, AuthenticateError, CallNotAllowed, ExplainError, IntrospectError, IssueError,
    RefreshError, RevokeError, SessionError, SigningKeyError, TokenTooLarge, Unavailable, WatchEnd,
    WatchError,
};
use tessera_core::{Cursor, DecisionId, PolicyRevision, Scope};
use tessera_proto::v1::ErrorReason;
use tessera_store::StoreError;
use tonic::{Code, Status};

use super::{
    deadline_exceeded,
    draft::{Draft, Part},
    draining, invalid, invalid_fields, limited, overloaded, status,
};

fn unknown(
    reason: ErrorReason,
    field: &str,
    kind: &'static str,
    name: &str,
    nearest: Option<&String>,
) -> Status {
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    let problem = format!("`{name}` is not in the catalogue{hint}");
    let mut draft = invalid(vec![(field.to_owned(), problem)]).metadata(kind, name);
    if let Some(nearest) = nearest {
        draft = draft.metadata("nearest", nearest);
    }
    draft.status(Code::InvalidArgument, reason)
}

fn denied(
    message: &str,
    denied: Vec<(Scope, String)>,
    decision: DecisionId,
    policy: &PolicyRevision,
) -> Status {
    let parts = denied.into_iter();
    let draft = Draft {
        parts: parts
            .map(|(scope, why)| Part::Denied(scope.to_string(), why))
            .collect(),
        rest: Some(format!("`tessera policy explain --decision {decision}` has them")),
        ..Draft::new(message)
    };
    decided(draft, decision, policy).status(Code::PermissionDenied, ErrorReason::ScopeDenied)
}

/// With what a decision is found again by.
fn decided(draft: Draft, decision: DecisionId, policy: &PolicyRevision) -> Draft {
    draft
        .metadata("decision_id", decision.to_string())
        .metadata("policy_revision", policy.to_string())
}

fn not_allowed(error: &CallNotAllowed) -> Status {
    refused_call(Draft::new(error.to_string()), error)
}

/// With what policy would have to give, to whom and where: what a rule is written from.
fn refused_call(draft: Draft, refused: &CallNotAllowed) -> Status {
    draft
        .metadata("required", refused.required.as_str())
        .metadata("client", refused.client.as_str())
        .metadata("realm", refused.realm.as_str())
        .status(Code::PermissionDenied, ErrorReason::CallNotAllowed)
}

/// A message of many lines.
fn lines(message: &str) -> Draft {
    Draft {
        parts: message.lines().map(|line| Part::Line(line.to_owned())).collect(),
        separator: "\n",
        rest: Some("see GetStatus, or `tessera policy check`".to_owned()),
        ..Draft::new("")
    }
}

fn field(name: &str, problem: &str) -> Status {
    invalid_fields(vec![(name.to_owned(), problem.to_owned())])
}

fn evicted(until_free: Duration) -> Status {
    Draft::new("an administrator evicted this subscriber")
        .retry_after(until_free)
        .status(Code::Unavailable, ErrorReason::SubscriberEvicted)
}

fn at_cursor(code: Code, reason: ErrorReason, message: &str, cursor: &Cursor) -> Status {
    Draft::new(message)
        .metadata("cursor", cursor.to_string())
        .status(code, reason)
}

fn cursor_invalid(name: &str, problem: &impl ToString) -> Status {
    invalid(vec![(name.to_owned(), problem.to_string())])
        .status(Code::InvalidArgument, ErrorReason::CursorInvalid)
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
            Self::PolicyChanging => Draft::new(self.to_string())
                .retry_after(Duration::from_millis(100))
                .status(Code::Unavailable, ErrorReason::PolicyNotReady),
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
        Draft::new(self.to_string())
            .metadata("bytes", self.bytes.to_string())
            .metadata("bytes_max", self.bytes_max.to_string())
            .metadata("scopes", self.scopes.to_string())
            .status(Code::FailedPrecondition, ErrorReason::TokenTooLarge)
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
            } => refused_call(decided(Draft::new(message), decision, &policy), &refused),
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
            } => denied(&message, scopes, decision, &policy),
            Self::TokenTooLarge(error) => error.into_status(),
            Self::SessionsUsed { sessions_max } => Draft::new(message)
                .metadata("sessions_max", sessions_max.to_string())
                .status(Code::ResourceExhausted, ErrorReason::SessionsExceeded),
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
            Self::ReplaysUsed => Draft::new(message)
                .retry_after(Duration::from_secs(1))
                .status(Code::ResourceExhausted, ErrorReason::ReplaysExceeded),
            Self::WrongClient => status(Code::PermissionDenied, ErrorReason::ClientMismatch, message),
            Self::OtherAudience(_) => field("audience", &message),
            Self::ScopeExceedsGrant(scope) => invalid(vec![("scopes".to_owned(), message)])
                .metadata("scope", scope.to_string())
                .status(Code::InvalidArgument, ErrorReason::ScopeExceedsGrant),
            Self::TokenTooLarge(error) => error.into_status(),
            Self::Denied {
                denied: scopes,
                decision,
                policy,
            } => denied(&message, scopes, decision, &policy),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for IntrospectError {
    fn into_status(self) -> Status {
        match self {
            Self::CursorInvalid => cursor_invalid("at_least_as_fresh", &self),
            Self::NotFreshEnough => Draft::new(self.to_string())
                .retry_after(Duration::from_millis(100))
                .status(Code::Unavailable, ErrorReason::NotFreshEnough),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for RevokeError {
    fn into_status(self) -> Status {
        match self {
            Self::NotAllowed(error) => not_allowed(&error),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for SessionError {
    fn into_status(self) -> Status {
        match self {
            Self::NotFound => status(Code::NotFound, ErrorReason::NotFound, self.to_string()),
            Self::NotAllowed(error) => not_allowed(&error),
            Self::PageTokenInvalid => field("page_token", &self.to_string()),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for SigningKeyError {
    fn into_status(self) -> Status {
        match self {
            Self::NotAllowed(error) => not_allowed(&error),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for ApiKeyError {
    fn into_status(self) -> Status {
        match self {
            Self::NotFound => status(Code::NotFound, ErrorReason::NotFound, self.to_string()),
            Self::NotAllowed(error) => not_allowed(&error),
            Self::Field { field: name, problem } => field(name, &problem),
            Self::PageTokenInvalid => field("page_token", &self.to_string()),
            Self::RolledTooOften { wait } => limited(self.to_string(), Duration::from_secs(wait.0.into())),
            Self::CredentialEnded => AuthenticateError::Refused.into_status(),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for WatchError {
    fn into_status(self) -> Status {
        match self {
            Self::NotAllowed(error) => not_allowed(&error),
            Self::CursorInvalid => cursor_invalid("cursor", &self),
            Self::CursorExpired => status(Code::OutOfRange, ErrorReason::CursorExpired, self.to_string()),
            Self::AudienceUnknown { audience, nearest } => unknown(
                ErrorReason::AudienceUnknown,
                "filter.audiences",
                "audience",
                audience.as_str(),
                nearest.as_ref(),
            ),
            Self::Evicted { until_free } => evicted(until_free),
            Self::BoundTooLong { .. } => field("staleness_bound", &self.to_string()),
            Self::NameCrowded { until_free } => limited(self.to_string(), until_free),
            Self::Unavailable(error) => error.into_status(),
        }
    }
}

impl IntoStatus for CallNotAllowed {
    fn into_status(self) -> Status {
        not_allowed(&self)
    }
}

impl IntoStatus for ApplyError {
    fn into_status(self) -> Status {
        let message = self.to_string();
        let refused = |draft: Draft| draft.status(Code::FailedPrecondition, ErrorReason::PolicyRefused);
        match self {
            Self::Refused(error) => {
                let count = error.diagnostics.len().to_string();
                refused(lines(&message).metadata("diagnostics", count))
            }
            Self::NoDirectory | Self::RealmUnknown { .. } | Self::TooLong => refused(lines(&message)),
            Self::PlanStale(_) => status(Code::Aborted, ErrorReason::PlanStale, message),
            Self::PlanInvalid => field("plan", &message),
            Self::TooManySessions { touched, max } => Draft::new(message)
                .metadata("sessions", touched.to_string())
                .metadata("max_sessions", max.to_string())
                .status(Code::FailedPrecondition, ErrorReason::TooManySessions),
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
            Self::PolicyForgotten(policy) | Self::PolicyUnreadable(policy) => Draft::new(message)
                .metadata("policy_revision", policy.to_string())
                .status(Code::FailedPrecondition, ErrorReason::PolicyForgotten),
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
