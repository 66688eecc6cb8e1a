//! Tessera's use cases, with a directory for each noun.
//!
//! A request passes through these steps in order, and each type can be made only from the step before it:
//!
//! > credential → [`Principal`] → grant → claims → tokens + session → event
//!
//! Nothing leaves this crate before the store has committed it. There is no gRPC, HTTP or protobuf in this crate: the
//! server converts at its edge.
#![forbid(unsafe_code)]

mod access;
mod audit;
mod credential;
mod error;
mod following;
mod issuance;
mod log;
mod open;
mod operation;
mod others;
mod page;
mod policy;
mod session;
mod signing_key;
#[cfg(test)]
mod testing;
mod turns;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tessera_core::{Clock, Cursor, CursorTag, FilterDigest, Realm, RealmName, Sequence, Timestamp};
use tessera_policy::Policy;
use tessera_store::{CommitObserver, Priority, Store, StoreError};
use tessera_token::ServerKeys;
use tokio::sync::watch as signal;

pub use access::{
    check::{AccessCheck, RequiredAccess},
    error::{AccessError, IntrospectError, TokenRejection},
    introspect::{Introspection, TokenKind},
};
pub use audit::{
    error::AuditError,
    filter::AuditFilter,
    line::{AuditLine, AuditLineActor},
    list::AuditOrder,
    refusal::Refusals,
    sink::{AuditSinks, SinkState},
    tail::{AuditDigest, AuditTail, AuditTailEnd, TailBegin, TailStart, Tailed},
    verify::{TrailCheck, TrailFault, TrailReport},
};
pub use credential::{
    api_key::{ApiKeyTerms, CreateApiKey, NewApiKey, ROLLS_MAX, RollApiKey, RolledApiKey},
    authenticate::Principal,
    ending::EndingApiKeys,
    error::{ApiKeyError, AuthenticateError},
    list::{Descendants, ListApiKeys},
};
pub use error::{CallNotAllowed, SetupError, Unavailable};
pub use issuance::{
    error::{IssueError, RefreshError, TokenTooLarge},
    issue::{IssueRequest, Issued},
    refresh::{RefreshRequest, Refreshed, outcome::RefreshOutcome},
    tokens::{PresentedToken, TokenSet},
};
pub use log::{
    administer::ListedSubscriber,
    error::{SubscriberError, WatchError},
    filter::WatchFilter,
    message::{StartAt, SubscriberMessage, WatchEnd, WatchMessage, WatchStart},
    subscribers::{Propagated, StalenessBound},
    watch::Watcher,
};
pub use open::{Options, check_realms, check_signing_keys};
pub use operation::{
    backup::{BackupError, BackupPart, BackupState, BackupStream, MadeBackup},
    restore::{Restored, Restoring, end_everything},
};
pub use page::{LIST_BYTES_MAX, LIST_SIZE_DEFAULT, LIST_SIZE_MAX, Listed};
pub use policy::{
    apply::Applied,
    change::Trigger,
    error::{ApplyError, ExplainError},
    explain::{Ask, Asked, ExplainedDecision},
    history::{Attempt, AttemptOutcome, PolicyStatus},
    impact::SessionImpact,
    plan::Plan,
    plan_id::PlanId,
};
pub use session::{
    error::{RevokeError, SessionError},
    list::{ListedSession, SessionsBy},
    revoke::{
        Revoked,
        request::{RevokeRequest, RevokeTarget},
    },
};
pub use signing_key::{
    error::SigningKeyError,
    key_set::PublishedKey,
    rotate::SigningKeyState,
    schedule::KeyRotation,
    server_key::{PreviousServerKey, ServerKeyStatus},
};

use crate::{
    access::verified::VerifiedTokens,
    audit::reading::AuditReads,
    credential::{disabled::DisabledClients, used::UsedApiKeys},
    following::Following,
    issuance::refresh::outcome::RefreshCounts,
    log::{position::LastPosition, subscribers::Subscribers},
    operation::{backup::Backups, rollback::RollbackDetection},
    others::Others,
    policy::{abandoned::Reconciling, heavy::Heavy, history::PolicyHistory},
    signing_key::{
        key_set::{KeyChanges, KeySet},
        rotate::Published,
    },
};

/// A disk on which a commit takes longer is considered stalled: no request can be served.
const COMMIT_MAX: Duration = Duration::from_secs(5);

/// A running authority: the use cases over one store, one policy and one set of realms.
///
/// Shared behind an `Arc`; every method takes `&self`.
pub struct Authority {
    store: Arc<dyn Store>,
    policy: ArcSwap<Policy>,
    /// Signals that another policy is in force here.
    policy_swapped: signal::Sender<()>,
    policy_directory: Option<PathBuf>,
    policy_history: PolicyHistory,
    reconciling: Reconciling,
    /// Held from reading a policy until live sessions are reconciled with it: changes are made one after the other.
    policy_changes: Arc<tokio::sync::Mutex<()>>,
    /// The slots for long work with policies.
    heavy: Arc<Heavy>,
    audit_reads: AuditReads,
    realms: BTreeMap<RealmName, Arc<Realm>>,
    server_keys: ArcSwap<ServerKeys>,
    server_keys_refused: AtomicBool,
    refusals: Refusals,
    refreshes: RefreshCounts,
    sinks: AuditSinks,
    disabled: DisabledClients,
    used_api_keys: UsedApiKeys,
    ending_api_keys: ArcSwap<Vec<EndingApiKeys>>,
    keys: ArcSwap<KeySet>,
    token_bytes_max: usize,
    verified: VerifiedTokens,
    watch_stall_max: Duration,
    staleness_bound_max: StalenessBound,
    subscribers: Subscribers,
    last_position: LastPosition,
    key_rotation: KeyRotation,
    published: Published,
    key_changes: KeyChanges,
    clock: Arc<dyn Clock>,
    draining: signal::Sender<bool>,
    rollback: RollbackDetection,
    backups: Backups,
    following: Following,
    others: Others,
    /// How often dead data was removed.
    purges: AtomicU64,
}

