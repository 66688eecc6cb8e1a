//! The layout of rows: one tree, one prefix byte per table, keys in the order in which they are read, and a version
//! byte before each value. The entries that a group adds to an index are one row: see [`lists`](super::lists).
//!
//! Names never contain a NUL, so the NUL after each name prevents one name from being the prefix of another.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tessera_core::{
    ApiKeyId, ClientName, Event, KeyId, LogId, PolicyRevision, RealmName, Sequence, Session, SessionId,
    Timestamp,
};

use tessera_store::{AuditHead, RequestKey, SessionIndex, StoreError, backend::cutoff_target};

use super::archive::Place;

/// The tables, each with the byte that its keys begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    ApiKey = b'a',
    ApiKeyByMaker = b'M',
    ApiKeyByRealm = b'A',
    ClientDisabled = b'd',
    Audit = b't',
    AuditSink = b'h',
    Cutoff = b'u',
    CutoffExpiry = b'v',
    Event = b'e',
    LastBackup = b'j',
    Session = b'f',
    SessionByCredential = b'k',
    SessionByLabel = b'b',
    SessionByClient = b'c',
    SessionByRealm = b'r',
    SessionCount = b'n',
    SessionBySubject = b's',
    SessionExpiry = b'x',
    Meta = b'm',
    Policy = b'p',
    PolicyPart = b'o',
    PolicyInForce = b'i',
    PolicyReconciled = b'z',
    Seal = b'Z',
    Request = b'q',
    RequestExpiry = b'y',
    SigningKey = b'g',
    StalenessBound = b'l',
    Times = b'w',
}

impl Table {
    /// Whether this key is of a row of the table.
    pub(super) fn has(self, key: &[u8]) -> bool {
        key.first() == Some(&(self as u8))
    }

    pub(super) const ALL: [Self; 29] = [
        Self::ApiKey,
        Self::ApiKeyByMaker,
        Self::ApiKeyByRealm,
        Self::ClientDisabled,
        Self::Audit,
        Self::AuditSink,
        Self::Cutoff,
        Self::CutoffExpiry,
        Self::Event,
        Self::LastBackup,
        Self::Session,
        Self::SessionByCredential,
        Self::SessionByLabel,
        Self::SessionByClient,
        Self::SessionByRealm,
        Self::SessionCount,
        Self::SessionBySubject,
        Self::SessionExpiry,
        Self::Meta,
        Self::Policy,
        Self::PolicyPart,
        Self::PolicyInForce,
        Self::PolicyReconciled,
        Self::Seal,
        Self::Request,
        Self::RequestExpiry,
        Self::SigningKey,
        Self::StalenessBound,
        Self::Times,
    ];
}

/// The one row about the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) log_id: LogId,
    /// The last sequence of the log.
    pub(super) last: Sequence,
    /// The last sequence that was removed.
    pub(super) floor: Sequence,
    /// The last record of the audit trail.
    pub(super) audit: AuditHead,
    /// Where the audit records are that left the rows; `None` if none did.
    pub(super) archive: Option<Place>,
    /// The group that wrote this row, so that no two groups leave the same state.
    pub(super) group: u64,
    /// The horizon of the last purge that wrote anything.
    pub(super) purged: Option<Timestamp>,
}

impl Meta {
    /// The row of a new store.
    pub(super) fn new(log_id: LogId) -> Self {
        Self {
            log_id,
            last: Sequence(0),
            floor: Sequence(0),
            audit: AuditHead::EMPTY,
            archive: None,
            group: 0,
            purged: None,
        }
    }
}

/// A session with its time in the expiry index. That time is never later than the session's actual removal, and is
/// moved only when necessary: so a refresh rewrites this row and no other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionRow<S> {
    pub(super) expiry: Timestamp,
    pub(super) session: S,
}

impl SessionRow<Session> {
    pub(super) fn shared(self) -> SessionRow<Arc<Session>> {
        SessionRow {
            expiry: self.expiry,
            session: Arc::new(self.session),
        }
    }
}

/// An event that ends sessions, and how long it counts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CutoffRow<E> {
    pub(super) until: Timestamp,
    pub(super) event: E,
}

/// A policy that is kept. Its files are stored in separate parts, since values should be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PolicyRow {
    pub(super) parts: u32,
    pub(super) replaced_at: Option<Timestamp>,
}

// === values ===

pub(super) use tessera_store::backend::{decode, encode};

// === keys ===

pub(super) fn meta_key() -> Vec<u8> {
    vec![Table::Meta as u8]
}

/// The seal of the group that wrote last. The hash over all rows excludes this row, since the row contains the hash.
pub(super) const SEAL_KEY: &[u8] = &[Table::Seal as u8];

pub(super) fn times_key() -> Vec<u8> {
    vec![Table::Times as u8]
}

