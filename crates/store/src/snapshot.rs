//! What a decision is made on: the rows that its reads name.

use std::sync::Arc;

use tessera_core::{
    ApiKey, ApiKeyId, ClientName, Event, PolicyRevision, RealmName, RevokeReason, Sequence, Session,
    SessionId, SigningKey,
};

use crate::{
    audit::AuditHead,
    record::{PolicyFiles, RequestRecord, Settings},
    times::Times,
};

/// A session, with the reason if it was ended together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The session, whose own state has only what happened to it alone.
    pub session: Arc<Session>,
    /// Why everything of its subject, client, label, realm or API key ended, if it did.
    pub ended: Option<RevokeReason>,
}

/// The stored state of a client besides its keys and sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientState {
    /// Whether none of its API keys works.
    pub is_disabled: bool,
    /// How many sessions are kept for it, including those that ended and are not removed yet.
    pub sessions: u64,
}

/// The result of the reads, all from one serializable state.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// See [`head`](Self::head).
    pub head: Sequence,
    /// The last record of the audit trail: appended records follow it.
    pub audit_head: AuditHead,
    /// See [`policy_in_force`](Self::policy_in_force).
    pub policy: Option<PolicyRevision>,
    /// The stored times.
    pub times: Times,
    /// The sessions that were found.
    pub sessions: Vec<StoredSession>,
    /// The sessions that were named and do not exist.
    pub missing_sessions: Vec<SessionId>,
    /// The API keys that were found.
    pub api_keys: Vec<ApiKey>,
    /// The makers that were named, with the API keys that were made with each.
    pub made: Vec<(ApiKeyId, Vec<ApiKey>)>,
    /// The clients that were named.
    pub clients: Vec<(RealmName, ClientName, ClientState)>,
    /// The request, if it was answered before.
    pub request: Option<RequestRecord>,
    /// The settings, if they were named.
    pub settings: Option<Settings>,
    /// All signing keys, if they were named, oldest first.
    pub signing_keys: Vec<SigningKey>,
    /// The policies that were named and are kept.
    pub policies: Vec<(PolicyRevision, Arc<PolicyFiles>)>,
    /// The realms that were named, with the number of their sessions.
    pub realms: Vec<(RealmName, u64)>,
    /// The events below the floor, in order, if they were named.
    pub events_below_floor: Vec<Arc<Event>>,
}

impl Snapshot {
    /// The last event of the log: tokens that are issued now carry it.
    #[must_use]
    pub fn head(&self) -> Sequence {
        self.head
    }

    /// The policy in force; `None` before the first. What another policy granted must not be committed.
    #[must_use]
    pub fn policy_in_force(&self) -> Option<&PolicyRevision> {
        self.policy.as_ref()
    }

    /// A session that was named; `None` if it does not exist.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&StoredSession> {
        self.sessions.iter().find(|stored| stored.session.id == id)
    }

    /// Whether a session was named. If not, nothing is known of it.
    #[must_use]
    pub fn has_looked_for(&self, id: SessionId) -> bool {
        self.session(id).is_some() || self.missing_sessions.contains(&id)
    }

    /// An API key that was named; `None` if it does not exist.
    #[must_use]
    pub fn api_key(&self, id: &ApiKeyId) -> Option<&ApiKey> {
        self.api_keys.iter().find(|key| key.id == *id)
    }

    /// The API keys that were made with one that was named as a maker; `None` if it was not named.
    #[must_use]
    pub fn made_with(&self, maker: &ApiKeyId) -> Option<&[ApiKey]> {
        let mut found = self.made.iter();
        found.find(|(of, _)| of == maker).map(|(_, made)| made.as_slice())
    }

    /// A client that was named.
    #[must_use]
    pub fn client(&self, realm: &RealmName, client: &ClientName) -> ClientState {
        let mut found = self.clients.iter();
        found
            .find(|(of, name, _)| of == realm && name == client)
            .map(|(.., state)| *state)
            .unwrap_or_default()
    }

    /// The answer to the request that was named.
    #[must_use]
    pub fn request(&self) -> Option<&RequestRecord> {
        self.request.as_ref()
    }

    /// The files of a policy that was named; `None` if they are not kept.
    #[must_use]
    pub fn policy_files(&self, revision: &PolicyRevision) -> Option<&Arc<PolicyFiles>> {
        let mut found = self.policies.iter();
        found.find(|(of, _)| of == revision).map(|(_, files)| files)
    }

    /// How many sessions a realm that was named has, including those that ended and are not removed yet.
    #[must_use]
    pub fn session_count(&self, realm: &RealmName) -> u64 {
        let mut found = self.realms.iter();
        found
            .find(|(of, _)| of == realm)
            .map(|(_, sessions)| *sessions)
            .unwrap_or_default()
    }
}
