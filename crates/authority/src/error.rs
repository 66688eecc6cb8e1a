//! What can go wrong with each use case. The server maps these to wire status in one place.

use std::time::Duration;

use tessera_core::{
    Audience, ClientName, DecisionId, PolicyRevision, RealmName, RevokeReason, Scope, ScopeSet, Seconds,
};
use tessera_policy::{Diagnostic, LoadError, PolicyError};
use tessera_store::StoreError;
use tessera_token::NoEntropy;

use crate::{Principal, check::TokenRejection};

/// The authority can't do it now, through no fault of the caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// Policies were applied faster than the request could be committed.
    #[error("the policy is being changed")]
    PolicyChanging,
    /// Too much work of this kind is under way, of this client or of all.
    #[error("too much work is under way")]
    Overloaded,
    /// The work took longer than one call's may.
    #[error("the work took longer than it may")]
    OutOfTime,
    /// A defect. The text is for the log.
    #[error("defect: {0}")]
    Defect(&'static str),
}

/// The caller may not call this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs `{required}`, which policy does not give to the caller")]
pub struct CallNotAllowed {
    /// The permission that policy would have to give, as a scope under `tessera/…`.
    pub required: String,
    /// Whom policy would have to give it.
    pub client: ClientName,
    /// The realm in which it would have to.
    pub realm: RealmName,
}

impl CallNotAllowed {
    pub(crate) fn new(required: String, principal: &Principal) -> Self {
        Self {
            required,
            client: principal.client().clone(),
            realm: principal.realm_name().clone(),
        }
    }
}

/// The access token would be longer than is issued: verifiers and proxies would refuse it.
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
    /// Whether the scopes were chosen by the caller, and not all that policy grants.
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

