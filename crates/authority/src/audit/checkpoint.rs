//! Signing the state of the trail, each hour.

use std::{sync::Arc, time::Duration};

use tessera_core::{AuditAction, AuditKind, AuditRecord, audit::Actor};
use tessera_store::{AuditHead, Changes, Decision, Priority, Reads, Snapshot};
use tessera_token::{Checkpoint, ExportedPart};

use crate::{audit::trail::AuditTrail, error::Unavailable};

/// How long after the start the first checkpoint is signed: an authority that is restarted each hour has checkpoints,
/// too.
const FIRST: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(60 * 60);

impl AuditTrail {
    /// Signs the trail each hour, for as long as it is polled.
    pub(crate) async fn keep_signing_audit(self: &Arc<Self>) {
        tokio::time::sleep(FIRST).await;
        loop {
            if let Err(error) = self.sign_audit().await {
                tracing::warn!(%error, "the audit trail can't be signed");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Appends a checkpoint to the trail, a record for each realm, unless the last records are a checkpoint. Returns
    /// the position that it covers, if there was anything to cover.
    ///
    /// # Errors
    /// Fails if the store can't be read or written.
    pub async fn sign_audit(self: &Arc<Self>) -> Result<Option<u64>, Unavailable> {
        let last = self
            .shared
            .store
            .audit(self.audit_position().saturating_sub(1), 1)
            .await?;
        let is_signed = |record: &AuditRecord| record.action.kind() == AuditKind::Checkpoint;
        if last.first().is_none_or(|(_, record)| is_signed(record)) {
            return Ok(None);
        }
        let trail = Arc::clone(self);
        let decide = move |state: &Snapshot| trail.checkpoint(state);
        let (signed, _) = self
            .shared
            .store
            .commit_with(Priority::Foreground, Reads::default(), decide)
            .await?;
        Ok(signed)
    }

    /// A checkpoint of the trail up to `head`, or only of a part of it.
    pub(crate) fn signed_checkpoint(&self, export: Option<ExportedPart>, head: &AuditHead) -> Option<String> {
        let (log, link, now) = (
            self.shared.store.log().id(),
            head.link.to_string(),
            self.shared.clock.now(),
        );
        let checkpoint = Checkpoint {
            export,
            ..Checkpoint::new(log, head.position, link, now)
        };
        self.shared
            .server_keys
            .load()
            .current()
            .checkpoints()
            .sign(&checkpoint)
    }

    /// Decided within the commit: the signed state is the state that the record follows.
    fn checkpoint(&self, state: &Snapshot) -> Decision<Option<u64>> {
        let (head, now) = (state.audit_head, self.shared.clock.now());
        let Some(token) = self.signed_checkpoint(None, &head) else {
            return Decision::Abort(None);
        };
        let records = self.shared.realms.keys().map(|realm| AuditRecord {
            at: now,
            realm: realm.clone(),
            actor: Actor::Operator,
            request: None,
            action: AuditAction::Checkpoint {
                position: head.position,
                token: token.clone(),
            },
        });
        let changes = Changes {
            audit: records.collect(),
            ..Changes::default()
        };
        Decision::Commit(changes, Some(head.position))
    }
}
