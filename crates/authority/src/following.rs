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

use crate::{Authority, error::Unavailable};

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

impl Authority {
    /// Whether this node can't follow the changes of others, and so answers no call.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.shared.followed.is_stuck()
    }

    /// Follows in a separate task, until the authority is dropped. Does nothing if only this process uses the store.
    pub(crate) fn begin_following(self: &Arc<Self>) {
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
            self.sinks
                .follow(&settings.audit_sinks, |name| self.audit.delivers_to(name));
            self.policies.note_reconciled(settings.policy_reconciled);
            if let Some(revision) = state.policy_in_force() {
                self.policies.follow_policy(revision).await?;
            }
        }
        self.shared.followed.reach(through);
        Ok(())
    }
}

async fn follow(authority: Weak<Authority>) {
    let mut looked_at: Option<Instant> = None;
    loop {
        let Some(authority) = authority.upgrade() else {
            return;
        };
        let looks_at_all = looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
        let followed = authority.follow_on(looks_at_all).await;
        let is_stuck = followed.is_err();
        authority.shared.followed.set_stuck(is_stuck);
        // Also if this node can't follow: others wait for its subscribers, and do its work.
        let told = async {
            authority.others.look().await?;
            authority.others.tell(authority.shared.followed.position()).await
        };
        match followed.and(told.await) {
            Ok(()) => {
                if looks_at_all {
                    looked_at = Some(Instant::now());
                }
                authority.policies.take_over_reconciling();
            }
            Err(Unavailable::Store(StoreError::Closed)) => return,
            Err(error) => {
                tracing::debug!(%error, is_stuck, "other nodes are not followed, or not told");
                drop(authority);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let mut committed = authority.shared.store.log().subscribe();
        let position = authority.shared.followed.position();
        drop(authority);
        // Ready at once if something was committed in the meantime.
        drop(timeout(TICK, committed.wait_for(|committed| *committed > position)).await);
    }
}
