//! A request to revoke.

use std::fmt;

use tessera_core::{ApiKeyId, ClientName, KeyId, Label, RequestId, SessionId, Subject};

use crate::issuance::tokens::PresentedToken;

/// What ends, and why.
#[derive(Clone, Debug)]
pub struct RevokeRequest {
    /// For the audit record.
    pub request_id: Option<RequestId>,
    /// For the audit record and the subscribers.
    pub reason: String,
    /// Only count.
    pub validate_only: bool,
    /// What ends.
    pub target: RevokeTarget,
    /// In addition to the client's sessions: none of its API keys works until it is enabled again. Only with
    /// [`RevokeTarget::Client`].
    pub disables_client: bool,
    /// In addition to an API key and its successors: the keys that were made with them. Only with
    /// [`RevokeTarget::ApiKey`].
    pub with_made_keys: bool,
}

/// What ends.
#[derive(Clone, Debug)]
pub enum RevokeTarget {
    /// An access token, or the session of a refresh token.
    Token(PresentedToken),
    /// A session.
    Session(SessionId),
    /// Everything of a subject.
    Subject(Subject),
    /// Everything issued to a client.
    Client(ClientName),
    /// An API key, and the sessions that it began.
    ApiKey(ApiKeyId),
    /// Everything that carries a label.
    Label(Label),
    /// Everything that a signing key signed.
    SigningKey(KeyId),
    /// Everything of the realm.
    Realm,
}

impl RevokeTarget {
    /// Whether it is one token or session; a target with many sessions has to be counted.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Session(_))
    }
}

impl fmt::Display for RevokeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A token of any kind is a secret.
            Self::Token(_) => f.write_str("a token"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Subject(subject) => write!(f, "subject {subject}"),
            Self::Client(client) => write!(f, "client {client}"),
            Self::ApiKey(id) => write!(f, "API key {id}"),
            Self::Label(label) => write!(f, "label {label}"),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
            Self::Realm => f.write_str("the realm"),
        }
    }
}