impl Authority {
    /// The policy in force. A request takes it once and keeps it until the request ends.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The realms, by name.
    #[must_use]
    pub fn realms(&self) -> &BTreeMap<RealmName, Arc<Realm>> {
        &self.realms
    }

    /// The time, by the authority's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many pieces of work for Plan, Check and Explain run, including those whose callers have left.
    #[must_use]
    pub fn policy_work_running(&self) -> usize {
        self.heavy.running()
    }

    /// The sinks of the audit trail.
    #[must_use]
    pub fn audit_sinks(&self) -> &AuditSinks {
        &self.sinks
    }

    /// The refusals that are recorded in the audit trail.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Whether requests can be served: the store takes writes, the disk is not stalled, the data directory is not older
    /// than what it gave, the changes of other nodes are followed, and the authority is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store.health().takes_writes
            && !*self.draining.borrow()
            && self.commit_waiting() < COMMIT_MAX
            && !self.rollback.is_proven()
            && !self.is_stuck()
    }

    /// Whether the store takes writes. A store that failed takes none until it is opened again. One that waits for the
    /// disk does, and one whose database is unreachable may again.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.store.health().takes_writes
    }

    /// Whether the store takes no writes until it is opened again: nothing can be served any longer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.store.health().is_over()
    }

    /// How long the oldest running commit has taken: milliseconds on a healthy disk.
    #[must_use]
    pub fn commit_waiting(&self) -> Duration {
        self.store.health().committing_for.unwrap_or_default()
    }

    /// How many units of work wait for the store's writer.
    #[must_use]
    pub fn waiting_units(&self) -> usize {
        self.store.health().waiting
    }

    /// Tells `observer` of each group of units once it is durable.
    pub fn observe_commits(&self, observer: CommitObserver) {
        self.store.log().observe_commits(observer);
    }

    /// How many sessions of a realm are stored, including those that ended and are not removed yet.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn session_count(&self, realm: &RealmName) -> Result<u64, Unavailable> {
        Ok(self.store.session_count(realm).await?)
    }

    /// Ends every watch with its cursor. New watches are refused from now on.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it is stopping: new watches are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Writes pending data and closes the store.
    ///
    /// # Errors
    /// Fails if the store can no longer be written.
    pub async fn close(&self) -> Result<(), Unavailable> {
        drop(self.refusals.flush(true).await);
        // Without these writes, the stored times are only too early.
        drop(self.write_used_api_keys(Priority::Foreground).await);
        drop(self.note_alive().await);
        self.tell_others_of_the_end().await;
        Ok(self.store.close().await?)
    }

    /// Whether something was presented that only a later state of the data directory can have given. This means that
    /// the directory was restored without `tessera restore`.
    #[must_use]
    pub fn was_rolled_back(&self) -> bool {
        self.rollback.is_proven()
    }

    /// The position up to which the log is committed now.
    #[must_use]
    pub fn position(&self) -> Cursor {
        let cursor = self.untagged(self.committed(), FilterDigest::NONE);
        self.last_position.authenticated(&self.server_keys.load(), cursor)
    }

    /// The number of the last durable group of writes; `None` if the store keeps nothing.
    #[must_use]
    pub fn group(&self) -> Option<u64> {
        self.store.health().group
    }

    fn committed(&self) -> Sequence {
        self.store.log().committed()
    }

    fn cursor_at(&self, sequence: Sequence) -> Cursor {
        self.cursor_of(sequence, FilterDigest::NONE)
    }

    fn cursor_of(&self, sequence: Sequence, filter: FilterDigest) -> Cursor {
        let cursor = self.untagged(sequence, filter);
        self.server_keys.load().authenticate_cursor(cursor)
    }

    fn untagged(&self, sequence: Sequence, filter: FilterDigest) -> Cursor {
        Cursor {
            log: self.store.log().id(),
            sequence,
            filter,
            tag: CursorTag::default(),
        }
    }

    /// A cursor that this authority gave, of its current log; `None` for anything else.
    fn given_cursor(&self, text: &str) -> Option<Cursor> {
        let cursor = Cursor::parse(text).ok()?;
        let is_given = cursor.log == self.store.log().id() && self.server_keys.load().gave_cursor(&cursor);
        is_given.then_some(cursor)
    }

    /// Refuses to issue if the data directory is known to be older than what it gave: revocations would not cover what
    /// is issued now.
    fn check_is_last(&self) -> Result<(), Unavailable> {
        if self.rollback.is_proven() {
            return Err(Unavailable::Store(StoreError::Damaged {
                detail: "the data directory is older than what it gave: run `tessera restore`".to_owned(),
            }));
        }
        Ok(())
    }

    /// Refuses `principal` unless policy permits.
    fn require(
        &self,
        principal: &Principal,
        permission: &tessera_policy::Permission,
    ) -> Result<(), CallNotAllowed> {
        if self
            .policy
            .load()
            .permits(principal.realm_name(), principal.client(), permission)
        {
            return Ok(());
        }
        Err(principal.not_allowed(permission.scope()))
    }
}
