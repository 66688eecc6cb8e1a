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
mod heavy;
mod issuance;
mod log;
mod open;
mod operation;
mod others;
mod page;
mod policy;
mod principal;
mod refusal;
mod report;
mod session;
mod shared;
mod signing_key;
#[cfg(test)]
mod testing;
mod turns;
mod verified;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tessera_core::{Cursor, Realm, RealmName, Seconds, Timestamp};
use tessera_policy::Policy;
use tessera_store::{CommitObserver, Priority};

pub use access::{
    accepted::Access,
    check::{AccessCheck, RequiredAccess},
    error::{AccessError, IntrospectError, TokenRejection},
    introspect::{Introspection, TokenKind},
};
pub use audit::{
    error::AuditError,
    filter::AuditFilter,
    line::{AuditLine, AuditLineActor},
    list::AuditOrder,
    sink::{AuditSinks, SinkState},
    tail::{AuditDigest, AuditTail, AuditTailEnd, TailBegin, TailStart, Tailed},
    trail::AuditTrail,
    verify::{TrailCheck, TrailFault, TrailReport},
};
pub use credential::{
    api_key::{ApiKeyTerms, CreateApiKey, NewApiKey, ROLLS_MAX, RollApiKey, RolledApiKey},
    credentials::Credentials,
    ending_count::EndingApiKeys,
    error::{ApiKeyError, AuthenticateError},
    list::{Descendants, ListApiKeys},
};
pub use error::{CallNotAllowed, SetupError, Unavailable};
pub use issuance::{
    error::{IssueError, RefreshError, TokenTooLarge},
    issue::{IssueRequest, Issued},
    issuer::Issuance,
    refresh::{RefreshRequest, Refreshed, outcome::RefreshOutcome},
    tokens::{PresentedToken, TokenSet},
};
pub use log::{
    administer::ListedSubscriber,
    error::{SubscriberError, WatchError},
    fence::Fence,
    subscribers::{Propagated, StalenessBound},
};
pub use open::{Options, check_realms, check_signing_keys};
pub use operation::{
    backup::{BackupError, BackupPart, BackupState, BackupStream, Backups, MadeBackup},
    purge::Purging,
    restore::{Restored, Restoring, end_everything},
    timekeeping::Timekeeping,
};
pub use others::OtherNodes;
pub use page::{LIST_BYTES_MAX, LIST_SIZE_DEFAULT, LIST_SIZE_MAX, Listed};
pub use policy::{
    applied::Applied,
    change::Trigger,
    error::{ApplyError, ExplainError},
    explain::{Ask, Asked, ExplainedDecision},
    history::{Attempt, AttemptOutcome, PolicyStatus},
    impact::SessionImpact,
    plan::Plan,
    plan_id::PlanId,
    policies::Policies,
};
pub use principal::Principal;
pub use refusal::Refusals;
pub use session::{
    error::{RevokeError, SessionError},
    list::{ListedSession, SessionsBy},
    revoke::{
        operation::Revoked,
        request::{RevokeRequest, RevokeTarget},
    },
    sessions::Sessions,
};
pub use signing_key::{
    error::SigningKeyError,
    key_set::PublishedKey,
    rotate::SigningKeyState,
    schedule::KeyRotation,
    server_key::{PreviousServerKey, ServerKeyStatus},
    signing_keys::SigningKeys,
};
pub use watch::{
    filter::WatchFilter,
    message::{StartAt, SubscriberMessage, WatchEnd, WatchMessage, WatchStart},
    watcher::Watcher,
    watches::Watches,
};

use crate::{heavy::Heavy, shared::Shared};

/// A disk on which a commit takes longer is considered stalled: no request can be served.
const COMMIT_MAX: Duration = Duration::from_secs(5);

/// A running authority: the use cases over one store, one policy and one set of realms.
///
/// Shared behind an `Arc`; every method takes `&self`.
pub struct Authority {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policies: Arc<Policies>,
    /// The slots for long work with policies.
    pub(crate) heavy: Arc<Heavy>,
    pub(crate) audit: Arc<AuditTrail>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) issuance: Issuance,
    pub(crate) access: Access,
    pub(crate) sinks: Arc<AuditSinks>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) signing_keys: Arc<SigningKeys>,
    pub(crate) sessions: Sessions,
    pub(crate) watches: Arc<Watches>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) purging: Purging,
    pub(crate) timekeeping: Timekeeping,
    pub(crate) others: Arc<OtherNodes>,
}

