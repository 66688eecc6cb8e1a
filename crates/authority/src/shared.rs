//! What every noun needs: the store, the clock, the realms, the policy in force, the server keys, and the position of
//! the log.

pub(crate) mod followed;
pub(crate) mod position;
pub(crate) mod rollback;
pub(crate) mod setting;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tessera_core::{
    Clock, Cursor, CursorTag, FilterDigest, Realm, RealmKind, RealmName, Sequence, Timestamp,
};
use tessera_policy::{Permission, Policy};
use tessera_store::{Store, StoreError};
use tessera_token::ServerKeys;
use tokio::sync::watch as signal;

use self::{followed::Followed, position::LastPosition, rollback::RollbackDetection};
use crate::{
    error::{CallNotAllowed, Unavailable},
    principal::Principal,
};

/// How long a call waits for the policy that was put in force since it decided.
const SWAP_MAX: Duration = Duration::from_secs(1);

/// What every noun needs. It knows none of them.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) realms: BTreeMap<RealmName, Arc<Realm>>,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) server_keys: ArcSwap<ServerKeys>,
    pub(crate) draining: signal::Sender<bool>,
    pub(crate) rollback: RollbackDetection,
    pub(crate) followed: Followed,
    /// Signals that another policy is in force here.
    policy_swapped: signal::Sender<()>,
    last_position: LastPosition,
}

impl Shared {
    /// The parts with which an authority is opened. The state that was read includes everything up to `through`.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        realms: BTreeMap<RealmName, Arc<Realm>>,
        policy: Policy,
        server_keys: Arc<ServerKeys>,
        through: Sequence,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            realms,
            policy: ArcSwap::from_pointee(policy),
            server_keys: ArcSwap::new(server_keys),
            draining: signal::Sender::new(false),
            rollback: RollbackDetection::default(),
            followed: Followed::from(through),
            policy_swapped: signal::Sender::new(()),
            last_position: LastPosition::default(),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The policy in force. A request takes it once and keeps it until the request ends.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Decides by another policy from now on.
    pub(crate) fn swap_policy(&self, policy: Arc<Policy>) {
        if self.policy.load().revision() != policy.revision() {
            self.policy.store(policy);
        }
        self.policy_swapped.send_replace(());
    }

    /// Waits until another policy than `before` is in force here: the store has one already.
    pub(crate) async fn wait_for_policy_after(&self, before: &Arc<Policy>) {
        let mut swapped = self.policy_swapped.subscribe();
        let is_another = |(): &()| !Arc::ptr_eq(before, &self.policy.load());
        drop(tokio::time::timeout(SWAP_MAX, swapped.wait_for(is_another)).await);
    }

    /// Refuses `principal` unless policy permits.
    pub(crate) fn require(
        &self,
        principal: &Principal,
        permission: &Permission,
    ) -> Result<(), CallNotAllowed> {
        principal.check(&self.policy.load(), permission)
    }

    /// Whether a client's key is of a production realm, if one is served: a sandbox realm must not decide what concerns
    /// every realm.
    pub(crate) fn speaks_for_all_realms(&self, principal: &Principal) -> bool {
        let mut realms = self.realms.values();
        principal.realm().kind == RealmKind::Production
            || !realms.any(|realm| realm.kind == RealmKind::Production)
    }

    /// Whether it is stopping.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// The position up to which the log is committed now.
    pub(crate) fn position(&self) -> Cursor {
        let cursor = self.untagged(self.committed(), FilterDigest::NONE);
        self.last_position.authenticated(&self.server_keys.load(), cursor)
    }

    pub(crate) fn committed(&self) -> Sequence {
        self.store.log().committed()
    }

    pub(crate) fn cursor_at(&self, sequence: Sequence) -> Cursor {
        self.cursor_of(sequence, FilterDigest::NONE)
    }

    pub(crate) fn cursor_of(&self, sequence: Sequence, filter: FilterDigest) -> Cursor {
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
    pub(crate) fn given_cursor(&self, text: &str) -> Option<Cursor> {
        let cursor = Cursor::parse(text).ok()?;
        let is_given = cursor.log == self.store.log().id() && self.server_keys.load().gave_cursor(&cursor);
        is_given.then_some(cursor)
    }

    /// Refuses to issue if the data directory is known to be older than what it gave: revocations would not cover what
    /// is issued now.
    pub(crate) fn check_is_last(&self) -> Result<(), Unavailable> {
        if self.rollback.is_proven() {
            return Err(Unavailable::Store(StoreError::Damaged {
                detail: "the data directory is older than what it gave: run `tessera restore`".to_owned(),
            }));
        }
        Ok(())
    }

    /// Whether other nodes write to the store, too.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.store.is_shared()
    }

    /// Updates the state that decisions use to everything that any node committed before this call.
    pub(crate) async fn current(&self) -> Result<(), Unavailable> {
        if self.is_one_of_several() {
            self.store.catch_up().await?;
        }
        self.followed().await
    }

    /// Waits until this node has followed everything that it knows to be committed.
    pub(crate) async fn followed(&self) -> Result<(), Unavailable> {
        self.followed_through(self.committed()).await
    }

    /// Waits until keys, policy and clients are those of a position of the log, or of a later one.
    pub(crate) async fn followed_through(&self, position: Sequence) -> Result<(), Unavailable> {
        if self.is_one_of_several() {
            self.followed.wait_for(position).await?;
        }
        Ok(())
    }
}
