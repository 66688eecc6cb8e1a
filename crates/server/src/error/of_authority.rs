//! The failure that each error of the authority is to callers.

use std::time::Duration;

use tessera_authority::{
    ApiKeyError, ApplyError, AuditError, AuthenticateError, BackupError, CallNotAllowed, ExplainError,
    IntrospectError, IssueError, RefreshError, RevokeError, SessionError, SigningKeyError, SubscriberError,
    TokenTooLarge, Unavailable, WatchEnd, WatchError,
};
use tessera_core::{Cursor, DecisionId, PolicyRevision, Scope};
use tessera_proto::v1::ErrorReason;
use tessera_store::StoreError;
use tonic::Code;

use super::{
    api_error::{ApiError, Violation},
    draft::{Draft, Part},
};

fn unknown(
    reason: ErrorReason,
    field: &str,
    kind: &'static str,
    name: &str,
    nearest: Option<&String>,
) -> ApiError {
    let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    let problem = format!("`{name}` is not in the catalogue{hint}");
    let mut draft = Draft::invalid(vec![Violation::new(field.to_owned(), problem)]).metadata(kind, name);
    if let Some(nearest) = nearest {
        draft = draft.metadata("nearest", nearest);
    }
    draft.error(Code::InvalidArgument, reason)
}

fn denied(
    message: &str,
    denied: Vec<(Scope, String)>,
    decision: DecisionId,
    policy: &PolicyRevision,
) -> ApiError {
    let parts = denied.into_iter();
    let draft = Draft {
        parts: parts
            .map(|(scope, why)| Part::Denied(scope.to_string(), why))
            .collect(),
        rest: Some(format!("`tessera policy explain --decision {decision}` has them")),
        ..Draft::new(message)
    };
    decided(draft, decision, policy).error(Code::PermissionDenied, ErrorReason::ScopeDenied)
}

/// With the values by which a decision is found again.
fn decided(draft: Draft, decision: DecisionId, policy: &PolicyRevision) -> Draft {
    draft
        .metadata("decision_id", decision.to_string())
        .metadata("policy_revision", policy.to_string())
}

fn not_allowed(error: &CallNotAllowed) -> ApiError {
    refused_call(Draft::new(error.to_string()), error)
}

/// With what policy would have to permit, to whom and where: the content of a policy rule.
fn refused_call(draft: Draft, refused: &CallNotAllowed) -> ApiError {
    draft
        .metadata("required", refused.required.as_str())
        .metadata("client", refused.client.as_str())
        .metadata("realm", refused.realm.as_str())
        .error(Code::PermissionDenied, ErrorReason::CallNotAllowed)
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

fn evicted(until_free: Duration) -> ApiError {
    Draft::new("an administrator evicted this subscriber")
        .retry_after(until_free)
        .error(Code::Unavailable, ErrorReason::SubscriberEvicted)
}

fn at_cursor(code: Code, reason: ErrorReason, message: &str, cursor: &Cursor) -> ApiError {
    Draft::new(message)
        .metadata("cursor", cursor.to_string())
        .error(code, reason)
}

fn cursor_invalid(name: &str, problem: &impl ToString) -> ApiError {
    Draft::invalid(vec![Violation::new(name.to_owned(), problem.to_string())])
        .error(Code::InvalidArgument, ErrorReason::CursorInvalid)
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        match &error {
            Unavailable::Store(error) => {
                // The failure itself was logged; logging it again for each affected caller adds nothing.
                if matches!(error, StoreError::Closed | StoreError::Unavailable { .. }) {
                    tracing::debug!(%error, "the store is not available");
                } else {
                    tracing::error!(%error, "the store failed");
                }
                ApiError::new(
                    Code::Unavailable,
                    ErrorReason::StoreUnavailable,
                    "the store is not available",
                )
            }
            Unavailable::Draining => ApiError::draining(),
            Unavailable::Overloaded => ApiError::overloaded(),
            Unavailable::OutOfTime => ApiError::deadline_exceeded(),
            Unavailable::PolicyChanging => Draft::new(error.to_string())
                .retry_after(Duration::from_millis(100))
                .error(Code::Unavailable, ErrorReason::PolicyNotReady),
            Unavailable::Entropy(_) | Unavailable::Defect(_) => {
                tracing::error!(error = %error, "internal error");
                ApiError::new(
                    Code::Internal,
                    ErrorReason::Internal,
                    "internal error; the server's log has the details",
                )
            }
        }
    }
}

impl From<AuthenticateError> for ApiError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Refused => ApiError::new(
                Code::Unauthenticated,
                ErrorReason::ClientAuthFailed,
                "the API key is not accepted",
            ),
            AuthenticateError::AddressNotAllowed { address, .. } => Draft::new(error.to_string())
                .metadata("address", address.to_string())
                .error(Code::PermissionDenied, ErrorReason::AddressNotAllowed),
            AuthenticateError::RealmKindChanged { .. } => ApiError::new(
                Code::Unauthenticated,
                ErrorReason::ClientAuthFailed,
                error.to_string(),
            ),
            AuthenticateError::Unavailable(error) => error.into(),
        }
    }
}