impl Authority {
    /// The policy in force. A request takes it once and keeps it until the request ends.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy()
    }

    /// The realms, by name.
    #[must_use]
    pub fn realms(&self) -> &BTreeMap<RealmName, Arc<Realm>> {
        &self.shared.realms
    }

    /// The time, by the authority's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// How many pieces of work for Plan, Check and Explain run, including those whose callers have left.
    #[must_use]
    pub fn policy_work_running(&self) -> usize {
        self.heavy.running()
    }

    /// The sessions that were issued.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The API keys of clients.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Issuing and refreshing tokens.
    #[must_use]
    pub fn issuance(&self) -> &Issuance {
        &self.issuance
    }

    /// Whether tokens are valid, and what they permit.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The signing keys, and the server keys that seal them.
    #[must_use]
    pub fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }

    /// Watching the revocation log.
    #[must_use]
    pub fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// The required subscribers.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The other nodes that share the store.
    #[must_use]
    pub fn other_nodes(&self) -> &OtherNodes {
        &self.others
    }

    /// The policy, and changes of it.
    #[must_use]
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// The audit trail.
    #[must_use]
    pub fn audit(&self) -> &Arc<AuditTrail> {
        &self.audit
    }

    /// Keeps the time, records which API keys are used, and removes dead data, for as long as it is polled. Audit
    /// records are kept for `audit_retention`.
    pub async fn run_purging(self: Arc<Self>, audit_retention: Seconds) {
        tokio::join!(
            self.timekeeping.keep_time(),
            self.audit.keep_signing_audit(),
            self.credentials.keep_noting_use(),
            self.credentials.keep_counting_ending_api_keys(),
            self.purging.keep_purging(audit_retention)
        );
    }

    /// Backups.
    #[must_use]
    pub fn backups(&self) -> &Arc<Backups> {
        &self.backups
    }

    /// Removing dead data.
    #[must_use]
    pub fn purging(&self) -> &Purging {
        &self.purging
    }

    /// The clock.
    #[must_use]
    pub fn timekeeping(&self) -> &Timekeeping {
        &self.timekeeping
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
        self.shared.store.health().takes_writes
            && !self.shared.is_draining()
            && self.commit_waiting() < COMMIT_MAX
            && !self.shared.rollback.is_proven()
            && !self.shared.followed.is_stuck()
    }

    /// Whether the store takes writes. A store that failed takes none until it is opened again. One that waits for the
    /// disk does, and one whose database is unreachable may again.
    #[must_use]
    pub fn takes_writes(&self) -> bool {
        self.shared.store.health().takes_writes
    }

    /// Whether the store takes no writes until it is opened again: nothing can be served any longer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.store.health().is_over()
    }

    /// How long the oldest running commit has taken: milliseconds on a healthy disk.
    #[must_use]
    pub fn commit_waiting(&self) -> Duration {
        self.shared.store.health().committing_for.unwrap_or_default()
    }

    /// How many units of work wait for the store's writer.
    #[must_use]
    pub fn waiting_units(&self) -> usize {
        self.shared.store.health().waiting
    }

    /// Tells `observer` of each group of units once it is durable.
    pub fn observe_commits(&self, observer: CommitObserver) {
        self.shared.store.log().observe_commits(observer);
    }

    /// How many sessions of a realm are stored, including those that ended and are not removed yet.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn session_count(&self, realm: &RealmName) -> Result<u64, Unavailable> {
        Ok(self.shared.store.session_count(realm).await?)
    }

    /// Ends every watch with its cursor. New watches are refused from now on.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    /// Whether it is stopping: new watches are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Writes pending data and closes the store.
    ///
    /// # Errors
    /// Fails if the store can no longer be written.
    pub async fn close(&self) -> Result<(), Unavailable> {
        drop(self.refusals.flush(true).await);
        // Without these writes, the stored times are only too early.
        drop(self.credentials.write_used_api_keys(Priority::Foreground).await);
        drop(self.timekeeping.note_alive().await);
        self.others.tell_of_the_end().await;
        Ok(self.shared.store.close().await?)
    }

    /// Whether something was presented that only a later state of the data directory can have given. This means that
    /// the directory was restored without `tessera restore`.
    #[must_use]
    pub fn was_rolled_back(&self) -> bool {
        self.shared.rollback.is_proven()
    }

    /// The position up to which the log is committed now.
    #[must_use]
    pub fn position(&self) -> Cursor {
        self.shared.position()
    }

    /// The number of the last durable group of writes; `None` if the store keeps nothing.
    #[must_use]
    pub fn group(&self) -> Option<u64> {
        self.shared.store.health().group
    }
}
