//! The audit trail: who did what, written in the same commit as what it records.

mod facts;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::facts::{AuditFacts, AuditKind, AuditOutcome};

use crate::{
    credential::CredentialId,
    event::EventTarget,
    id::{ApiKeyId, DecisionId, KeyId, PolicyRevision, RequestId, SessionId, TokenId},
    name::{Audience, ClientName, RealmName, RoleName, Subject},
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
    /// Who.
    pub actor: Actor,
    /// The caller's id for the request, if it gave one.
    pub request: Option<RequestId>,
    /// What.
    pub action: AuditAction,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A client, with the credential that it used.
    Client {
        /// The client.
        client: ClientName,
        /// The credential.
        credential: CredentialId,
        /// Where the call came from; none where it had no address.
        address: Option<IpAddr>,
    },
    /// The one who runs the authority, by its configuration or on its machine.
    Operator,
    /// Someone whose credential was not accepted.
    Stranger {
        /// Where the call came from; none where it had no address.
        address: Option<IpAddr>,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAction {
    /// A session began, or the request that began it was repeated.
    Issued {
        /// The session.
        session: SessionId,
        /// The access token.
        token: TokenId,
        /// For whom.
        subject: Subject,
        /// For which service.
        audience: Audience,
        /// Roles asserted.
        roles: Vec<RoleName>,
        /// Scopes granted.
        scopes: ScopeSet,
        /// Scopes asked for and not granted.
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
        /// Whether it was given again.
        is_replay: bool,
        /// Scopes of the new access token.
        scopes: ScopeSet,
        /// Scopes asked for that policy does not grant now.
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
        /// The generation that was presented.
        presented: u64,
        /// The generation that was current.
        current: u64,
    },
    /// Something was revoked.
    Revoked {
        /// What.
        target: EventTarget,
        /// The live sessions that it ended.
        matched: u64,
        /// What the caller gave as the reason.
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
    /// Policy granted too little, and nothing was given.
    Denied {
        /// For whom it was asked.
        subject: Subject,
        /// Roles asserted.
        roles: Vec<RoleName>,
        /// Scopes asked for.
        scopes: ScopeSet,
        /// The session that was to be refreshed; none where one was to begin.
        session: Option<SessionId>,
        /// The decision.
        decision: DecisionId,
        /// The policy that decided.
        policy: PolicyRevision,
    },
    /// Policy does not permit what a client asked of the authority itself.
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
    /// The authority signed what the trail was.
    Checkpoint {
        /// The last record that it covers.
        position: u64,
        /// The statement, a PASETO.
        token: String,
    },
    /// A backup was made, and given to the actor.
    BackedUp {
        /// The position of the log that it has.
        position: Sequence,
    },
    /// A client presented a refresh token of another client's session, which stays as it was.
    WrongClient {
        /// The session.
        session: SessionId,
        /// Its client.
        client: ClientName,
        /// How often it happened since the record before.
        times: u64,
    },
}
