//! The facts of an audit record, in one form for all kinds of action: for lists, filters and exports.

use crate::{
    audit::{Actor, AuditAction, AuditRecord},
    event::EventTarget,
    id::{ApiKeyId, DecisionId, KeyId, PolicyRevision, SessionId, TokenId},
    name::{Audience, ClientName, RoleName, Subject, SubscriberName},
    scope::ScopeSet,
};

/// The kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditKind {
    /// [`AuditAction::Issued`].
    Issued,
    /// [`AuditAction::Refreshed`].
    Refreshed,
    /// [`AuditAction::Reused`].
    Reused,
    /// [`AuditAction::Revoked`].
    Revoked,
    /// [`AuditAction::ApiKeyCreated`].
    ApiKeyCreated,
    /// [`AuditAction::ApiKeyRolled`].
    ApiKeyRolled,
    /// [`AuditAction::ClientDisabled`], if its keys no longer work.
    ClientDisabled,
    /// [`AuditAction::ClientDisabled`], if its keys work again.
    ClientEnabled,
    /// [`AuditAction::SigningKeyCreated`].
    SigningKeyCreated,
    /// [`AuditAction::SigningKeyActivated`].
    SigningKeyActivated,
    /// [`AuditAction::PolicyApplied`].
    PolicyApplied,
    /// [`AuditAction::SessionsReconciled`].
    SessionsReconciled,
    /// [`AuditAction::Denied`].
    Denied,
    /// [`AuditAction::CallRefused`].
    CallRefused,
    /// [`AuditAction::CredentialRefused`].
    CredentialRefused,
    /// [`AuditAction::Checkpoint`].
    Checkpoint,
    /// [`AuditAction::BackedUp`].
    BackedUp,
    /// [`AuditAction::WrongClient`].
    WrongClient,
    /// [`AuditAction::SubscriberEvicted`].
    SubscriberEvicted,
    /// [`AuditAction::ServerKeyReplaced`].
    ServerKeyReplaced,
}

/// Whether the requested action was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// The facts of a record; each is present if its action has it.
#[derive(Clone, Debug, Default)]
pub struct AuditFacts<'a> {
    /// The session.
    pub session: Option<SessionId>,
    /// The access token.
    pub token: Option<TokenId>,
    /// The subject.
    pub subject: Option<&'a Subject>,
    /// The service that may accept the token.
    pub audience: Option<&'a Audience>,
    /// The asserted roles.
    pub roles: &'a [RoleName],
    /// Granted scopes; for a denial, the requested ones.
    pub scopes: Option<&'a ScopeSet>,
    /// Scopes that were requested and not granted.
    pub denied: Option<&'a ScopeSet>,
    /// The decision.
    pub decision: Option<DecisionId>,
    /// The policy that decided, or that was applied.
    pub policy: Option<&'a PolicyRevision>,
    /// The generation of the new refresh token; for a reuse, the presented one.
    pub generation: Option<u64>,
    /// Whether it is a repeated answer.
    pub is_replay: bool,
    /// The client that was the target.
    pub client: Option<&'a ClientName>,
    /// The API key that was the target.
    pub api_key: Option<&'a ApiKeyId>,
    /// Its successor.
    pub successor: Option<&'a ApiKeyId>,
    /// The signing key.
    pub key: Option<&'a KeyId>,
    /// The revoked target.
    pub target: Option<&'a EventTarget>,
    /// The live sessions that ended.
    pub ended: Option<u64>,
    /// The live sessions that lost scopes.
    pub narrowed: Option<u64>,
    /// The caller's reason.
    pub reason: Option<&'a str>,
    /// The call that was refused.
    pub call: Option<&'a str>,
    /// The permission that it lacked.
    pub required: Option<&'a str>,
    /// How often it happened since the record before of its kind.
    pub times: Option<u64>,
    /// The position of the revocation log in a backup.
    pub log_position: Option<u64>,
    /// The signed statement about the trail so far, a PASETO.
    pub checkpoint: Option<&'a str>,
    /// The subscriber.
    pub subscriber: Option<&'a SubscriberName>,
    /// The id of the server key.
    pub server_key: Option<&'a str>,
}

