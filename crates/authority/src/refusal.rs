//! Refusals without a decision: calls that policy does not permit, and credentials that are not accepted.
//!
//! The refused caller chooses how often it calls. So the first refusal of a kind is recorded at once. Those that follow
//! within a minute are counted and recorded together. An unauthenticated caller does not wait for a record: the
//! response time would reveal which API keys exist. Its records are written within seconds.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, ClientName, Clock, RealmName, Seconds, Session, SessionId,
    Timestamp, audit::Actor,
};
use tessera_store::{Changes, Decision, Priority, Reads, Store};

use crate::{
    error::Unavailable,
    principal::{Identity, Principal},
};

/// How long refusals of one kind are counted before they are recorded.
const WINDOW: Seconds = Seconds::MINUTE;
/// How many kinds are counted at once. Refusals of further kinds are only in the log and the metrics.
const KINDS_MAX: usize = 4096;
/// How long a record may wait for the next commit of others.
const MAX_DELAY: Duration = Duration::from_millis(100);

/// Which actor was refused what: bounded by the number of clients, calls and API keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Call(RealmName, ClientName, &'static str),
    Credential(ApiKeyId),
    Session(ApiKeyId, SessionId),
}

struct Counted {
    since: Timestamp,
    /// How many are not recorded yet.
    times: u64,
    /// The record of the last of those.
    last: Option<AuditRecord>,
}

/// Refusals of the last minute, and their records in the audit trail.
pub struct Refusals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    counted: Mutex<HashMap<Kind, Counted>>,
    /// Records that no call waits for, and that are not written yet: bounded like the kinds.
    waiting: Mutex<Vec<AuditRecord>>,
}

impl Refusals {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            counted: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Counts one; returns the record to write now, if it is the first of its kind.
    fn note(&self, kind: Kind, record: AuditRecord) -> Option<AuditRecord> {
        let mut counted = self.counted.lock();
        if let Some(before) = counted.get_mut(&kind) {
            before.times = before.times.saturating_add(1);
            before.last = Some(record);
            return None;
        }
        if counted.len() >= KINDS_MAX {
            return None;
        }
        let first = Counted {
            since: record.at,
            times: 0,
            last: None,
        };
        counted.insert(kind, first);
        Some(record)
    }

    /// The waiting records, and those of what was counted for a minute.
    fn due(&self, now: Timestamp) -> Vec<AuditRecord> {
        let mut due = std::mem::take(&mut *self.waiting.lock());
        self.counted.lock().retain(|_, counted| {
            if now < counted.since.plus(WINDOW) {
                return true;
            }
            let Some(last) = counted.last.take() else {
                return false;
            };
            due.push(with_times(last, std::mem::take(&mut counted.times)));
            counted.since = now;
            true
        });
        due
    }
}

fn with_times(mut record: AuditRecord, count: u64) -> AuditRecord {
    if let AuditAction::CallRefused { times, .. }
    | AuditAction::CredentialRefused { times, .. }
    | AuditAction::WrongClient { times, .. } = &mut record.action
    {
        *times = count;
    }
    record
}

impl Refusals {
    /// Notes that policy does not permit `call` to a client; `required` is the permission that it lacks. A record that
    /// can't be written is in the log.
    pub async fn call_refused(&self, principal: &Principal, call: &'static str, required: &str) {
        let action = AuditAction::CallRefused {
            call: call.to_owned(),
            required: required.to_owned(),
            times: 1,
        };
        let record = principal.record(self.clock.now(), action);
        let (realm, client) = principal.whose();
        self.record(self.note(Kind::Call(realm, client, call), record))
            .await;
    }

    /// Notes that a credential that names an API key was refused.
    pub(crate) fn credential_refused(&self, key: &ApiKey, address: Option<IpAddr>) {
        let record = AuditRecord {
            at: self.clock.now(),
            realm: key.realm.clone(),
            actor: Actor::Stranger { address },
            request: None,
            action: AuditAction::CredentialRefused {
                api_key: key.id,
                client: key.client.clone(),
                times: 1,
            },
        };
        let kind = Kind::Credential(key.id);
        let first = self.note(kind, record);
        self.waiting.lock().extend(first);
    }

    /// Notes that a client presented a refresh token of another client's session.
    pub(crate) async fn wrong_client(&self, identity: &Identity, session: &Session) {
        let action = AuditAction::WrongClient {
            session: session.id,
            client: session.client.clone(),
            times: 1,
        };
        let record = identity.record(self.clock.now(), None, action);
        let kind = Kind::Session(*identity.api_key(), session.id);
        self.record(self.note(kind, record)).await;
    }

    async fn record(&self, record: Option<AuditRecord>) {
        let Some(record) = record else { return };
        if let Err(error) = self.write(vec![record]).await {
            tracing::warn!(%error, "a refusal can't be recorded in the audit trail");
        }
    }

    /// Records the waiting refusals and the counted ones; with `all`, also those counted for less than a minute.
    /// [`Authority::run_purging`](crate::Authority::run_purging) calls it every few seconds, and
    /// [`Authority::close`](crate::Authority::close) calls it.
    ///
    /// # Errors
    /// Fails if the store can't be written.
    pub async fn flush(&self, all: bool) -> Result<(), Unavailable> {
        let now = if all { Timestamp::MAX } else { self.clock.now() };
        let due = self.due(now);
        if due.is_empty() {
            return Ok(());
        }
        let written = self.write(due.clone()).await;
        if written.is_err() {
            // Keeps them for the next call.
            let mut waiting = self.waiting.lock();
            waiting.extend(due);
            waiting.truncate(KINDS_MAX);
        }
        written
    }

    async fn write(&self, records: Vec<AuditRecord>) -> Result<(), Unavailable> {
        let decide = move |_: &tessera_store::Snapshot| {
            let changes = Changes {
                audit: records.clone(),
                ..Changes::default()
            };
            Decision::Commit(changes, ())
        };
        let behind = Priority::Background { max_delay: MAX_DELAY };
        self.store.commit_with(behind, Reads::default(), decide).await?;
        Ok(())
    }
}
