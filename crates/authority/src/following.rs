//! Following the changes of other nodes of a shared store: their keys, their policy, their disabled clients.
//!
//! The store knows what is committed and what is revoked. The decoded state that is kept here beside it has to follow.
//! A call that decides by that state waits until it includes everything that was committed before the call.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tessera_core::EventBody;
use tessera_store::{Reads, StoreError};
use tokio::time::timeout;

use crate::{
    audit::trail::AuditTrail, credential::credentials::Credentials, error::Unavailable, others::OtherNodes,
    policy::policies::Policies, shared::Shared, signing_key::signing_keys::SigningKeys,
};

/// How often a node checks for changes without an event, and tells others how far its subscribers are.
const TICK: Duration = Duration::from_millis(100);
/// How long a node waits after following failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The time between two full checks for changes without an event.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How many events are read at once.
const READ_STEP: usize = 256;

/// The changes that some events require.
#[derive(Default)]
struct Changed {
    keys: bool,
    policy: bool,
    clients: bool,
}

impl Changed {
    fn note(&mut self, body: &EventBody) {
        match body {
            EventBody::KeyPublished { .. }
            | EventBody::KeyActivated { .. }
            | EventBody::KeyRevoked { .. } => {
                self.keys = true;
            }
            EventBody::PolicyApplied { .. } => self.policy = true,
            EventBody::ClientRevoked { .. } => self.clients = true,
            EventBody::TokenRevoked { .. }
            | EventBody::SessionRevoked { .. }
            | EventBody::SubjectRevoked { .. }
            | EventBody::LabelRevoked { .. }
            | EventBody::RealmRevoked
            | EventBody::ApiKeyRevoked { .. }
            | EventBody::ScopesNarrowed { .. } => {}
        }
    }
}

/// Follows other nodes, and tells them of this one.
pub(crate) struct Following {
    pub(crate) shared: Arc<Shared>,
    pub(crate) others: Arc<OtherNodes>,
    pub(crate) signing_keys: Arc<SigningKeys>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) audit: Arc<AuditTrail>,
}

impl Following {
    /// Follows in a separate task, until it is dropped. Does nothing if only this process uses the store.
    pub(crate) fn begin(self: &Arc<Self>) {
        if self.shared.is_one_of_several() {
            tokio::spawn(follow(Arc::downgrade(self)));
        }
    }

    /// Follows what was committed since the last time.
    async fn follow_on(&self, looks_at_all: bool) -> Result<(), Unavailable> {
        let mut through = self.shared.followed.position();
        let mut changed = Changed {
            clients: looks_at_all,
            ..Changed::default()
        };
        loop {
            match self.shared.store.events(through, READ_STEP).await {
                Ok(batch) => {
                    let Some(last) = batch.events.last() else { break };
                    batch.events.iter().for_each(|event| changed.note(&event.body));
                    through = last.sequence;
                }
                Err(StoreError::EventsForgotten) => {
                    through = self.shared.store.log().floor();
                    changed = Changed {
                        keys: true,
                        policy: true,
                        clients: true,
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
        if changed.keys {
            self.signing_keys.reload_keys().await?;
        }
        if changed.policy || changed.clients {
            let state = self.shared.store.read(Reads::default().settings()).await?;
            let settings = state.settings.clone().unwrap_or_default();
            self.credentials.disabled.replace(settings.disabled_clients);
            self.audit.follow_sinks(&settings.audit_sinks);
            self.policies.note_reconciled(settings.policy_reconciled);
            if let Some(revision) = state.policy_in_force() {
                self.policies.follow_policy(revision).await?;
            }
        }
        self.shared.followed.reach(through);
        Ok(())
    }
}

async fn follow(weak: Weak<Following>) {
    let mut looked_at: Option<Instant> = None;
    loop {
        let Some(following) = weak.upgrade() else {
            return;
        };
        let looks_at_all = looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
        let followed = following.follow_on(looks_at_all).await;
        let is_stuck = followed.is_err();
        following.shared.followed.set_stuck(is_stuck);
        // Also if this node can't follow: others wait for its subscribers, and do its work.
        let told = async {
            following.others.look().await?;
            following.others.tell(following.shared.followed.position()).await
        };
        match followed.and(told.await) {
            Ok(()) => {
                if looks_at_all {
                    looked_at = Some(Instant::now());
                }
                following.policies.take_over_reconciling();
            }
            Err(Unavailable::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::debug!(%error, is_stuck, "other nodes are not followed, or not told");
                drop(following);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let mut committed = following.shared.store.log().subscribe();
        let position = following.shared.followed.position();
        drop(following);
        // Ready at once if something was committed in the meantime.
        drop(timeout(TICK, committed.wait_for(|committed| *committed > position)).await);
    }
}