pub(super) fn session_key(id: SessionId) -> Vec<u8> {
    key(Table::Session, &[], id.as_bytes())
}

/// The list of the sessions that can't be removed before a time.
pub(super) fn expiry_list(at: Timestamp) -> Vec<u8> {
    timed_key(Table::SessionExpiry, at, &[])
}

/// The time of an index entry that expires at `at`: entries of one second are together.
pub(super) fn bucket_of(at: Timestamp) -> Timestamp {
    at.floor_to_second()
}

pub(super) fn api_key_key(id: &ApiKeyId) -> Vec<u8> {
    key(Table::ApiKey, &[], id.as_str().as_bytes())
}

pub(super) fn client_disabled_key(realm: &RealmName, client: &ClientName) -> Vec<u8> {
    key(
        Table::ClientDisabled,
        &[realm.as_str()],
        client.as_str().as_bytes(),
    )
}

/// The key for the number of a client's sessions.
pub(super) fn session_count_key(realm: &RealmName, client: &ClientName) -> Vec<u8> {
    key(Table::SessionCount, &[realm.as_str()], client.as_str().as_bytes())
}

/// The prefix of those keys in a realm.
pub(super) fn session_count_prefix(realm: &RealmName) -> Vec<u8> {
    key(Table::SessionCount, &[realm.as_str()], &[])
}

pub(super) fn api_key_by_maker_key(maker: &ApiKeyId, id: &ApiKeyId) -> Vec<u8> {
    key(Table::ApiKeyByMaker, &[maker.as_str()], id.as_str().as_bytes())
}

pub(super) fn api_key_by_maker_prefix(maker: &ApiKeyId) -> Vec<u8> {
    key(Table::ApiKeyByMaker, &[maker.as_str()], &[])
}

/// The key of an API key's row, from an index key whose id begins after `prefix_len` bytes.
pub(super) fn api_key_key_in(key: &[u8], prefix_len: usize) -> Vec<u8> {
    let id = key.get(prefix_len..).unwrap_or_default();
    [&[Table::ApiKey as u8], id].concat()
}

pub(super) fn api_key_by_realm_key(realm: &RealmName, id: &ApiKeyId) -> Vec<u8> {
    key(Table::ApiKeyByRealm, &[realm.as_str()], id.as_str().as_bytes())
}

pub(super) fn api_key_by_realm_prefix(realm: &RealmName) -> Vec<u8> {
    key(Table::ApiKeyByRealm, &[realm.as_str()], &[])
}

pub(super) fn signing_key_key(id: &KeyId) -> Vec<u8> {
    key(Table::SigningKey, &[], id.as_str().as_bytes())
}

pub(super) fn policy_key(revision: &PolicyRevision) -> Vec<u8> {
    key(Table::Policy, &[&revision.to_string()], &[])
}

pub(super) fn policy_part_key(revision: &PolicyRevision, part: u32) -> Vec<u8> {
    key(Table::PolicyPart, &[&revision.to_string()], &part.to_be_bytes())
}

/// The policy whose row has this key.
pub(super) fn policy_in(key: &[u8]) -> Result<PolicyRevision, StoreError> {
    key.strip_prefix(&[Table::Policy as u8])
        .and_then(|rest| rest.strip_suffix(&[0]))
        .and_then(|name| std::str::from_utf8(name).ok())
        .and_then(|name| PolicyRevision::parse(name).ok())
        .ok_or_else(|| StoreError::Damaged {
            detail: "the key of a policy has no revision".to_owned(),
        })
}

pub(super) fn policy_in_force_key() -> Vec<u8> {
    vec![Table::PolicyInForce as u8]
}

pub(super) fn policy_reconciled_key() -> Vec<u8> {
    vec![Table::PolicyReconciled as u8]
}

pub(super) fn audit_sink_key(name: &str) -> Vec<u8> {
    key(Table::AuditSink, &[name], &[])
}

pub(super) fn last_backup_key() -> Vec<u8> {
    vec![Table::LastBackup as u8]
}

pub(super) fn staleness_bound_key(realm: &RealmName) -> Vec<u8> {
    key(Table::StalenessBound, &[realm.as_str()], &[])
}

pub(super) fn event_key(sequence: Sequence) -> Vec<u8> {
    key(Table::Event, &[], &sequence.0.to_be_bytes())
}

pub(super) fn audit_key(position: u64) -> Vec<u8> {
    key(Table::Audit, &[], &position.to_be_bytes())
}

pub(super) fn request_key(request: &RequestKey) -> Vec<u8> {
    let names = [request.realm.as_str(), request.client.as_str()];
    key(Table::Request, &names, request.request.as_bytes())
}

/// The key for a part of the requests that a group names at a time.
pub(super) fn request_expiry_key(at: Timestamp, group: u64, part: u32) -> Vec<u8> {
    let tail = [group.to_be_bytes().as_slice(), &part.to_be_bytes()].concat();
    timed_key(Table::RequestExpiry, at, &tail)
}

