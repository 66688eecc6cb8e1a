//! Backups: the whole state of one position, as logical records that any backend can write and read.
//!
//! A backend shows each record that is kept, in any order, and shows one again where it changes meanwhile: of one
//! thing, the later record counts. What it answers at the end names the position that all of them together are.
//! A database with snapshots shows each record once, out of one repeatable read.

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

/// Whoever is shown a backup: it may block, and ends the backup where it breaks off.
pub type BackupVisitor = Box<dyn FnMut(BackupRecord) -> ControlFlow<()> + Send>;

/// One thing that is kept, or that is kept no more. Its form is that of backup files: variants are only ever added,
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
        /// When another took its place; none while none has.
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
    /// What ended a target's sessions counts no more.
    NoCutoff(CutoffKey),
    /// An audit record. They are shown in their order, each once.
    Audit(AuditBytes),
    /// How long a realm's required verifiers may go on answering by what they know.
    StalenessBound(RealmName, Duration),
}

/// Which cutoff: of each target there is one.
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
    /// What an event ends; none for one that ends no sessions.
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

/// What there is once of a state: together with the records before it, all of the state at one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEnd {
    /// The log.
    pub log: LogId,
    /// The last event of the log.
    pub last: Sequence,
    /// The last event that was removed.
    pub floor: Sequence,
    /// The first audit record that is kept; behind the last where none is. Those before it that were shown do not
    /// count.
    pub audit_first: u64,
    /// The last audit record.
    pub audit_head: AuditHead,
    /// The policy in force.
    pub policy: Option<PolicyRevision>,
    /// The policy that all live sessions are reconciled with.
    pub policy_reconciled: Option<PolicyRevision>,
    /// How far purging has come.
    pub purged: Option<Timestamp>,
    /// What is known of times.
    pub times: Times,
    /// The backup before this one.
    pub last_backup: Option<LastBackup>,
}

/// No backup was made. Nothing of the store has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// Another backup is being made.
    #[error("another backup is being made")]
    Busy,
    /// Whoever was shown the records broke off.
    #[error("the backup was broken off")]
    BrokenOff,
    /// More was written meanwhile than could be shown.
    #[error("more was written meanwhile than the backup could take in")]
    Overtaken,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
