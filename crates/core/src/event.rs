//! The revocation log: everything that stopped being valid, in one total order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ApiKeyId, KeyId, PolicyRevision, SessionId, TokenId},
    name::{Audience, ClientName, Label, RealmName, Subject},
    revoke_reason::RevokeReason,
    scope::ScopeSet,
    sequence::Sequence,
    time::Timestamp,
};

/// An entry of the revocation log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position.
    pub sequence: Sequence,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// After this no verifier accepts an access token that it can affect: [`LEEWAY_MAX`](crate::LEEWAY_MAX) after the
    /// last of them ends.
    pub relevant_until: Timestamp,
    /// The realm.
    pub realm: RealmName,
    /// The caller's reason; may be empty.
    pub note: String,
    /// What happened.
    pub body: EventBody,
}

/// What happened, and its target. "Everything" of a subject, client, label or realm means every token and session whose
/// `rev` is below the event's sequence: exact, without a clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// One access token ended.
    TokenRevoked {
        /// The token.
        token: TokenId,
        /// Its client.
        client: ClientName,
        /// Its audience.
        audience: Audience,
    },
    /// One session ended.
    SessionRevoked {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientName,
        /// The audience of its tokens.
        audience: Audience,
        /// Why.
        reason: RevokeReason,
    },
    /// Everything of a subject ended.
    SubjectRevoked {
        /// The subject.
        subject: Subject,
    },
    /// Everything issued to a client ended.
    ClientRevoked {
        /// The client.
        client: ClientName,
    },
    /// Everything that carries a label ended.
    LabelRevoked {
        /// The label.
        label: Label,
    },
    /// Everything of the realm ended.
    RealmRevoked,
    /// A signing key was published.
    KeyPublished {
        /// The key.
        key: KeyId,
    },
    /// A signing key signs from now on.
    KeyActivated {
        /// The key.
        key: KeyId,
    },
    /// Nothing that a signing key signed is valid any longer.
    KeyRevoked {
        /// The key.
        key: KeyId,
    },
    /// An API key ended; the sessions that it began follow as `SessionRevoked`.
    ApiKeyRevoked {
        /// The API key.
        api_key: ApiKeyId,
        /// The client that it identified.
        client: ClientName,
    },
    /// Another policy decides from now on.
    PolicyApplied {
        /// Its revision.
        policy: PolicyRevision,
    },
    /// A change of policy took scopes from one session: its tokens whose `rev` is below the event's sequence are valid
    /// only for the other scopes.
    ScopesNarrowed {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientName,
        /// The audience of its tokens.
        audience: Audience,
        /// The scopes that it lost by this change; never empty.
        lost: ScopeSet,
        /// The policy that took them.
        policy: PolicyRevision,
    },
}

/// The kind of an event, without its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is documented at the variant of `EventBody` with its name"
)]
pub enum EventKind {
    TokenRevoked,
    SessionRevoked,
    SubjectRevoked,
    ClientRevoked,
    LabelRevoked,
    RealmRevoked,
    KeyPublished,
    KeyActivated,
    KeyRevoked,
    ApiKeyRevoked,
    PolicyApplied,
    ScopesNarrowed,
}

/// The target of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventTarget {
    /// An access token.
    Token(TokenId),
    /// A session.
    Session(SessionId),
    /// A subject.
    Subject(Subject),
    /// A client.
    Client(ClientName),
    /// A label.
    Label(Label),
    /// A signing key.
    SigningKey(KeyId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// The whole realm.
    Realm,
}

/// As a kind and a name: `subject user:alice`.
impl fmt::Display for EventTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "token {id}"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Subject(name) => write!(f, "subject {name}"),
            Self::Client(name) => write!(f, "client {name}"),
            Self::Label(name) => write!(f, "label {name}"),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
            Self::ApiKey(id) => write!(f, "API key {id}"),
            Self::Realm => f.write_str("realm"),
        }
    }
}