/// `row` is the key of the cutoff's own row.
pub(super) fn cutoff_expiry_key(until: Timestamp, row: &[u8]) -> Vec<u8> {
    timed_key(Table::CutoffExpiry, until, row)
}

/// One key per target, so that a later cutoff of a target replaces the earlier; `None` for an event that ends no
/// sessions.
pub(super) fn cutoff_key(event: &Event) -> Option<Vec<u8>> {
    let (kind, target) = cutoff_target(&event.body)?;
    Some(cutoff_key_of(kind, &event.realm, target))
}

/// The key of the cutoff of a target.
pub(super) fn cutoff_key_of(kind: u8, realm: &RealmName, target: &str) -> Vec<u8> {
    let mut key = vec![Table::Cutoff as u8, kind];
    push_name(&mut key, realm.as_str());
    push_name(&mut key, target);
    key
}

/// The prefix of an index's keys; see [`lists`](super::lists).
pub(super) fn list_of(index: &SessionIndex) -> Vec<u8> {
    match index {
        SessionIndex::Subject(realm, subject) => {
            key(Table::SessionBySubject, &[realm.as_str(), subject.as_str()], &[])
        }
        SessionIndex::Client(realm, client) => {
            key(Table::SessionByClient, &[realm.as_str(), client.as_str()], &[])
        }
        SessionIndex::Label(realm, label) => {
            key(Table::SessionByLabel, &[realm.as_str(), label.as_str()], &[])
        }
        SessionIndex::Credential(realm, credential) => {
            let credential = credential.to_string();
            key(Table::SessionByCredential, &[realm.as_str(), &credential], &[])
        }
        SessionIndex::Realm(realm) => key(Table::SessionByRealm, &[realm.as_str()], &[]),
    }
}

/// The lists that contain a session, each once.
pub(super) fn lists_of(session: &Session) -> Vec<Vec<u8>> {
    let realm = session.realm.as_str();
    let mut lists = vec![
        key(Table::SessionBySubject, &[realm, session.subject.as_str()], &[]),
        key(Table::SessionByClient, &[realm, session.client.as_str()], &[]),
        key(
            Table::SessionByCredential,
            &[realm, &session.credential.to_string()],
            &[],
        ),
        key(Table::SessionByRealm, &[realm], &[]),
    ];
    let labels: BTreeSet<_> = session.labels.iter().collect();
    let labels = labels
        .into_iter()
        .map(|label| key(Table::SessionByLabel, &[realm, label.as_str()], &[]));
    lists.extend(labels);
    lists
}

/// Whether two states of a session are in the same lists.
pub(super) fn same_lists(one: &Session, other: &Session) -> bool {
    one.realm == other.realm
        && one.subject == other.subject
        && one.client == other.client
        && one.credential == other.credential
        && one.labels == other.labels
}

/// The first key after all keys that begin with `prefix`, which must not end with 255. No prefix that is read does:
/// each ends with a table's byte or a NUL.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The session's id at the end of a key.
pub(super) fn session_id_in(key: &[u8]) -> Result<SessionId, StoreError> {
    key.last_chunk::<16>()
        .map(|bytes| SessionId::from_bytes(*bytes))
        .ok_or_else(|| StoreError::Damaged {
            detail: "an index has a key without a session".to_owned(),
        })
}

/// The number in the key of an event or an audit record.
pub(super) fn number_in(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| StoreError::Damaged {
            detail: "a key has no number".to_owned(),
        })
}

/// The time in a key of an expiry index, and the rest of the key.
pub(super) fn time_in(key: &[u8]) -> Result<(Timestamp, &[u8]), StoreError> {
    key.get(1..)
        .and_then(<[u8]>::split_first_chunk::<8>)
        .map(|(time, rest)| (Timestamp::from_millis(i64::from_be_bytes(*time)), rest))
        .ok_or_else(|| StoreError::Damaged {
            detail: "an expiry index has a key without a time".to_owned(),
        })
}

fn key(table: Table, names: &[&str], tail: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + names.iter().map(|name| name.len() + 1).sum::<usize>() + tail.len());
    key.push(table as u8);
    for name in names {
        push_name(&mut key, name);
    }
    key.extend_from_slice(tail);
    key
}

/// Times are never negative, so their bytes sort as they do.
fn timed_key(table: Table, at: Timestamp, tail: &[u8]) -> Vec<u8> {
    let mut key = vec![table as u8];
    key.extend_from_slice(&at.as_millis().to_be_bytes());
    key.extend_from_slice(tail);
    key
}

fn push_name(key: &mut Vec<u8>, name: &str) {
    key.extend_from_slice(name.as_bytes());
    key.push(0);
}
