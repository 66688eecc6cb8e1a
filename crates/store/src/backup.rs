//! Backups: the whole state at one position, as logical records that any backend can write and read.
//!
//! A backend shows each record that is kept, in any order, and shows a record again if it changes meanwhile: for one
//! key, the later record counts. Its answer at the end names the position whose state all the records form. A database
//! with snapshots shows each record once, from one repeatable read.

use std::{ops::ControlFlow, time::Duration};

use serde::{Deserialize, Serialize};
use tessera_core::{
    ApiKey, ApiKeyId, ClientName, Event, KeyId, LogId, PolicyRevision, RealmName, Sequence, Session,
    SessionId, SigningKey, Timestamp,
};

use crate::{
    audit::{AuditBytes, AuditHead},
    error::StoreError,
    log::cutoff::cutoff_target,
    record::{LastBackup, PolicyFiles, RequestKey, RequestRecord},
    times::Times,
};

/// The receiver of a backup's records. It may block, and ends the backup by breaking off.
pub type BackupVisitor = Box<dyn FnMut(BackupRecord) -> ControlFlow<()> + Send>;

/// One thing that is kept, or that is no longer kept. It is encoded in backup files: variants are only added, and only
/// at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupRecord {
    /// A session.
    Session(Box<Session>),
    /// A session was removed.
    NoSession(SessionId),
    /// An API key.
    ApiKey(Box<ApiKey>),
    /// An API key was removed.
    NoApiKey(ApiKeyId),
    /// Whether none of a client's API keys works.
    Client {
        /// The realm.
        realm: RealmName,
        /// The client.
        client: ClientName,
        /// Whether it is disabled.
        is_disabled: bool,
    },
    /// A signing key, its secret half sealed.
    SigningKey(Box<SigningKey>),
    /// A signing key was removed.
    NoSigningKey(KeyId),
    /// The answer to an idempotent request.
    Request(RequestKey, RequestRecord),
    /// The answer to an idempotent request was removed.
    NoRequest(RequestKey),
    /// The files of a policy, and when it was replaced.
    Policy {
        /// The policy.
        revision: PolicyRevision,
        /// Its files.
        files: PolicyFiles,
        /// When it was replaced; `None` if it is in force.
        replaced_at: Option<Timestamp>,
    },
    /// A policy was removed.
    NoPolicy(PolicyRevision),
    /// An event of the revocation log.
    Event(Box<Event>),
    /// An event was removed.
    NoEvent(Sequence),
    /// An event that ended sessions, and how long it counts: of each target the last.
    Cutoff {
        /// How long it counts.
        until: Timestamp,
        /// The event.
        event: Box<Event>,
    },
    /// The event that ended a target's sessions no longer counts.
    NoCutoff(CutoffKey),
    /// An audit record. Audit records are shown in order, each once.
    Audit(AuditBytes),
    /// How long a realm's required verifiers may keep answering by what they know.
    StalenessBound(RealmName, Duration),
}

/// The key of a cutoff: each target has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CutoffKey {
    /// The realm.
    pub realm: RealmName,
    /// A letter for the kind of the target: see [`cutoff_target`](crate::backend::cutoff_target).
    pub kind: u8,
    /// Its name within the realm.
    pub target: String,
}

impl CutoffKey {
    /// The target whose sessions an event ends; `None` for an event that ends no sessions.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let (kind, target) = cutoff_target(&event.body)?;
        Some(Self {
            realm: event.realm.clone(),
            kind,
            target: target.to_owned(),
        })
    }
}

/// The parts of a state that exist once. With the records before it, it is the whole state at one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEnd {
    /// The log.
    pub log: LogId,
    /// The last event of the log.
    pub last: Sequence,
    /// The last event that was removed.
    pub floor: Sequence,
    /// The first audit record that is kept; the position after the last if none is. Earlier records that were shown do
    /// not count.
    pub audit_first: u64,
    /// The last audit record.
    pub audit_head: AuditHead,
    /// The policy in force.
    pub policy: Option<PolicyRevision>,
    /// The policy that all live sessions are reconciled with.
    pub policy_reconciled: Option<PolicyRevision>,
    /// Up to which time the store is purged.
    pub purged: Option<Timestamp>,
    /// The stored times.
    pub times: Times,
    /// The backup before this one.
    pub last_backup: Option<LastBackup>,
}

/// No backup was made. The store is unchanged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// Another backup is being made.
    #[error("another backup is being made")]
    Busy,
    /// The receiver of the records broke off.
    #[error("the backup was broken off")]
    BrokenOff,
    /// More was written meanwhile than could be shown.
    #[error("more was written meanwhile than the backup could take in")]
    Overtaken,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