/// A credential is not accepted. Which check it failed is for the log only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Missing, malformed, unknown, expired, revoked, or of another realm.
    #[error("the API key is not accepted")]
    Refused,
    /// It can't be checked now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Issue failed; nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssueError {
    /// The caller may not issue for this subject, or assert this role.
    #[error("{refused}")]
    NotAllowed {
        /// What it needs.
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
    /// Policy grants nothing, or not all that was required.
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
    /// The client has as many sessions as it may.
    #[error("this client has {sessions_max} sessions, as many as it may (sessions_per_client_max)")]
    SessionsUsed {
        /// How many it may have.
        sessions_max: u64,
    },
    /// The request id was used for another request.
    #[error("the request id was used for another request within 10 minutes")]
    IdempotencyMismatch,
    /// The session that the first request with this id began was refreshed since: its first refresh token is
    /// spent.
    #[error(
        "the session that this request began was refreshed since: use its refresh token, or another request id"
    )]
    AlreadyRefreshed,
    /// The session that the first request with this id began has ended.
    #[error("the session that this request began has ended")]
    SessionEnded,
    /// The caller's API key was revoked while it called.
    #[error("the API key is not accepted")]
    CredentialEnded,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Refresh failed. Unless it says otherwise, nothing was consumed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// Malformed, forged, of another realm, or of a session that is not known.
    #[error("the refresh token is not valid")]
    Invalid,
    /// Of a later generation than the session: the store was restored from a backup.
    #[error("the refresh token is newer than the session: the authority was restored from a backup")]
    Ahead,
    /// The session's idle or absolute life is over.
    #[error("the session has expired")]
    Expired,
    /// The session was revoked.
    #[error("the session was revoked ({})", .0.as_str())]
    Revoked(RevokeReason),
    /// A spent token: the session is revoked now.
    #[error("the refresh token was used before: the session is revoked")]
    Reused,
    /// A retry within the grace window, after as many as may be answered.
    #[error("the refresh token was sent again too often: use the token of an answer that you had")]
    ReplaysUsed,
    /// The session belongs to another client.
    #[error("the session belongs to another client")]
    WrongClient,
    /// The session is for another audience than the caller takes it to be.
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
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Introspect failed; an inactive token is no failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IntrospectError {
    /// `at_least_as_fresh` is no cursor of this log.
    #[error("not a cursor of this log")]
    CursorInvalid,
    /// The log did not reach the place in time.
    #[error("the log did not reach that place in time")]
    NotFreshEnough,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A token is not good for what is wanted, or nobody can say.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessError {
    /// It is no good access token.
    #[error(transparent)]
    TokenRejection(#[from] TokenRejection),
    /// It is good, and has not, or no longer, these scopes.
    #[error("the token has not, or no longer, `{missing}`")]
    ScopesMissing {
        /// The scopes.
        missing: ScopeSet,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Revoke failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RevokeError {
    /// The target is not the caller's own, and policy does not permit.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A session can't be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none in the realm, or the caller may not see it.
    #[error("no such session")]
    NotFound,
    /// The caller may not list these.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The page token is none of this listing's.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An API key can't be managed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// There is none in the realm, or the caller may not see it.
    #[error("no such API key")]
    NotFound,
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// A field is out of bounds.
    #[error("{field} {problem}")]
    Field {
        /// The field, as the wire names it.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The page token is none of this listing's.
    #[error("the page token is not of this list")]
    PageTokenInvalid,
    /// The key and those before it were rolled too often lately.
    #[error("this API key was rolled too often lately")]
    RolledTooOften {
        /// How long until it can be rolled again.
        wait: Seconds,
    },
    /// The caller's own API key was revoked meanwhile.
    #[error("the API key of the call does not work any more")]
    CredentialEnded,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A watch can't begin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The caller may not watch.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Not a cursor of this log, or of another filter.
    #[error("not a cursor of this log and filter")]
    CursorInvalid,
    /// The events after the cursor are no longer kept.
    #[error("the events after that place are no longer kept: start with a snapshot")]
    CursorExpired,
    /// The filter names an audience that the catalogue does not have: nothing would ever be about its tokens.
    #[error("audience `{audience}` is not in the catalogue")]
    AudienceUnknown {
        /// The audience.
        audience: Audience,
        /// The nearest name that the catalogue has.
        nearest: Option<String>,
    },
    /// An administrator evicted the subscriber.
    #[error("this subscriber was evicted: an administrator sent it away for a while")]
    Evicted {
        /// When it may come back.
        until_free: Duration,
    },
    /// A required subscriber would go on answering for too long without hearing of revocations.
    #[error("staleness_bound of a required subscriber must be at most {} s", max.as_secs())]
    BoundTooLong {
        /// The longest.
        max: Duration,
    },
    /// Too many streams of one required subscriber's name are open, or ended within its staleness bound.
    #[error("too many streams have this subscriber's name: give each process its own")]
    NameCrowded {
        /// When those that have ended count no more.
        until_free: Duration,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A policy can't be put in force.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The policy was built into the program.
    #[error("the authority has no policy directory: its policy is built in")]
    NoDirectory,
    /// The files are wrong.
    #[error("{0}")]
    Refused(#[from] PolicyError),
    /// A realm that is served is not in the catalogue.
    #[error("realm `{realm}` is served, and not in the policy's catalogue.toml: add it under [realms]")]
    RealmUnknown {
        /// The realm.
        realm: RealmName,
    },
    /// The plan was made for another policy in force, or another policy in the directory.
    #[error("the plan is out of date: {0}")]
    PlanStale(String),
    /// No plan of this authority.
    #[error("not a plan of this authority")]
    PlanInvalid,
    /// More live sessions would lose scopes or end than the caller allows.
    #[error("{touched} live sessions would lose scopes or end, and at most {max} may")]
    TooManySessions {
        /// How many.
        touched: u64,
        /// How many may.
        max: u64,
    },
    /// Reading the authority's own policy took longer than it may.
    #[error("reading the policy took longer than it may: make it smaller")]
    TooLong,
    /// Reading the policy panicked: a defect, whose trace is in the log.
    #[error("the policy could not be read: a defect, see the log")]
    Panicked,
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// Not now. The policy may be in force already, and not reconciled with every live session: apply it again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl ApplyError {
    /// Whether the same files may be applied later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Panicked)
    }

    /// What is wrong in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = self.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// The same where the files that were read are not the caller's: no text out of them.
    #[must_use]
    pub(crate) fn without_content(self) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.without_content()),
            other => other,
        }
    }

    /// What is wrong with the files.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Refused(error) => &error.diagnostics,
            _ => &[],
        }
    }
}

/// A decision can't be explained.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExplainError {
    /// The caller may not do this.
    #[error(transparent)]
    NotAllowed(#[from] CallNotAllowed),
    /// The audit trail of the realm has no such decision.
    #[error("the audit trail has no decision with this id: records are kept for the audit retention")]
    DecisionUnknown,
    /// The policy that decided is not kept.
    #[error("policy {0} is no longer kept, so its decisions can't be explained")]
    PolicyForgotten(PolicyRevision),
    /// The policy that decided is refused by this version.
    #[error("policy {0} can't be read by this version, so its decisions can't be explained")]
    PolicyUnreadable(PolicyRevision),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<LoadError> for ApplyError {
    /// Of work for a caller; the authority's own has another bound.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(error) => Self::Refused(error),
            LoadError::Stopped => Self::Unavailable(Unavailable::OutOfTime),
        }
    }
}

/// Every error that holds an [`Unavailable`] takes a failed store as one.
macro_rules! from_store {
    ($($error:ident),*) => {$(
        impl From<StoreError> for $error {
            fn from(error: StoreError) -> Self {
                Self::Unavailable(Unavailable::Store(error))
            }
        }
    )*};
}

from_store!(
    AuthenticateError,
    IssueError,
    RefreshError,
    IntrospectError,
    RevokeError,
    SessionError,
    ApiKeyError,
    WatchError,
    ApplyError,
    ExplainError
);

/// The same for missing random numbers.
macro_rules! from_entropy {
    ($($error:ident),*) => {$(
        impl From<NoEntropy> for $error {
            fn from(error: NoEntropy) -> Self {
                Self::Unavailable(Unavailable::Entropy(error))
            }
        }
    )*};
}

from_entropy!(IssueError, RefreshError, RevokeError, ApiKeyError);