impl AuditKind {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::Issued,
        Self::Refreshed,
        Self::Reused,
        Self::Revoked,
        Self::ApiKeyCreated,
        Self::ApiKeyRolled,
        Self::ClientDisabled,
        Self::ClientEnabled,
        Self::SigningKeyCreated,
        Self::SigningKeyActivated,
        Self::PolicyApplied,
        Self::SessionsReconciled,
        Self::Denied,
        Self::CallRefused,
        Self::CredentialRefused,
        Self::Checkpoint,
        Self::BackedUp,
        Self::WrongClient,
        Self::SubscriberEvicted,
        Self::ServerKeyReplaced,
    ];

    /// The name in lists and exports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refreshed => "refreshed",
            Self::Reused => "refresh_token_reused",
            Self::Revoked => "revoked",
            Self::ApiKeyCreated => "api_key_created",
            Self::ApiKeyRolled => "api_key_rolled",
            Self::ClientDisabled => "client_disabled",
            Self::ClientEnabled => "client_enabled",
            Self::SigningKeyCreated => "signing_key_created",
            Self::SigningKeyActivated => "signing_key_activated",
            Self::PolicyApplied => "policy_applied",
            Self::SessionsReconciled => "sessions_reconciled",
            Self::Denied => "scopes_denied",
            Self::CallRefused => "call_refused",
            Self::CredentialRefused => "credential_refused",
            Self::Checkpoint => "checkpoint",
            Self::BackedUp => "backed_up",
            Self::WrongClient => "wrong_client",
            Self::SubscriberEvicted => "subscriber_evicted",
            Self::ServerKeyReplaced => "server_key_replaced",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether the requested action was done.
    #[must_use]
    pub fn outcome(self) -> AuditOutcome {
        match self {
            Self::Reused | Self::Denied | Self::CallRefused | Self::CredentialRefused | Self::WrongClient => {
                AuditOutcome::Refused
            }
            Self::Issued
            | Self::Refreshed
            | Self::Revoked
            | Self::ApiKeyCreated
            | Self::ApiKeyRolled
            | Self::ClientDisabled
            | Self::ClientEnabled
            | Self::SigningKeyCreated
            | Self::SigningKeyActivated
            | Self::PolicyApplied
            | Self::SessionsReconciled
            | Self::Checkpoint
            | Self::BackedUp
            | Self::SubscriberEvicted
            | Self::ServerKeyReplaced => AuditOutcome::Done,
        }
    }
}

impl AuditOutcome {
    /// The name in lists and exports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl AuditRecord {
    /// Whether the record is about this client: it acted, or was the target.
    #[must_use]
    pub fn concerns(&self, client: &ClientName) -> bool {
        matches!(&self.actor, Actor::Client { client: actor, .. } if actor == client)
            || self.action.facts().client == Some(client)
    }
}

impl AuditAction {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> AuditKind {
        match self {
            Self::Issued { .. } => AuditKind::Issued,
            Self::Refreshed { .. } => AuditKind::Refreshed,
            Self::Reused { .. } => AuditKind::Reused,
            Self::Revoked { .. } => AuditKind::Revoked,
            Self::ApiKeyCreated { .. } => AuditKind::ApiKeyCreated,
            Self::ApiKeyRolled { .. } => AuditKind::ApiKeyRolled,
            Self::ClientDisabled {
                is_enabled: false, ..
            } => AuditKind::ClientDisabled,
            Self::ClientDisabled { is_enabled: true, .. } => AuditKind::ClientEnabled,
            Self::SigningKeyCreated { .. } => AuditKind::SigningKeyCreated,
            Self::SigningKeyActivated { .. } => AuditKind::SigningKeyActivated,
            Self::PolicyApplied { .. } => AuditKind::PolicyApplied,
            Self::SessionsReconciled { .. } => AuditKind::SessionsReconciled,
            Self::Denied { .. } => AuditKind::Denied,
            Self::CallRefused { .. } => AuditKind::CallRefused,
            Self::CredentialRefused { .. } => AuditKind::CredentialRefused,
            Self::Checkpoint { .. } => AuditKind::Checkpoint,
            Self::BackedUp { .. } => AuditKind::BackedUp,
            Self::WrongClient { .. } => AuditKind::WrongClient,
            Self::SubscriberEvicted { .. } => AuditKind::SubscriberEvicted,
            Self::ServerKeyReplaced { .. } => AuditKind::ServerKeyReplaced,
        }
    }

    /// Its facts.
    #[must_use]
    pub fn facts(&self) -> AuditFacts<'_> {
        self.facts_of_tokens()
            .or_else(|| self.facts_of_denial())
            .or_else(|| self.facts_of_refusal())
            .unwrap_or_else(|| self.facts_of_change())
    }
}

