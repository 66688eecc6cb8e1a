//! The fence of the whole: the required subscribers of this node and of the others, and waiting until they know a
//! position of the log.

use std::sync::Arc;

use tessera_core::{Cursor, RealmName, Sequence, SubscriberName};
use tessera_policy::Permission;

use crate::{
    error::Unavailable,
    log::{
        error::WatchError,
        subscribers::{Propagated, Subscribers},
    },
    others::OtherNodes,
    principal::Principal,
    shared::Shared,
};

/// The required subscribers of all nodes.
pub struct Fence {
    pub(super) shared: Arc<Shared>,
    /// Those of this node.
    pub(crate) subscribers: Arc<Subscribers>,
    pub(super) others: Arc<OtherNodes>,
}

impl Fence {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        subscribers: &Arc<Subscribers>,
        others: &Arc<OtherNodes>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            subscribers: Arc::clone(subscribers),
            others: Arc::clone(others),
        }
    }

    /// Returns when every required subscriber of the realm has the cursor, or refuses by itself.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn await_propagation(
        &self,
        principal: &Principal,
        cursor: &str,
    ) -> Result<Propagated, WatchError> {
        self.shared.require(principal, &Permission::Watch)?;
        let cursor = self.own_cursor(cursor).await?;
        let realm = principal.realm_name();
        let propagated = self.subscribers.wait_for(realm, cursor.sequence).await;
        let others = self.others.reach(realm, cursor.sequence).await?;
        if others.is_empty() {
            return Ok(propagated);
        }
        Ok(Propagated::at_all_nodes(
            &self.states(realm, &others),
            cursor.sequence,
        ))
    }

    /// The required subscribers of this node that do not have a position; `None` if each has it, or refuses by itself.
    pub(crate) fn behind(&self, realm: &RealmName, position: Sequence) -> Option<Vec<SubscriberName>> {
        self.subscribers.behind(realm, position)
    }

    /// Whether a required subscriber of another node may accept what was revoked up to a position.
    pub(crate) async fn others_are_behind(
        &self,
        realm: &RealmName,
        position: Sequence,
    ) -> Result<bool, Unavailable> {
        self.others.are_behind(realm, position).await
    }

    /// A cursor of this log, at a position that it has reached.
    pub(crate) async fn own_cursor(&self, text: &str) -> Result<Cursor, WatchError> {
        let cursor = self.shared.given_cursor(text).ok_or(WatchError::CursorInvalid)?;
        if cursor.sequence > self.shared.committed() {
            // Another node may have given it.
            self.shared.current().await?;
        }
        if cursor.sequence > self.shared.committed() {
            // This authority gave it, from a later state of the data.
            self.shared.rollback.prove("a cursor");
            return Err(WatchError::CursorInvalid);
        }
        Ok(cursor)
    }
}
