//! The authority: what it is composed of, and what concerns the whole.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tessera_core::{Cursor, Realm, RealmName, Seconds, Timestamp};
use tessera_policy::Policy;
use tessera_store::{CommitObserver, Priority};

use crate::{
    access::accepted::Access,
    audit::{sink::AuditSinks, trail::AuditTrail},
    credential::credentials::Credentials,
    error::Unavailable,
    following::Following,
    issuance::issuer::Issuance,
    log::fence::Fence,
    operation::{backup::Backups, purge::Purging, timekeeping::Timekeeping},
    others::OtherNodes,
    policy::policies::Policies,
    refusal::Refusals,
    session::sessions::Sessions,
    shared::Shared,
    signing_key::signing_keys::SigningKeys,
    watch::watches::Watches,
};

/// A disk on which a commit takes longer is considered stalled: no request can be served.
const COMMIT_MAX: Duration = Duration::from_secs(5);

/// A running authority: one struct for each noun, over one store, one policy and one set of realms.
///
/// Shared behind an `Arc`; every method takes `&self`. A caller asks the noun, such as
/// [`credentials`](Self::credentials). What is here concerns the whole.
pub struct Authority {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policies: Arc<Policies>,
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
    pub(crate) following: Arc<Following>,
}

impl Authority {
    /// Whether this node can't follow the changes of others, and so answers no call.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.shared.followed.is_stuck()
    }

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