impl From<TokenTooLarge> for ApiError {
    fn from(error: TokenTooLarge) -> Self {
        Draft::new(error.to_string())
            .metadata("bytes", error.bytes.to_string())
            .metadata("bytes_max", error.bytes_max.to_string())
            .metadata("scopes", error.scopes.to_string())
            .error(Code::FailedPrecondition, ErrorReason::TokenTooLarge)
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        let message = error.to_string();
        match error {
            IssueError::NotAllowed {
                refused,
                decision,
                policy,
            } => refused_call(decided(Draft::new(message), decision, &policy), &refused),
            IssueError::ScopeUnknown { scope, nearest } => unknown(
                ErrorReason::ScopeUnknown,
                "scopes",
                "scope",
                scope.as_str(),
                nearest.as_ref(),
            ),
            IssueError::AudienceUnknown { audience, nearest } => unknown(
                ErrorReason::AudienceUnknown,
                "audience",
                "audience",
                &audience,
                nearest.as_ref(),
            ),
            IssueError::RoleUnknown { role, nearest } => {
                unknown(ErrorReason::RoleUnknown, "roles", "role", &role, nearest.as_ref())
            }
            IssueError::Field { field: name, problem } => ApiError::invalid_field(name, problem),
            IssueError::Denied {
                denied: scopes,
                decision,
                policy,
                ..
            } => denied(&message, scopes, decision, &policy),
            IssueError::TokenTooLarge(error) => error.into(),
            IssueError::SessionsUsed { sessions_max } => Draft::new(message)
                .metadata("sessions_max", sessions_max.to_string())
                .error(Code::ResourceExhausted, ErrorReason::SessionsExceeded),
            IssueError::IdempotencyMismatch => {
                ApiError::new(Code::AlreadyExists, ErrorReason::IdempotencyMismatch, message)
            }
            IssueError::AlreadyRefreshed => {
                ApiError::new(Code::AlreadyExists, ErrorReason::AlreadyRefreshed, message)
            }
            IssueError::SessionEnded => {
                ApiError::new(Code::Unauthenticated, ErrorReason::SessionRevoked, message)
            }
            IssueError::CredentialEnded => AuthenticateError::Refused.into(),
            IssueError::Unavailable(error) => error.into(),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        let message = error.to_string();
        let sign_in_again = |reason| ApiError::new(Code::Unauthenticated, reason, message.clone());
        match error {
            RefreshError::Invalid => sign_in_again(ErrorReason::RefreshTokenInvalid),
            RefreshError::Ahead => sign_in_again(ErrorReason::RefreshTokenAhead),
            RefreshError::Expired => sign_in_again(ErrorReason::SessionExpired),
            RefreshError::Revoked(_) => sign_in_again(ErrorReason::SessionRevoked),
            RefreshError::Reused => sign_in_again(ErrorReason::RefreshTokenReused),
            RefreshError::ReplaysUsed => Draft::new(message)
                .retry_after(Duration::from_secs(1))
                .error(Code::ResourceExhausted, ErrorReason::ReplaysExceeded),
            RefreshError::WrongClient => {
                ApiError::new(Code::PermissionDenied, ErrorReason::ClientMismatch, message)
            }
            RefreshError::OtherAudience(_) => ApiError::invalid_field("audience", message),
            RefreshError::ScopeExceedsGrant(scope) => {
                Draft::invalid(vec![Violation::new("scopes".to_owned(), message)])
                    .metadata("scope", scope.to_string())
                    .error(Code::InvalidArgument, ErrorReason::ScopeExceedsGrant)
            }
            RefreshError::TokenTooLarge(error) => error.into(),
            RefreshError::Denied {
                denied: scopes,
                decision,
                policy,
            } => denied(&message, scopes, decision, &policy),
            RefreshError::CredentialEnded => AuthenticateError::Refused.into(),
            RefreshError::Unavailable(error) => error.into(),
        }
    }
}

impl From<IntrospectError> for ApiError {
    fn from(error: IntrospectError) -> Self {
        match error {
            IntrospectError::CursorInvalid => cursor_invalid("at_least_as_fresh", &error),
            IntrospectError::NotFreshEnough => Draft::new(error.to_string())
                .retry_after(Duration::from_millis(100))
                .error(Code::Unavailable, ErrorReason::NotFreshEnough),
            IntrospectError::Unavailable(error) => error.into(),
        }
    }
}

impl From<RevokeError> for ApiError {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::NotAllowed(error) => not_allowed(&error),
            RevokeError::Unavailable(error) => error.into(),
        }
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::NotAllowed(error) => not_allowed(&error),
            BackupError::Running => Draft::new(error.to_string())
                .retry_after(Duration::from_secs(10))
                .error(Code::ResourceExhausted, ErrorReason::BackupRunning),
            BackupError::Overtaken => Draft::new(error.to_string())
                .retry_after(Duration::from_secs(60))
                .error(Code::Unavailable, ErrorReason::Overloaded),
            BackupError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SigningKeyError> for ApiError {
    fn from(error: SigningKeyError) -> Self {
        match error {
            SigningKeyError::NotAllowed(error) => not_allowed(&error),
            SigningKeyError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => ApiError::new(Code::NotFound, ErrorReason::NotFound, error.to_string()),
            SessionError::NotAllowed(error) => not_allowed(&error),
            SessionError::PageTokenInvalid => ApiError::invalid_field("page_token", error.to_string()),
            SessionError::Unavailable(error) => error.into(),
        }
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::NotAllowed(error) => not_allowed(&error),
            AuditError::PageTokenInvalid => ApiError::invalid_field("page_token", error.to_string()),
            AuditError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ApiKeyError> for ApiError {
    fn from(error: ApiKeyError) -> Self {
        match error {
            ApiKeyError::NotFound => ApiError::new(Code::NotFound, ErrorReason::NotFound, error.to_string()),
            ApiKeyError::NotAllowed(error) => not_allowed(&error),
            ApiKeyError::OtherRealm { ref refused } => refused_call(Draft::new(error.to_string()), refused),
            ApiKeyError::Field { field: name, problem } => ApiError::invalid_field(name, problem),
            ApiKeyError::PageTokenInvalid => ApiError::invalid_field("page_token", error.to_string()),
            ApiKeyError::RolledTooOften { wait } => {
                ApiError::limited(error.to_string(), Duration::from_secs(wait.0.into()))
            }
            ApiKeyError::CredentialEnded => AuthenticateError::Refused.into(),
            ApiKeyError::Unavailable(error) => error.into(),
        }
    }
}

impl From<WatchError> for ApiError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::NotAllowed(error) => not_allowed(&error),
            WatchError::CursorInvalid => cursor_invalid("cursor", &error),
            WatchError::CursorExpired => {
                ApiError::new(Code::OutOfRange, ErrorReason::CursorExpired, error.to_string())
            }
            WatchError::AudienceUnknown { audience, nearest } => unknown(
                ErrorReason::AudienceUnknown,
                "filter.audiences",
                "audience",
                audience.as_str(),
                nearest.as_ref(),
            ),
            WatchError::Evicted { until_free } => evicted(until_free),
            WatchError::BoundTooLong { .. } => ApiError::invalid_field("staleness_bound", error.to_string()),
            WatchError::NameCrowded { until_free } => ApiError::limited(error.to_string(), until_free),
            WatchError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SubscriberError> for ApiError {
    fn from(error: SubscriberError) -> Self {
        match error {
            SubscriberError::NotAllowed(error) => not_allowed(&error),
            SubscriberError::TooManyEvicted { until_free, .. } => {
                ApiError::limited(error.to_string(), until_free)
            }
            SubscriberError::Unavailable(error) => error.into(),
        }
    }
}

impl From<CallNotAllowed> for ApiError {
    fn from(error: CallNotAllowed) -> Self {
        not_allowed(&error)
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        let refused = |draft: Draft| draft.error(Code::FailedPrecondition, ErrorReason::PolicyRefused);
        match error {
            ApplyError::Refused(error) => {
                let count = error.diagnostics.len().to_string();
                refused(lines(&message).metadata("diagnostics", count))
            }
            ApplyError::NoDirectory | ApplyError::RealmUnknown { .. } | ApplyError::TooLong => {
                refused(lines(&message).metadata("diagnostics", "0"))
            }
            ApplyError::PlanStale(_) => ApiError::new(Code::Aborted, ErrorReason::PlanStale, message),
            ApplyError::PlanInvalid => ApiError::invalid_field("plan", message),
            ApplyError::TooManySessions { touched, max } => Draft::new(message)
                .metadata("sessions", touched.to_string())
                .metadata("max_sessions", max.to_string())
                .error(Code::FailedPrecondition, ErrorReason::TooManySessions),
            ApplyError::Panicked => Unavailable::Defect("reading a policy panicked").into(),
            ApplyError::NotAllowed(error) => error.into(),
            ApplyError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ExplainError> for ApiError {
    fn from(error: ExplainError) -> Self {
        let message = error.to_string();
        match error {
            ExplainError::NotAllowed(error) => error.into(),
            ExplainError::DecisionUnknown => ApiError::new(Code::NotFound, ErrorReason::NotFound, message),
            ExplainError::PolicyForgotten(policy) => Draft::new(message)
                .metadata("policy_revision", policy.to_string())
                .error(Code::FailedPrecondition, ErrorReason::PolicyForgotten),
            ExplainError::PolicyUnreadable(policy) => Draft::new(message)
                .metadata("policy_revision", policy.to_string())
                .error(Code::FailedPrecondition, ErrorReason::PolicyUnreadable),
            ExplainError::Unavailable(error) => error.into(),
        }
    }
}

impl From<WatchEnd> for ApiError {
    fn from(error: WatchEnd) -> Self {
        match error {
            WatchEnd::Refused(error) => error.into(),
            WatchEnd::NotAllowed(error) => WatchError::NotAllowed(error).into(),
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
            WatchEnd::CursorInvalid => WatchError::CursorInvalid.into(),
            WatchEnd::CursorExpired => WatchError::CursorExpired.into(),
            WatchEnd::Failed(error) => error.into(),
        }
    }
}
