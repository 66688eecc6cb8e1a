//! What a client may request from the authority itself.

use tessera_core::{ClientName, RoleName, Subject};

use crate::own;

/// An action that the authority performs for a client only if the policy allows it.
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
    /// Watch as a subscriber that AwaitPropagation waits for.
    RequireWatch,
    /// List required subscribers.
    ReadSubscribers,
    /// Evict required subscribers.
    EvictSubscribers,
    /// Create API keys of this client, roll them, and enable it.
    CreateApiKeysOf(ClientName),
    /// Revoke API keys of this client, roll them, and disable it.
    RevokeApiKeysOf(ClientName),
    /// Create API keys of one's own client.
    CreateApiKeys,
    /// List API keys.
    ReadApiKeys,
    /// Revoke API keys of one's own client, which every client may do.
    RevokeApiKeys,
    /// List sessions of others.
    ReadSessions,
    /// Revoke sessions of others.
    RevokeSessions,
    /// List signing keys, with what a published key waits for.
    ReadSigningKeys,
    /// Replace signing keys.
    RotateSigningKeys,
    /// Revoke signing keys.
    RevokeSigningKeys,
    /// Revoke everything in the realm.
    RevokeRealm,
    /// Read the audit trail.
    ReadAudit,
    /// Read the policy: explanations, plans, status.
    ReadPolicies,
    /// Put another policy in force.
    ApplyPolicies,
    /// Make backups, of all realms.
    CreateBackup,
}

impl Permission {
    /// The permission as `resource:action`, as rules and answers name it.
    #[must_use]
    pub fn scope(&self) -> String {
        let (resource, action) = self.parts();
        format!("{resource}:{action}")
    }

    /// Reads the output of [`Permission::scope`]; `None` if `text` is not a permission.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (resource, action) = text.rsplit_once(':')?;
        if let (Some(name), "issue") = (resource.strip_prefix(own::SUBJECTS), action) {
            return Subject::parse(name).ok().map(Self::IssueFor);
        }
        if let (Some(name), "assert") = (resource.strip_prefix(own::ROLES), action) {
            return RoleName::parse(name).ok().map(Self::Assert);
        }
        if let Some(name) = resource.strip_prefix(own::API_KEYS) {
            let client = ClientName::parse(name).ok()?;
            return match action {
                "create" => Some(Self::CreateApiKeysOf(client)),
                "revoke" => Some(Self::RevokeApiKeysOf(client)),
                _ => None,
            };
        }
        Self::FIXED.into_iter().find(|fixed| fixed.scope() == text)
    }

    /// The permission that `text` was most likely meant to be, in the form of [`Permission::scope`]; `*` stands for a
    /// name.
    #[must_use]
    pub fn nearest(text: &str) -> Option<String> {
        own::nearest(text)
    }

    /// The permissions without a name in them.
    pub const FIXED: [Self; 18] = [
        Self::Introspect,
        Self::Watch,
        Self::RequireWatch,
        Self::ReadSubscribers,
        Self::EvictSubscribers,
        Self::CreateApiKeys,
        Self::ReadApiKeys,
        Self::RevokeApiKeys,
        Self::ReadSessions,
        Self::RevokeSessions,
        Self::ReadSigningKeys,
        Self::RotateSigningKeys,
        Self::RevokeSigningKeys,
        Self::RevokeRealm,
        Self::ReadAudit,
        Self::ReadPolicies,
        Self::ApplyPolicies,
        Self::CreateBackup,
    ];

    /// The resource and the action.
    pub(crate) fn parts(&self) -> (String, &'static str) {
        let (resource, action) = match self {
            Self::IssueFor(subject) => return (format!("tessera/subjects/{subject}"), "issue"),
            Self::Assert(role) => return (format!("tessera/roles/{role}"), "assert"),
            Self::CreateApiKeysOf(client) => return (format!("tessera/api-keys/{client}"), "create"),
            Self::RevokeApiKeysOf(client) => return (format!("tessera/api-keys/{client}"), "revoke"),
            Self::Introspect => ("tessera/tokens", "introspect"),
            Self::Watch => ("tessera/revocations", "watch"),
            Self::RequireWatch => ("tessera/revocations", "require"),
            Self::ReadSubscribers => ("tessera/subscribers", "read"),
            Self::EvictSubscribers => ("tessera/subscribers", "evict"),
            Self::CreateApiKeys => ("tessera/api-keys", "create"),
            Self::ReadApiKeys => ("tessera/api-keys", "read"),
            Self::RevokeApiKeys => ("tessera/api-keys", "revoke"),
            Self::ReadSessions => ("tessera/sessions", "read"),
            Self::RevokeSessions => ("tessera/sessions", "revoke"),
            Self::ReadSigningKeys => ("tessera/keys", "read"),
            Self::RotateSigningKeys => ("tessera/keys", "rotate"),
            Self::RevokeSigningKeys => ("tessera/keys", "revoke"),
            Self::RevokeRealm => ("tessera/realm", "revoke"),
            Self::ReadAudit => ("tessera/audit", "read"),
            Self::ReadPolicies => ("tessera/policies", "read"),
            Self::ApplyPolicies => ("tessera/policies", "apply"),
            Self::CreateBackup => ("tessera/backup", "create"),
        };
        (resource.to_owned(), action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_can_name_is_what_the_authority_asks() {
        let named = own::FIXED
            .iter()
            .flat_map(|(resource, actions)| actions.iter().map(move |action| format!("{resource}:{action}")));
        let asked = Permission::FIXED.iter().map(Permission::scope);
        assert_eq!(named.collect::<Vec<_>>(), asked.collect::<Vec<_>>());
    }

    #[test]
    fn a_permission_is_read_as_it_is_written() {
        let subject = Subject::parse("auth0|ann+tag").unwrap();
        let role = RoleName::parse("role:viewer").unwrap();
        let client = ClientName::parse("client:shop").unwrap();
        let named = [
            Permission::IssueFor(subject),
            Permission::Assert(role),
            Permission::CreateApiKeysOf(client.clone()),
            Permission::RevokeApiKeysOf(client),
        ];
        for permission in Permission::FIXED.into_iter().chain(named) {
            assert_eq!(Permission::parse(&permission.scope()), Some(permission));
        }
        for text in [
            "videos:read",
            "tessera/tokens",
            "tessera/tokens:watch",
            "tessera/subjects/role:viewer:issue",
            "tessera/roles/viewer:assert",
            "tessera/api-keys/shop:create",
            "tessera/api-keys/client:shop:read",
            "tessera/subjects/user:*:issue",
        ] {
            assert_eq!(Permission::parse(text), None, "{text}");
        }
    }
}
