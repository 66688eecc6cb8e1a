//! Beginning a watch: who may, from which position, and as which subscriber.

use std::sync::Arc;

use tessera_core::{FilterDigest, Sequence, SubscriberName};
use tessera_policy::Permission;
use tessera_store::SubscriberKey;
use tokio::sync::mpsc;

use crate::{
    error::Unavailable,
    log::{
        error::WatchError,
        subscribers::{Membership, StalenessBound},
    },
    principal::Principal,
    watch::{
        message::{StartAt, SubscriberMessage, WatchStart},
        watcher::Watcher,
        watches::Watches,
    },
};

impl Watches {
    /// Begins a watch of a subscriber whose further messages come from `inbox`.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn watch(
        self: &Arc<Self>,
        principal: Principal,
        start: WatchStart,
        inbox: mpsc::Receiver<SubscriberMessage>,
    ) -> Result<Watcher, WatchError> {
        self.check_watch(&principal, &start)?;
        if self.shared.is_draining() {
            return Err(Unavailable::Draining.into());
        }
        self.check_audiences(&start)?;
        let filter_digest = start.filter.digest();
        let position = match &start.at {
            StartAt::Cursor(text) => self.resume_at(text, filter_digest).await?,
            StartAt::Earliest => self.shared.store.log().floor(),
            StartAt::Snapshot | StartAt::Latest => self.shared.committed(),
        };
        let acknowledged = match start.at {
            StartAt::Cursor(_) | StartAt::Latest => position,
            StartAt::Snapshot | StartAt::Earliest => Sequence(0),
        };
        let member = match start.subscriber.filter(|_| start.required) {
            Some(name) => {
                let joined = self.join(&principal, name, start.staleness_bound, acknowledged);
                Some(joined.await?)
            }
            None => None,
        };
        let snapshot = matches!(start.at, StartAt::Snapshot);
        let watcher = Watcher::new(Arc::clone(self), principal, start.filter, member, inbox, position);
        Ok(if snapshot {
            watcher.with_snapshot()
        } else {
            watcher
        })
    }

    /// Counts the subscriber among the required ones.
    async fn join(
        &self,
        principal: &Principal,
        name: SubscriberName,
        bound: StalenessBound,
        acknowledged: Sequence,
    ) -> Result<Membership, WatchError> {
        let (realm, client) = principal.whose();
        let owned = SubscriberKey { realm, client, name };
        let subscribers = &self.fence.subscribers;
        let member = subscribers.join(owned, acknowledged, bound)?;
        let kept = subscribers
            .keep_bound(self.shared.store.as_ref(), principal.realm_name())
            .await;
        kept.map_err(Unavailable::from)?;
        Ok(member)
    }

    /// Refuses callers that may not watch, or not as a required subscriber with this bound.
    fn check_watch(&self, principal: &Principal, start: &WatchStart) -> Result<(), WatchError> {
        self.shared.require(principal, &Permission::Watch)?;
        if !start.required {
            return Ok(());
        }
        self.shared.require(principal, &Permission::RequireWatch)?;
        if start.staleness_bound > self.bound_max {
            return Err(WatchError::BoundTooLong {
                max: self.bound_max.0,
            });
        }
        Ok(())
    }

    /// A subscriber whose audience is misspelled would refuse every token and never learn why. A subscriber that
    /// resumes began when the catalogue had its audience, and may continue with the tokens that are left.
    fn check_audiences(&self, start: &WatchStart) -> Result<(), WatchError> {
        if matches!(start.at, StartAt::Cursor(_)) {
            return Ok(());
        }
        let policy = self.shared.policy();
        let catalogue = policy.catalogue();
        let mut audiences = start.filter.audiences.iter();
        match audiences.find(|audience| !catalogue.has_audience(audience)) {
            Some(audience) => Err(WatchError::AudienceUnknown {
                audience: audience.clone(),
                nearest: catalogue.nearest_audience(audience.as_str()),
            }),
            None => Ok(()),
        }
    }

    async fn resume_at(&self, text: &str, filter_digest: FilterDigest) -> Result<Sequence, WatchError> {
        let cursor = self.fence.own_cursor(text).await?;
        if cursor.filter != FilterDigest::NONE && cursor.filter != filter_digest {
            return Err(WatchError::CursorInvalid);
        }
        if cursor.sequence < self.shared.store.log().floor() {
            return Err(WatchError::CursorExpired);
        }
        Ok(cursor.sequence)
    }
}
