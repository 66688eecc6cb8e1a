//! A request to issue.

use tessera_core::{Audience, Label, Refreshable, RequestId, RoleName, ScopeSet, Seconds, Subject};

/// The subject, rights and lifetime of a new session.
#[derive(Clone, Debug, Default)]
pub struct IssueRequest {
    /// Makes the call idempotent for 10 minutes.
    pub request_id: Option<RequestId>,
    /// The subject of the token; `None`: the client itself.
    pub subject: Option<Subject>,
    /// Roles the client asserts for the subject.
    pub roles: Vec<RoleName>,
    /// The requested scopes; empty: every scope of the catalogue without a parameter that policy grants.
    pub scopes: ScopeSet,
    /// The audience; `None`: the catalogue's only one.
    pub audience: Option<Audience>,
    /// Lifetime of each access token; `None`: the realm's default.
    pub access_ttl: Option<Seconds>,
    /// Absolute lifetime of the session; `None`: the realm's maximum.
    pub session_ttl: Option<Seconds>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Fail unless every requested scope is granted.
    pub require_all: bool,
    /// Give no refresh token.
    pub without_refresh: bool,
    /// Which caller may refresh the session.
    pub refreshable: Refreshable,
}
