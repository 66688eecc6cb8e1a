//! What a decision reads, named before it is made.

use tessera_core::{ApiKeyId, ClientName, PolicyRevision, RealmName, SessionId};

use crate::record::RequestKey;

/// The reads of one decision, named before it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) api_keys: Vec<ApiKeyId>,
    pub(crate) makers: Vec<ApiKeyId>,
    pub(crate) clients: Vec<(RealmName, ClientName)>,
    pub(crate) request: Option<RequestKey>,
    pub(crate) settings: bool,
    pub(crate) signing_keys: bool,
    pub(crate) policies: Vec<PolicyRevision>,
    pub(crate) realms: Vec<RealmName>,
    pub(crate) events_below_floor: bool,
}

impl Reads {
    /// A session.
    #[must_use]
    pub fn session(mut self, id: SessionId) -> Self {
        self.sessions.push(id);
        self
    }

    /// Sessions.
    #[must_use]
    pub fn sessions(mut self, ids: impl IntoIterator<Item = SessionId>) -> Self {
        self.sessions.extend(ids);
        self
    }

    /// An API key.
    #[must_use]
    pub fn api_key(mut self, id: ApiKeyId) -> Self {
        self.api_keys.push(id);
        self
    }

    /// API keys.
    #[must_use]
    pub fn api_keys(mut self, ids: impl IntoIterator<Item = ApiKeyId>) -> Self {
        self.api_keys.extend(ids);
        self
    }

    /// The API keys that were made with each of these.
    #[must_use]
    pub fn made_with(mut self, makers: impl IntoIterator<Item = ApiKeyId>) -> Self {
        self.makers.extend(makers);
        self
    }

    /// A client: whether it is disabled, and how many sessions it has.
    #[must_use]
    pub fn client(mut self, realm: RealmName, client: ClientName) -> Self {
        self.clients.push((realm, client));
        self
    }

    /// The answer to an earlier request with this key. A unit names one.
    #[must_use]
    pub fn request(mut self, key: RequestKey) -> Self {
        self.request = Some(key);
        self
    }

    /// What is kept once for the whole store.
    #[must_use]
    pub fn settings(mut self) -> Self {
        self.settings = true;
        self
    }

    /// All signing keys of all realms.
    #[must_use]
    pub fn signing_keys(mut self) -> Self {
        self.signing_keys = true;
        self
    }

    /// The files of a policy that is or was in force, for as long as audit records can name it.
    #[must_use]
    pub fn policy(mut self, revision: PolicyRevision) -> Self {
        self.policies.push(revision);
        self
    }

    /// A realm: how many sessions it has. It reads a number for each client, and no session.
    #[must_use]
    pub fn realm(mut self, realm: RealmName) -> Self {
        self.realms.push(realm);
        self
    }

    /// Events below the floor of the log that still matter: their end is so far ahead that the log is not kept for
    /// them.
    #[must_use]
    pub fn events_below_floor(mut self) -> Self {
        self.events_below_floor = true;
        self
    }

    /// Also names the reads of `more`. Returns whether any of them is new.
    pub(crate) fn add(&mut self, more: Self) -> bool {
        let has_request = more.request.is_some() && self.request != more.request;
        self.request = more.request.or(self.request.take());
        let added = [
            add_new(&mut self.sessions, more.sessions),
            add_new(&mut self.api_keys, more.api_keys),
            add_new(&mut self.makers, more.makers),
            add_new(&mut self.clients, more.clients),
            add_new(&mut self.policies, more.policies),
            add_new(&mut self.realms, more.realms),
            set_new(&mut self.settings, more.settings),
            set_new(&mut self.signing_keys, more.signing_keys),
            set_new(&mut self.events_below_floor, more.events_below_floor),
        ];
        has_request || added.contains(&true)
    }
}

fn set_new(is_named: &mut bool, more: bool) -> bool {
    let is_new = more && !*is_named;
    *is_named |= more;
    is_new
}

fn add_new<T: PartialEq>(named: &mut Vec<T>, more: Vec<T>) -> bool {
    let before = named.len();
    for item in more {
        if !named.contains(&item) {
            named.push(item);
        }
    }
    named.len() > before
}

/// What a backend reads for a unit.
impl Reads {
    /// The sessions that are named.
    #[must_use]
    pub fn session_ids(&self) -> &[SessionId] {
        &self.sessions
    }

    /// The API keys that are named.
    #[must_use]
    pub fn api_key_ids(&self) -> &[ApiKeyId] {
        &self.api_keys
    }

    /// The makers that are named.
    #[must_use]
    pub fn maker_ids(&self) -> &[ApiKeyId] {
        &self.makers
    }

    /// The clients that are named.
    #[must_use]
    pub fn client_names(&self) -> &[(RealmName, ClientName)] {
        &self.clients
    }

    /// The request that is named.
    #[must_use]
    pub fn request_key(&self) -> Option<&RequestKey> {
        self.request.as_ref()
    }

    /// Whether the settings are named.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.settings
    }

    /// Whether the signing keys are named.
    #[must_use]
    pub fn has_signing_keys(&self) -> bool {
        self.signing_keys
    }

    /// The policies whose files are named.
    #[must_use]
    pub fn policy_revisions(&self) -> &[PolicyRevision] {
        &self.policies
    }

    /// The realms that are named.
    #[must_use]
    pub fn realm_names(&self) -> &[RealmName] {
        &self.realms
    }

    /// Whether the events below the floor are named.
    #[must_use]
    pub fn has_events_below_floor(&self) -> bool {
        self.events_below_floor
    }
}
