//! A record of the audit trail.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    credential::CredentialId,
    event::EventTarget,
    id::{ApiKeyId, DecisionId, KeyId, PolicyRevision, RequestId, SessionId, TokenId},
    name::{Audience, ClientName, RealmName, RoleName, Subject, SubscriberName},
    scope::ScopeSet,
    sequence::Sequence,
    time::Timestamp,
};

/// One entry of the audit trail. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// The realm.
    pub realm: RealmName,
    /// The actor.
    pub actor: Actor,
    /// The caller's id for the request, if it gave one.
    pub request: Option<RequestId>,
    /// The action.
    pub action: AuditAction,
}

/// The actor of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A client, with the credential that it used.
    Client {
        /// The client.
        client: ClientName,
        /// The credential.
        credential: CredentialId,
        /// The address of the caller; `None` if it had none.
        address: Option<IpAddr>,
    },
    /// The operator of the authority, by its configuration or on its machine.
    Operator,
    /// A caller whose credential was not accepted.
    Stranger {
        /// The address of the caller; `None` if it had none.
        address: Option<IpAddr>,
    },
}

/// The action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAction {
    /// A session began, or the request that began it was repeated.
    Issued {
        /// The session.
        session: SessionId,
        /// The access token.
        token: TokenId,
        /// The subject.
        subject: Subject,
        /// The service that may accept it.
        audience: Audience,
        /// The asserted roles.
        roles: Vec<RoleName>,
        /// The granted scopes.
        scopes: ScopeSet,
        /// Scopes that were requested and not granted.
        denied: ScopeSet,
        /// The decision.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// A refresh token was spent, or the answer to the last refresh given again.
    Refreshed {
        /// The session.
        session: SessionId,
        /// The new access token.
        token: TokenId,
        /// The generation of its refresh token.
        generation: u64,
        /// Whether it is a repeated answer.
        is_replay: bool,
        /// Scopes of the new access token.
        scopes: ScopeSet,
        /// Requested scopes that policy does not grant now.
        denied: ScopeSet,
        /// The decision.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// A spent refresh token was used, and its session revoked.
    Reused {
        /// The session.
        session: SessionId,
        /// Its subject: the person whose token was stolen, or used twice.
        subject: Subject,
        /// The generation that was presented.
        presented: u64,
        /// The generation that was current.
        current: u64,
    },
    /// Something was revoked.
    Revoked {
        /// The target.
        target: EventTarget,
        /// The live sessions that it ended.
        matched: u64,
        /// The caller's reason.
        reason: String,
    },
    /// An API key was made.
    ApiKeyCreated {
        /// The key.
        api_key: ApiKeyId,
        /// Its client.
        client: ClientName,
    },
    /// An API key was replaced.
    ApiKeyRolled {
        /// The old key.
        api_key: ApiKeyId,
        /// The new key.
        successor: ApiKeyId,
    },
    /// A client was disabled, or enabled again.
    ClientDisabled {
        /// The client.
        client: ClientName,
        /// Whether its keys work again.
        is_enabled: bool,
    },
    /// A signing key signs from now on.
    SigningKeyActivated {
        /// The key.
        key: KeyId,
        /// The one that signed before.
        retired: Option<KeyId>,
    },
    /// A signing key was made.
    SigningKeyCreated {
        /// The key.
        key: KeyId,
    },
    /// Another policy was applied.
    PolicyApplied {
        /// Its revision.
        policy: PolicyRevision,
    },
    /// Live sessions are reconciled with the policy that was applied.
    SessionsReconciled {
        /// The policy.
        policy: PolicyRevision,
        /// Sessions that lost scopes.
        narrowed: u64,
        /// Sessions that ended.
        ended: u64,
    },
    /// Policy granted too little, and no token was issued.
    Denied {
        /// The subject of the request.
        subject: Subject,
        /// The asserted roles.
        roles: Vec<RoleName>,
        /// The requested scopes.
        scopes: ScopeSet,
        /// The session that was to be refreshed; `None` if a new one was to begin.
        session: Option<SessionId>,
        /// The decision.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// Policy does not permit a client's call to the authority itself.
    CallRefused {
        /// The RPC, or the endpoint.
        call: String,
        /// The permission that was missing, as a rule names it.
        required: String,
        /// How often it happened since the record before.
        times: u64,
    },
    /// An API key was presented that is not accepted.
    CredentialRefused {
        /// The key that the credential names.
        api_key: ApiKeyId,
        /// Its client.
        client: ClientName,
        /// How often it happened since the record before.
        times: u64,
    },
    /// The authority signed the state of the trail.
    Checkpoint {
        /// The last record that it covers.
        position: u64,
        /// The signed statement, a PASETO.
        token: String,
    },
    /// A backup was made, and given to the actor.
    BackedUp {
        /// The position of the log in the backup.
        position: Sequence,
    },
    /// A client presented a refresh token of another client's session, which is unchanged.
    WrongClient {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientName,
        /// How often it happened since the record before.
        times: u64,
    },
    /// A required subscriber was evicted.
    SubscriberEvicted {
        /// The client that it is.
        client: ClientName,
        /// Its name.
        subscriber: SubscriberName,
    },
    /// The authority uses another server key from now on.
    ServerKeyReplaced {
        /// The id of the key, `k4.lid.…`.
        server_key: String,
    },
}
