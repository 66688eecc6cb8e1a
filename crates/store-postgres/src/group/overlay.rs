//! The rows of a group: those that were loaded, and what is written over them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tessera_core::{
    ApiKey, ApiKeyId, ClientName, Event, KeyId, PolicyRevision, RealmName, Revocations, Session, SessionId,
    SigningKey, Timestamp,
};
use tessera_store::{AuditBytes, ClientState, CutoffKey, PolicyFiles, RequestKey, RequestRecord, Settings};

use crate::{
    node::{Kept, Node},
    place::Place,
    read_set::Client,
    state::State,
};

/// The loaded rows that units name, with what was written over them.
pub(crate) struct Group<'a> {
    pub(super) node: &'a Node,
    pub(super) before: State,
    pub(crate) state: State,
    /// What the events of this group revoke: it has no effect outside the group until the group is committed.
    pub(super) pending: Revocations,
    pub(super) sessions: HashMap<SessionId, Option<Arc<Session>>>,
    /// The row versions of the sessions that were read.
    pub(super) places: HashMap<SessionId, Place>,
    /// Whether the credential of each session is revoked.
    pub(super) is_key_revoked: HashMap<ApiKeyId, bool>,
    pub(super) api_keys: HashMap<ApiKeyId, Option<ApiKey>>,
    pub(super) makers: BTreeSet<ApiKeyId>,
    pub(super) clients: HashMap<Client, ClientState>,
    pub(super) requests: HashMap<RequestKey, Option<RequestRecord>>,
    pub(super) settings: Option<Settings>,
    pub(super) signing_keys: Option<BTreeMap<KeyId, SigningKey>>,
    pub(super) policies: BTreeMap<PolicyRevision, Option<Arc<PolicyFiles>>>,
    /// How many sessions each realm had before the group.
    pub(super) realms: BTreeMap<RealmName, u64>,
    pub(super) events_below_floor: Option<Vec<Arc<Event>>>,
    pub(super) writes: Writes,
}

/// The writes of a group. For each row, the last state.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) is_any: bool,
    pub(super) inserted: BTreeSet<SessionId>,
    pub(super) updated: BTreeSet<SessionId>,
    /// Sessions of `updated` whose indexed columns have changed.
    pub(super) moved: BTreeSet<SessionId>,
    pub(super) relabelled: BTreeSet<SessionId>,
    /// By how many sessions the number of each client grows.
    pub(super) counts: BTreeMap<Client, i64>,
    pub(super) disabled: BTreeMap<Client, bool>,
    pub(super) api_keys: BTreeSet<ApiKeyId>,
    pub(super) signing_keys: BTreeMap<KeyId, Option<SigningKey>>,
    pub(super) requests: BTreeMap<(RealmName, ClientName, [u8; 16]), (RequestKey, RequestRecord)>,
    pub(super) policies: Vec<PolicyChange>,
    pub(super) bounds: BTreeMap<RealmName, i64>,
    pub(super) sinks: BTreeMap<String, u64>,
    pub(super) last_backup: Option<Vec<u8>>,
    pub(super) audit: Vec<(AuditBytes, Timestamp)>,
    pub(super) events: Vec<Kept>,
    pub(super) cutoffs: HashMap<CutoffKey, (Timestamp, usize)>,
}

/// In the order of the decisions.
pub(super) enum PolicyChange {
    Kept(PolicyRevision, PolicyFiles),
    Reconciled(PolicyRevision, Timestamp),
}

impl<'a> Group<'a> {
    pub(crate) fn new(node: &'a Node, state: State) -> Self {
        Self {
            node,
            before: state.clone(),
            state,
            pending: Revocations::default(),
            sessions: HashMap::new(),
            places: HashMap::new(),
            is_key_revoked: HashMap::new(),
            api_keys: HashMap::new(),
            makers: BTreeSet::new(),
            clients: HashMap::new(),
            requests: HashMap::new(),
            settings: None,
            signing_keys: None,
            policies: BTreeMap::new(),
            realms: BTreeMap::new(),
            events_below_floor: None,
            writes: Writes::default(),
        }
    }

    pub(crate) fn writes_nothing(&self) -> bool {
        !self.writes.is_any && self.state == self.before
    }

    /// The sessions that are written as new ones.
    pub(crate) fn inserted(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.writes.inserted.iter().copied()
    }

    /// Whether an API key is revoked; `None` if that is not loaded.
    pub(super) fn is_revoked(&self, id: &ApiKeyId) -> Option<bool> {
        match self.api_keys.get(id) {
            Some(key) => Some(key.as_ref().is_some_and(|key| key.revoked_at.is_some())),
            None => self.is_key_revoked.get(id).copied(),
        }
    }
}
