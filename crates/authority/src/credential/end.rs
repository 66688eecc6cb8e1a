//! The commit that ends an API key and its descendants: a pure function of what the store has.

use std::collections::BTreeSet;

use tessera_core::{ApiKey, ApiKeyId, AuditAction, AuditRecord, ClientName, EventTarget, Timestamp};
use tessera_store::{Changes, Decision, Reads, Snapshot};

use crate::log::event::api_key_revoked;

/// Asks policy about a client.
type MayRevoke = Box<dyn Fn(&ClientName) -> bool + Send>;

/// The keys that end with a key that was read: its successor, and, if the caller requests it, the keys that were made
/// with it.
pub(crate) fn came_of(state: &Snapshot, key: &ApiKey, with_made_keys: bool) -> Vec<ApiKeyId> {
    let made = state.made_with(&key.id).unwrap_or_default();
    let made = made.iter().filter(|_| with_made_keys).map(|made| made.id.clone());
    made.chain(key.successor.clone()).collect()
}

/// Ends a key and its descendants, as they are at the commit.
pub(crate) struct EndApiKeys {
    pub(crate) id: ApiKeyId,
    pub(crate) with_made_keys: bool,
    pub(crate) validate_only: bool,
    /// Whether the caller may end keys of a client.
    pub(crate) may_revoke: MayRevoke,
    pub(crate) note: String,
    /// When the last access token of the realm ends.
    pub(crate) until: Timestamp,
    /// A record of the call, for another target.
    pub(crate) audit: AuditRecord,
    pub(crate) now: Timestamp,
}

impl EndApiKeys {
    /// The descendants of the key; otherwise the client whose keys the caller may not end.
    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Result<Descent, ClientName>> {
        let mut descent = Descent::default();
        let (mut left, mut met, mut unread) = (vec![self.id.clone()], BTreeSet::new(), Vec::new());
        while let Some(id) = left.pop() {
            if !met.insert(id.clone()) {
                continue;
            }
            let (Some(key), Some(made)) = (state.api_key(&id), state.made_with(&id)) else {
                unread.push(id);
                continue;
            };
            if !(self.may_revoke)(&key.client) {
                return Decision::Abort(Err(key.client.clone()));
            }
            if !self.with_made_keys {
                let works = made.iter().filter(|made| made.works(self.now));
                descent.goes_on.extend(works.map(|made| made.id.clone()));
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
        let target = EventTarget::ApiKey(key.id.clone());
        changes
            .audit
            .push(revocation_record(&self.audit, target, &self.note));
        changes
            .events
            .push(api_key_revoked(key, self.note.clone(), self.now, self.until));
        changes.api_keys.push(ApiKey {
            revoked_at: Some(self.now),
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

/// The record of one of several things that a call revoked.
fn revocation_record(record: &AuditRecord, target: EventTarget, reason: &str) -> AuditRecord {
    AuditRecord {
        action: AuditAction::Revoked {
            target,
            matched: 0,
            reason: reason.to_owned(),
        },
        ..record.clone()
    }
}

#[cfg(test)]
mod tests;
