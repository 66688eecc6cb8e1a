//! Errors of issuing tokens.

use tessera_core::{Audience, DecisionId, PolicyRevision, RevokeReason, Scope};

use crate::error::{CallNotAllowed, Unavailable, from_entropy, from_store};

/// The access token would exceed the length limit: verifiers and proxies would refuse it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the access token would have {bytes} bytes, and at most {bytes_max} are issued (token_bytes_max): {}",
    self.way_out()
)]
pub struct TokenTooLarge {
    /// How many bytes it would have.
    pub bytes: usize,
    /// How many it may have.
    pub bytes_max: usize,
    /// How many scopes it would have.
    pub scopes: usize,
    /// Whether the caller chose the scopes, so that they are not simply all that policy grants.
    pub scopes_are_named: bool,
}

impl TokenTooLarge {
    fn way_out(&self) -> String {
        let scopes = self.scopes;
        if self.scopes_are_named {
            format!("name fewer than these {scopes} scopes, or fewer roles and labels")
        } else {
            format!("it would have all {scopes} scopes that policy grants; name those that are needed")
        }
    }
}

/// Issue failed; nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssueError {
    /// The caller may not issue for this subject, or assert this role.
    #[error("{refused}")]
    NotAllowed {
        /// The permission that it needs.
        refused: CallNotAllowed,
        /// The decision.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// The catalogue has no such scope.
    #[error("scope `{scope}` is not in the catalogue")]
    ScopeUnknown {
        /// The scope.
        scope: Scope,
        /// The nearest name that the catalogue has.
        nearest: Option<String>,
    },
    /// The catalogue has no such audience.
    #[error("audience `{audience}` is not in the catalogue")]
    AudienceUnknown {
        /// The audience.
        audience: String,
        /// The nearest name that the catalogue has.
        nearest: Option<String>,
    },
    /// The catalogue has no such role.
    #[error("role `{role}` is not in the catalogue")]
    RoleUnknown {
        /// The role.
        role: String,
        /// The nearest name that the catalogue has.
        nearest: Option<String>,
    },
    /// A field is out of bounds.
    #[error("{field} {problem}")]
    Field {
        /// The field, as the wire names it.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Policy grants nothing, or not everything that was required.
    #[error("policy grants {}", if *.partly { "not all of the scopes asked for" } else { "none of the scopes" })]
    Denied {
        /// Each scope that was denied, with the reason.
        denied: Vec<(Scope, String)>,
        /// Whether some scopes were granted.
        partly: bool,
        /// The decision, by which it can be explained later.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// The access token would be too long.
    #[error(transparent)]
    TokenTooLarge(#[from] TokenTooLarge),
    /// The client has reached its limit of sessions.
    #[error("this client has {sessions_max} sessions, as many as it may (sessions_per_client_max)")]
    SessionsUsed {
        /// How many it may have.
        sessions_max: u64,
    },
    /// The request id was used for another request.
    #[error("the request id was used for another request within 10 minutes")]
    IdempotencyMismatch,
    /// The session that the first request with this id began was refreshed since: its first refresh token is spent.
    #[error(
        "the session that this request began was refreshed since: use its refresh token, or another request id"
    )]
    AlreadyRefreshed,
    /// The session that the first request with this id began has ended.
    #[error("the session that this request began has ended")]
    SessionEnded,
    /// The caller's API key was revoked during the call.
    #[error("the API key is not accepted")]
    CredentialEnded,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Refresh failed. Unless a variant says otherwise, nothing was consumed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// Malformed, forged, of another realm, or of an unknown session.
    #[error("the refresh token is not valid")]
    Invalid,
    /// Of a later generation than the session: the store was restored from a backup.
    #[error("the refresh token is newer than the session: the authority was restored from a backup")]
    Ahead,
    /// The session's idle or absolute lifetime is over.
    #[error("the session has expired")]
    Expired,
    /// The session was revoked.
    #[error("the session was revoked ({})", .0.as_str())]
    Revoked(RevokeReason),
    /// A spent token: the session is revoked now.
    #[error("the refresh token was used before: the session is revoked")]
    Reused,
    /// A retry within the grace window, after the maximum number of repeated answers.
    #[error("the refresh token was sent again too often: use the token of an answer that you had")]
    ReplaysUsed,
    /// The session belongs to another client.
    #[error("the session belongs to another client")]
    WrongClient,
    /// The session is for another audience than the caller expects.
    #[error("the session is for the audience `{0}`")]
    OtherAudience(Audience),
    /// A scope beyond the session's.
    #[error("scope `{0}` is beyond the session's")]
    ScopeExceedsGrant(Scope),
    /// The access token would be too long.
    #[error(transparent)]
    TokenTooLarge(#[from] TokenTooLarge),
    /// Policy grants none of the scopes now.
    #[error("policy grants none of the scopes now")]
    Denied {
        /// Each scope with the reason.
        denied: Vec<(Scope, String)>,
        /// The decision, by which it can be explained later.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// The caller's API key was revoked during the call.
    #[error("the API key is not accepted")]
    CredentialEnded,
    /// The authority can't answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

from_store!(IssueError, RefreshError);
from_entropy!(IssueError, RefreshError);
