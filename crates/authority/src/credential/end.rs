//! The commit that ends an API key and its descendants: a pure function of what the store has.

use std::collections::BTreeSet;

use tessera_core::{ApiKey, ApiKeyId, ClientName, EventTarget, Timestamp};
use tessera_store::{Changes, Decision, Reads, Snapshot};

use crate::{
    error::CallNotAllowed,
    log::{cause::Cause, event::api_key_revoked},
};

/// Asks policy whether the caller may end keys of a client.
type CheckMayEnd = Box<dyn Fn(&ClientName) -> Result<(), CallNotAllowed> + Send>;

/// The keys that end with a key that was read: its successor, and, if the caller requests it, the keys that were made
/// with it.
pub(crate) fn came_of(state: &Snapshot, key: &ApiKey, with_made_keys: bool) -> Vec<ApiKeyId> {
    let made = state.made_with(&key.id).unwrap_or_default();
    let made = made.iter().filter(|_| with_made_keys).map(|made| made.id);
    made.chain(key.successor).collect()
}

/// Ends a key and its descendants, as they are at the commit.
pub(crate) struct EndApiKeys {
    pub(crate) id: ApiKeyId,
    pub(crate) with_made_keys: bool,
    pub(crate) validate_only: bool,
    pub(crate) check_may_end: CheckMayEnd,
    /// When the last access token of the realm ends.
    pub(crate) until: Timestamp,
    pub(crate) cause: Cause,
}

impl EndApiKeys {
    /// The descendants of the key, all of which the caller may end.
    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Result<Descent, CallNotAllowed>> {
        let mut descent = Descent::default();
        let (mut left, mut met, mut unread) = (vec![self.id], BTreeSet::new(), Vec::new());
        while let Some(id) = left.pop() {
            if !met.insert(id) {
                continue;
            }
            let (Some(key), Some(made)) = (state.api_key(&id), state.made_with(&id)) else {
                unread.push(id);
                continue;
            };
            if let Err(refused) = (self.check_may_end)(&key.client) {
                return Decision::Abort(Err(refused));
            }
            if !self.with_made_keys {
                let works = made.iter().filter(|made| made.works(self.cause.now));
                descent.goes_on.extend(works.map(|made| made.id));
            }
            left.extend(came_of(state, key, self.with_made_keys));
            descent.ends.push(id);
        }
        // A key may have been removed; a key that was looked up has a list of the keys that it made.
        unread.retain(|id| state.made_with(id).is_none());
        if !unread.is_empty() {
            return Decision::ReadMore(Reads::default().api_keys(unread.clone()).made_with(unread));
        }
        descent.goes_on.retain(|made| !met.contains(made));
        if self.validate_only {
            return Decision::Abort(Ok(descent));
        }
        let mut changes = Changes::default();
        let ended = descent.ends.iter().filter_map(|id| state.api_key(id));
        for key in ended.filter(|key| key.revoked_at.is_none()) {
            self.end(key, &mut changes);
        }
        Decision::Commit(changes, Ok(descent))
    }

    fn end(&self, key: &ApiKey, changes: &mut Changes) {
        let target = EventTarget::ApiKey(key.id);
        let (reason, now) = (self.cause.reason.clone(), self.cause.now);
        changes.audit.push(self.cause.record(target, 0));
        changes.events.push(api_key_revoked(key, reason, now, self.until));
        changes.api_keys.push(ApiKey {
            revoked_at: Some(now),
            ..key.clone()
        });
    }
}

/// A key and its descendants.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Descent {
    /// The key, and those that end with it.
    pub(crate) ends: Vec<ApiKeyId>,
    /// Keys that were made with them, work, and keep working.
    pub(crate) goes_on: BTreeSet<ApiKeyId>,
}

#[cfg(test)]
mod tests;
