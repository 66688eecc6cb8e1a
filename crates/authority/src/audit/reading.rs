//! Reading the audit trail for callers: one step at a time over all callers, and each client in its turn.
//!
//! A step reads and decodes up to a thousand records. A caller that follows or searches the trail with a filter that
//! matches little reads as fast as the machine can. Many such callers together would take every core, and memory for a
//! step each.

use std::sync::Arc;

use tessera_store::{AuditPage, AuditQuery, Store, StoreError};
use tokio::sync::Semaphore;

use crate::turns::{Client, Turns};

/// The single slot for reading.
pub(crate) struct AuditReads {
    place: Arc<Semaphore>,
    turns: Arc<Turns>,
}

impl AuditReads {
    pub(crate) fn new() -> Self {
        Self {
            place: Arc::new(Semaphore::new(1)),
            // The number of calls is limited where they arrive.
            turns: Turns::new(usize::MAX, usize::MAX),
        }
    }

    /// Reads a part of the trail for a client, when its turn comes.
    pub(crate) async fn page(
        &self,
        store: &Arc<dyn Store>,
        client: Client,
        query: AuditQuery,
    ) -> Result<AuditPage, StoreError> {
        let turn = self.turns.turn(client).await;
        let place = Arc::clone(&self.place).acquire_owned().await;
        let store = Arc::clone(store);
        // A separate task: if the caller leaves, the store still finishes the read and holds the slot until then.
        let read = tokio::spawn(async move {
            let page = store.audit_page(query).await;
            drop((place, turn));
            page
        });
        read.await.unwrap_or_else(|error| {
            Err(StoreError::Failed {
                detail: format!("reading the audit trail: {error}"),
            })
        })
    }
}
