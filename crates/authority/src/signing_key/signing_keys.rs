//! The signing keys: those in use, and the turn to change them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use tessera_core::{KeyId, RealmName, Sequence};
use tessera_store::{Alone, Changes, Placed};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    error::Unavailable,
    log::fence::Fence,
    shared::Shared,
    signing_key::{
        key_set::{KeySet, PublishedKey},
        schedule::KeyRotation,
    },
};

/// The signing keys of all realms, and the server keys that seal them.
pub struct SigningKeys {
    pub(super) shared: Arc<Shared>,
    pub(super) fence: Arc<Fence>,
    pub(super) keys: ArcSwap<KeySet>,
    pub(super) key_rotation: KeyRotation,
    /// The positions at which keys were published that do not sign yet.
    pub(super) published: parking_lot::Mutex<BTreeMap<KeyId, Sequence>>,
    pub(super) server_keys_refused: AtomicBool,
    key_changes: KeyChanges,
}

/// Changes of signing keys.
#[derive(Default)]
struct KeyChanges {
    turn: Mutex<()>,
    /// Whether a change may be committed without being used: its caller has not finished, or has left.
    is_unused: AtomicBool,
    /// The keys in use are at least as new as this position of the log. Locked while they are read: keys never replace
    /// keys that were read later.
    read_through: Mutex<Sequence>,
}

/// The turn of one caller, among the callers of all nodes, to change signing keys.
pub(crate) struct KeyTurn<'a> {
    _turn: MutexGuard<'a, ()>,
    _alone: Alone,
}

impl SigningKeys {
    /// `keys` are those of the store.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        fence: &Arc<Fence>,
        keys: KeySet,
        key_rotation: KeyRotation,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            fence: Arc::clone(fence),
            keys: ArcSwap::from_pointee(keys),
            key_rotation,
            published: parking_lot::Mutex::default(),
            server_keys_refused: AtomicBool::default(),
            key_changes: KeyChanges::default(),
        }
    }

    /// The keys in use.
    pub(crate) fn in_use(&self) -> Guard<Arc<KeySet>> {
        self.keys.load()
    }

    /// How signing keys replace each other.
    #[must_use]
    pub fn key_rotation(&self) -> KeyRotation {
        self.key_rotation
    }

    /// The verifying keys of one realm or of all, newest first within a realm.
    #[must_use]
    pub fn published_keys(&self, realm: Option<&RealmName>) -> Vec<PublishedKey> {
        let keys = self.keys.load();
        let mut published: Vec<_> = keys
            .records()
            .filter(|record| realm.is_none_or(|realm| record.realm == *realm))
            .filter_map(|record| {
                Some(PublishedKey {
                    id: record.id,
                    paserk: record.public.clone(),
                    realm: record.realm.clone(),
                    issuer: self.shared.realms.get(&record.realm)?.issuer.clone(),
                    status: record.status,
                    not_before: record.not_before,
                    not_after: record.not_after,
                })
            })
            .collect();
        published.sort_by(|a, b| (&a.realm, b.not_before, &a.id).cmp(&(&b.realm, a.not_before, &b.id)));
        published
    }

    /// The turn to change signing keys: two changes at once would both replace a key. The keys in use are those of the
    /// store.
    pub(crate) async fn turn_to_change_keys(&self) -> Result<KeyTurn<'_>, Unavailable> {
        let turn = self.key_changes.turn.lock().await;
        let alone = self.shared.store.alone().await?;
        if self.has_unused_keys() || self.shared.is_one_of_several() {
            self.reload_keys().await?;
            self.key_changes.is_unused.store(false, Ordering::SeqCst);
        }
        Ok(KeyTurn {
            _turn: turn,
            _alone: alone,
        })
    }

    /// Whether a change may be committed without being used, because its caller left in between. `false` while another
    /// caller makes one.
    pub(crate) fn has_unused_change_of_keys(&self) -> bool {
        self.has_unused_keys() && self.key_changes.turn.try_lock().is_ok()
    }

    fn has_unused_keys(&self) -> bool {
        self.key_changes.is_unused.load(Ordering::SeqCst)
    }

    /// Commits a change of signing keys, and uses it. If the caller leaves in between, the change is not used here: the
    /// next turn uses it, within a second.
    pub(crate) async fn commit_keys(
        &self,
        _turn: &mut KeyTurn<'_>,
        changes: Changes,
    ) -> Result<Placed, Unavailable> {
        self.key_changes.is_unused.store(true, Ordering::SeqCst);
        let placed = self.shared.store.write(changes).await?;
        self.reload_keys().await?;
        self.key_changes.is_unused.store(false, Ordering::SeqCst);
        Ok(placed)
    }

    /// Updates the keys to those of a position of the log, or of a later one. An event can be seen before its change is
    /// used: a caller that saw the event, and then reads the keys, must not get the keys from before the change.
    pub(crate) async fn keys_reach(&self, position: Sequence) -> Result<(), Unavailable> {
        self.shared.followed_through(position).await?;
        if !self.has_unused_keys() {
            return Ok(());
        }
        let mut read_through = self.key_changes.read_through.lock().await;
        // One of the waiting calls reads them for all.
        if *read_through < position {
            self.read_keys(&mut read_through).await?;
        }
        Ok(())
    }

    /// Reads the keys again after a change was committed.
    pub(crate) async fn reload_keys(&self) -> Result<(), Unavailable> {
        self.read_keys(&mut *self.key_changes.read_through.lock().await)
            .await
    }

    async fn read_keys(&self, read_through: &mut Sequence) -> Result<(), Unavailable> {
        let through = self.shared.committed();
        let records = self.shared.store.signing_keys().await?;
        let keys = KeySet::open(records, &self.shared.realms, &self.shared.server_keys.load())
            .map_err(|_| Unavailable::Defect("a signing key that was just stored does not open"))?;
        self.keys.store(Arc::new(keys));
        *read_through = through;
        Ok(())
    }
}
