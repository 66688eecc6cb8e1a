//! The port to a store that several processes share.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tessera_core::{RealmName, Sequence};

use crate::{
    error::StoreError,
    node::{Alone, NodeReport, OtherNode},
};

/// A store that several processes write to, from the view of one of them, a node. More may be committed than this node
/// knows of, until it [catches up](Self::catch_up).
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// The name of this node.
    fn name(&self) -> &str;

    /// Brings the [log](crate::StoreReader::log) up to everything that any node had committed when this was called.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the backend can't prove that it is current.
    async fn catch_up(&self) -> Result<(), StoreError>;

    /// The other nodes that write to the store, or did lately.
    ///
    /// # Errors
    /// Fails if the backend can't be read.
    async fn others(&self) -> Result<Vec<OtherNode>, StoreError>;

    /// Waits until no other node holds this lock, and holds it until the answer is dropped. It delays no
    /// [transaction](crate::Store::transact).
    ///
    /// # Errors
    /// Fails if the backend can't be reached.
    async fn alone(&self) -> Result<Alone, StoreError>;

    /// Reports the state of this node to the others, and up to which position of the log all its required subscribers
    /// know the log, or refuse by themselves. Without a report, the previous one stays.
    ///
    /// # Errors
    /// Fails if the backend can't be written.
    async fn tell(
        &self,
        fences: BTreeMap<RealmName, Sequence>,
        report: Option<NodeReport>,
    ) -> Result<(), StoreError>;
}
