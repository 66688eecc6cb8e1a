//! One unit of work: it names its reads, its decision is a pure function, and its changes are data.
//!
//! A backend may batch units. One backend reads what a group of units names in one round trip, and writes their changes
//! in another. Another one runs each unit over the writes of the earlier ones, and syncs once.

use std::{ops::Range, sync::Arc, time::Duration};

use tessera_core::{
    ApiKey, ApiKeyId, AuditRecord, ClientName, KeyId, PolicyRevision, RealmName, RevokeReason, Sequence,
    Session, SessionId, SigningKey, Timestamp,
};

use crate::{
    audit::AuditHead,
    record::{LastBackup, NewEvent, PolicyFiles, RequestKey, RequestRecord, Settings},
    times::Times,
};

/// The reads of one decision, named before it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) api_keys: Vec<ApiKeyId>,
    pub(crate) makers: Vec<ApiKeyId>,
    pub(crate) clients: Vec<(RealmName, ClientName)>,
    pub(crate) request: Option<RequestKey>,
    pub(crate) settings: bool,
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

    /// Also names the reads of `more`. Returns whether any of them is new.
    fn add(&mut self, more: Self) -> bool {
        let has_request = more.request.is_some() && self.request != more.request;
        self.request = more.request.or(self.request.take());
        let has_settings = more.settings && !self.settings;
        self.settings |= more.settings;
        let added = [
            add_new(&mut self.sessions, more.sessions),
            add_new(&mut self.api_keys, more.api_keys),
            add_new(&mut self.makers, more.makers),
            add_new(&mut self.clients, more.clients),
        ];
        has_request || has_settings || added.contains(&true)
    }
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
}

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
}

/// The writes of one decision: plain data, which a backend only translates. All of it is committed, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sessions, new or changed.
    pub sessions: Vec<Arc<Session>>,
    /// API keys, new or changed.
    pub api_keys: Vec<ApiKey>,
    /// API keys that are removed.
    pub removed_api_keys: Vec<ApiKey>,
    /// Clients that are disabled, or enabled again.
    pub clients: Vec<ClientChange>,
    /// Signing keys, new or changed.
    pub signing_keys: Vec<SigningKey>,
    /// Signing keys that are removed.
    pub removed_signing_keys: Vec<KeyId>,
    /// Answers to idempotent requests.
    pub requests: Vec<(RequestKey, RequestRecord)>,
    /// Policies whose files are kept; a policy that is kept already is not changed.
    pub policies: Vec<(PolicyRevision, PolicyFiles)>,
    /// Changes of what is kept once for the whole store.
    pub settings: Vec<SettingChange>,
    /// The records for the audit trail.
    pub audit: Vec<AuditRecord>,
    /// The events for the log, in order. If a token was issued with a later time than that of an event, the event is
    /// kept for that much longer.
    pub events: Vec<NewEvent>,
}

/// A client that is disabled, or enabled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChange {
    /// The realm.
    pub realm: RealmName,
    /// The client.
    pub client: ClientName,
    /// Whether none of its API keys works.
    pub is_disabled: bool,
}

/// A change of what is kept once for the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingChange {
    /// This policy is in force from now on.
    PolicyInForce(PolicyRevision),
    /// Live sessions are reconciled with the policy, which replaced the one before at this time.
    PolicyReconciled(PolicyRevision, Timestamp),
    /// How long a realm's required verifiers may keep answering by what they know.
    StalenessBound(RealmName, Duration),
    /// Everything in the audit trail up to a position was delivered to the sink with this name.
    AuditSink(String, u64),
    /// The authority serves.
    Alive {
        /// The time.
        now: Timestamp,
        /// The settled time: see [`Clock::settled`](tessera_core::Clock::settled).
        settled: Timestamp,
    },
    /// The authority serves again.
    Started {
        /// The time.
        now: Timestamp,
        /// The settled time.
        settled: Timestamp,
    },
    /// A backup was made.
    BackedUp(LastBackup),
}

/// The result of a decision.
#[derive(Debug)]
pub enum Decision<T> {
    /// Write these changes, and answer.
    Commit(Changes, T),
    /// Write nothing, and answer.
    Abort(T),
    /// Read these too, then decide again.
    ReadMore(Reads),
}

/// The priority of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A caller waits for it.
    #[default]
    Foreground,
    /// It is committed with the next commit of others, which then hardly takes longer, or alone after this time. If the
    /// caller no longer waits, it may not be committed.
    Background {
        /// How long it waits for others.
        max_delay: Duration,
    },
}

/// The positions of a unit's events in the log; empty if it wrote none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// From the first to the one after the last.
    pub events: Range<u64>,
}

impl Placed {
    /// The positions between the log's end before a unit and its end after it.
    #[must_use]
    pub fn between(before: Sequence, after: Sequence) -> Self {
        if before == after {
            return Self::default();
        }
        Self {
            events: before.next().0..after.next().0,
        }
    }

    /// The position of the last event.
    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        let last = self.events.end.checked_sub(1)?;
        (!self.events.is_empty()).then_some(Sequence(last))
    }
}

/// A unit of work for a backend. Its answer is kept separately, so that the trait has no type parameter.
pub struct UnitOfWork {
    reads: Reads,
    priority: Priority,
    decide: Decide,
}

/// A decision, which adds to the reads if it needs more.
type Decide = Box<dyn FnMut(&Snapshot, &mut Reads) -> Step + Send>;

/// The next step of a backend for a unit.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every one is a commit, and lives for a moment"
)]
pub enum Step {
    /// Write these changes.
    Commit(Changes),
    /// Write nothing.
    Abort,
    /// Read again, and decide again: the unit names more now.
    ReadMore,
}

impl UnitOfWork {
    /// A unit whose answer goes to `keep`.
    pub(crate) fn new<T>(
        reads: Reads,
        priority: Priority,
        mut decide: impl FnMut(&Snapshot) -> Decision<T> + Send + 'static,
        keep: impl Fn(T) + Send + 'static,
    ) -> Self {
        let decide = move |snapshot: &Snapshot, reads: &mut Reads| match decide(snapshot) {
            Decision::Commit(changes, value) => {
                keep(value);
                Step::Commit(changes)
            }
            Decision::Abort(value) => {
                keep(value);
                Step::Abort
            }
            // A unit that asks for what it already has is a defect, and must not block the writer.
            Decision::ReadMore(more) => {
                if reads.add(more) {
                    Step::ReadMore
                } else {
                    Step::Abort
                }
            }
        };
        Self {
            reads,
            priority,
            decide: Box::new(decide),
        }
    }

    /// Its reads.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Its priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Decides what to do; `snapshot` has what the unit names. It may be called more than once.
    pub fn decide(&mut self, snapshot: &Snapshot) -> Step {
        (self.decide)(snapshot, &mut self.reads)
    }
}
