//! What a client may ask of the authority itself.

use tessera_core::{RoleName, Subject};

/// Something that the authority does for a client only where the policy lets it.
///
/// Permissions are decided by the same rules as scopes, under resources below `tessera/`; no token ever
/// carries one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// Issue tokens that speak for this subject.
    IssueFor(Subject),
    /// Assert this role for a subject.
    Assert(RoleName),
    /// Introspect tokens of others.
    Introspect,
    /// Watch the revocation log.
    Watch,
    /// Create API keys.
    CreateApiKeys,
    /// List API keys.
    ReadApiKeys,
    /// Revoke and roll API keys.
    RevokeApiKeys,
    /// List sessions of others.
    ReadSessions,
    /// Revoke sessions of others.
    RevokeSessions,
    /// Revoke signing keys.
    RevokeSigningKeys,
    /// Revoke everything in the realm.
    RevokeRealm,
}

impl Permission {
    /// The permission as `resource:action`, as rules and answers name it.
    #[must_use]
    pub fn scope(&self) -> String {
        let (resource, action) = self.parts();
        format!("{resource}:{action}")
    }

    /// The resource and the action.
    pub(crate) fn parts(&self) -> (String, &'static str) {
        let (resource, action) = match self {
            Self::IssueFor(subject) => return (format!("tessera/subjects/{subject}"), "issue"),
            Self::Assert(role) => return (format!("tessera/roles/{role}"), "assert"),
            Self::Introspect => ("tessera/tokens", "introspect"),
            Self::Watch => ("tessera/revocations", "watch"),
            Self::CreateApiKeys => ("tessera/api-keys", "create"),
            Self::ReadApiKeys => ("tessera/api-keys", "read"),
            Self::RevokeApiKeys => ("tessera/api-keys", "revoke"),
            Self::ReadSessions => ("tessera/sessions", "read"),
            Self::RevokeSessions => ("tessera/sessions", "revoke"),
            Self::RevokeSigningKeys => ("tessera/keys", "revoke"),
            Self::RevokeRealm => ("tessera/realm", "revoke"),
        };
        (resource.to_owned(), action)
    }
}