impl EventBody {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::TokenRevoked { .. } => EventKind::TokenRevoked,
            Self::SessionRevoked { .. } => EventKind::SessionRevoked,
            Self::SubjectRevoked { .. } => EventKind::SubjectRevoked,
            Self::ClientRevoked { .. } => EventKind::ClientRevoked,
            Self::LabelRevoked { .. } => EventKind::LabelRevoked,
            Self::RealmRevoked => EventKind::RealmRevoked,
            Self::KeyPublished { .. } => EventKind::KeyPublished,
            Self::KeyActivated { .. } => EventKind::KeyActivated,
            Self::KeyRevoked { .. } => EventKind::KeyRevoked,
            Self::ApiKeyRevoked { .. } => EventKind::ApiKeyRevoked,
            Self::PolicyApplied { .. } => EventKind::PolicyApplied,
            Self::ScopesNarrowed { .. } => EventKind::ScopesNarrowed,
        }
    }

    /// Its target; `None` for a change of policy, which concerns the realm as a whole.
    #[must_use]
    pub fn target(&self) -> Option<EventTarget> {
        Some(match self {
            Self::TokenRevoked { token, .. } => EventTarget::Token(*token),
            Self::SessionRevoked { session, .. } | Self::ScopesNarrowed { session, .. } => {
                EventTarget::Session(*session)
            }
            Self::SubjectRevoked { subject } => EventTarget::Subject(subject.clone()),
            Self::ClientRevoked { client } => EventTarget::Client(client.clone()),
            Self::LabelRevoked { label } => EventTarget::Label(label.clone()),
            Self::RealmRevoked => EventTarget::Realm,
            Self::KeyPublished { key } | Self::KeyActivated { key } | Self::KeyRevoked { key } => {
                EventTarget::SigningKey(*key)
            }
            Self::ApiKeyRevoked { api_key, .. } => EventTarget::ApiKey(*api_key),
            Self::PolicyApplied { .. } => return None,
        })
    }

    /// Whether it ends the validity of tokens, or a part of it: snapshots consist of these events.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        match self {
            Self::TokenRevoked { .. }
            | Self::SessionRevoked { .. }
            | Self::SubjectRevoked { .. }
            | Self::ClientRevoked { .. }
            | Self::LabelRevoked { .. }
            | Self::RealmRevoked
            | Self::KeyRevoked { .. }
            | Self::ScopesNarrowed { .. } => true,
            Self::KeyPublished { .. }
            | Self::KeyActivated { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::PolicyApplied { .. } => false,
        }
    }

    /// The only audience that it can concern, if there is only one.
    #[must_use]
    pub fn audience(&self) -> Option<&Audience> {
        match self {
            Self::TokenRevoked { audience, .. }
            | Self::SessionRevoked { audience, .. }
            | Self::ScopesNarrowed { audience, .. } => Some(audience),
            Self::SubjectRevoked { .. }
            | Self::ClientRevoked { .. }
            | Self::LabelRevoked { .. }
            | Self::RealmRevoked
            | Self::KeyPublished { .. }
            | Self::KeyActivated { .. }
            | Self::KeyRevoked { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::PolicyApplied { .. } => None,
        }
    }

    /// The only client that it can concern, if there is only one.
    #[must_use]
    pub fn client(&self) -> Option<&ClientName> {
        match self {
            Self::TokenRevoked { client, .. }
            | Self::SessionRevoked { client, .. }
            | Self::ClientRevoked { client }
            | Self::ApiKeyRevoked { client, .. }
            | Self::ScopesNarrowed { client, .. } => Some(client),
            Self::SubjectRevoked { .. }
            | Self::LabelRevoked { .. }
            | Self::RealmRevoked
            | Self::KeyPublished { .. }
            | Self::KeyActivated { .. }
            | Self::KeyRevoked { .. }
            | Self::PolicyApplied { .. } => None,
        }
    }
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::TokenRevoked,
        Self::SessionRevoked,
        Self::SubjectRevoked,
        Self::ClientRevoked,
        Self::LabelRevoked,
        Self::RealmRevoked,
        Self::KeyPublished,
        Self::KeyActivated,
        Self::KeyRevoked,
        Self::ApiKeyRevoked,
        Self::PolicyApplied,
        Self::ScopesNarrowed,
    ];
}