/// Each part covers some kinds, and returns nothing for the others.
impl AuditAction {
    fn facts_of_tokens(&self) -> Option<AuditFacts<'_>> {
        if let Self::Issued {
            session,
            token,
            subject,
            audience,
            roles,
            scopes,
            denied,
            decision,
            policy,
        } = self
        {
            return Some(AuditFacts {
                session: Some(*session),
                token: Some(*token),
                subject: Some(subject),
                audience: Some(audience),
                roles,
                scopes: Some(scopes),
                denied: Some(denied),
                ..AuditFacts::decided(*decision, policy)
            });
        }
        let Self::Refreshed {
            session,
            token,
            generation,
            is_replay,
            scopes,
            denied,
            decision,
            policy,
        } = self
        else {
            return None;
        };
        Some(AuditFacts {
            session: Some(*session),
            token: Some(*token),
            generation: Some(*generation),
            is_replay: *is_replay,
            scopes: Some(scopes),
            denied: Some(denied),
            ..AuditFacts::decided(*decision, policy)
        })
    }

    fn facts_of_denial(&self) -> Option<AuditFacts<'_>> {
        let Self::Denied {
            subject,
            roles,
            scopes,
            session,
            decision,
            policy,
        } = self
        else {
            return None;
        };
        Some(AuditFacts {
            session: *session,
            subject: Some(subject),
            roles,
            scopes: Some(scopes),
            ..AuditFacts::decided(*decision, policy)
        })
    }

    fn facts_of_refusal(&self) -> Option<AuditFacts<'_>> {
        if let Self::CallRefused {
            call,
            required,
            times,
        } = self
        {
            return Some(AuditFacts {
                call: Some(call.as_str()),
                required: Some(required.as_str()),
                times: Some(*times),
                ..AuditFacts::default()
            });
        }
        if let Self::CredentialRefused {
            api_key,
            client,
            times,
        } = self
        {
            return Some(AuditFacts {
                api_key: Some(api_key),
                client: Some(client),
                times: Some(*times),
                ..AuditFacts::default()
            });
        }
        let Self::WrongClient {
            session,
            client,
            times,
        } = self
        else {
            return None;
        };
        Some(AuditFacts {
            session: Some(*session),
            client: Some(client),
            times: Some(*times),
            ..AuditFacts::default()
        })
    }

    fn facts_of_change(&self) -> AuditFacts<'_> {
        let mut facts = AuditFacts::default();
        match self {
            Self::Issued { .. }
            | Self::Refreshed { .. }
            | Self::Denied { .. }
            | Self::CallRefused { .. }
            | Self::CredentialRefused { .. }
            | Self::WrongClient { .. } => {}
            Self::Reused {
                session,
                subject,
                presented,
                ..
            } => {
                (facts.session, facts.subject) = (Some(*session), Some(subject));
                facts.generation = Some(*presented);
            }
            Self::Revoked {
                target,
                matched,
                reason,
            } => {
                facts = AuditFacts::of_target(target);
                (facts.target, facts.ended, facts.reason) =
                    (Some(target), Some(*matched), Some(reason.as_str()));
            }
            Self::ApiKeyCreated { api_key, client } => {
                (facts.api_key, facts.client) = (Some(api_key), Some(client));
            }
            Self::ApiKeyRolled { api_key, successor } => {
                (facts.api_key, facts.successor) = (Some(api_key), Some(successor));
            }
            Self::ClientDisabled { client, .. } => facts.client = Some(client),
            Self::SigningKeyActivated { key, .. } | Self::SigningKeyCreated { key } => facts.key = Some(key),
            Self::PolicyApplied { policy } => facts.policy = Some(policy),
            Self::SessionsReconciled {
                policy,
                narrowed,
                ended,
            } => {
                facts.policy = Some(policy);
                (facts.narrowed, facts.ended) = (Some(*narrowed), Some(*ended));
            }
            Self::Checkpoint { token, .. } => facts.checkpoint = Some(token),
            Self::BackedUp { position } => facts.log_position = Some(position.0),
            Self::SubscriberEvicted { client, subscriber } => {
                (facts.client, facts.subscriber) = (Some(client), Some(subscriber));
            }
            Self::ServerKeyReplaced { server_key } => facts.server_key = Some(server_key),
        }
        facts
    }
}

impl<'a> AuditFacts<'a> {
    fn decided(decision: DecisionId, policy: &'a PolicyRevision) -> Self {
        Self {
            decision: Some(decision),
            policy: Some(policy),
            ..Self::default()
        }
    }

    /// A revoked session, subject or key is also found by its own id or name.
    fn of_target(target: &'a EventTarget) -> Self {
        let mut facts = Self::default();
        match target {
            EventTarget::Token(token) => facts.token = Some(*token),
            EventTarget::Session(session) => facts.session = Some(*session),
            EventTarget::Subject(subject) => facts.subject = Some(subject),
            EventTarget::Client(client) => facts.client = Some(client),
            EventTarget::SigningKey(key) => facts.key = Some(key),
            EventTarget::ApiKey(api_key) => facts.api_key = Some(api_key),
            EventTarget::Label(_) | EventTarget::Realm => {}
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            AuditKind::ALL.into_iter().map(AuditKind::as_str).collect();
        assert_eq!(names.len(), AuditKind::ALL.len());
        for kind in AuditKind::ALL {
            assert_eq!(AuditKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(AuditKind::parse("Issued"), None);
    }
}
