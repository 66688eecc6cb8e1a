//! Ending an API key, with what came of it.

use std::collections::BTreeMap;

use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, EventTarget, RevokeReason, Sequence, SessionId, Timestamp,
};
use tessera_store::{Changes, Decision, PageRequest, Reads, SessionIndex, Snapshot};

use crate::{
    log::event::api_key_revoked,
    session::{
        error::RevokeError,
        revoke::{RevokeOperation, Revoked, STEP, end_sessions},
    },
};

impl RevokeOperation<'_> {
    /// The keys first, in one commit: from there on no session that they began can be refreshed, and they make
    /// nothing any more. Then their sessions, in steps, so that verifiers refuse their access tokens too. A
    /// crash in between loses nothing that matters: repeating the call ends the rest.
    pub(crate) async fn api_key(&self, id: &ApiKeyId) -> Result<Revoked, RevokeError> {
        let key = self.authority.store.api_key(id).await?;
        let Some(key) = key.filter(|key| key.realm == *self.principal.realm_name()) else {
            return Ok(self.nothing());
        };
        self.authority.require_revoke(self.principal, &key.client)?;
        let mut descent = self.descent(&key).await?;
        let mut revoked = Revoked::of(0, None);
        if self.request.validate_only {
            for key in &descent.ends {
                revoked.matched += self.matched(self.index_of(key)).await?.live;
            }
        } else {
            let (mut sequence, ended) = self.end_api_keys(&descent.ends).await?;
            // A key may have been rolled since its descent was read: the commit followed it further.
            descent.ends = ended;
            for key in &descent.ends {
                let (matched, last) = self.end_sessions_of(key).await?;
                revoked.matched += matched;
                sequence = last.or(sequence);
            }
            let position = || self.authority.position();
            let cursor = sequence.map_or_else(position, |sequence| self.authority.cursor_at(sequence));
            revoked.cursor = Some(cursor);
        }
        revoked.api_keys = descent.ends;
        revoked.made_keys = descent.goes_on;
        Ok(revoked)
    }

    /// What came of a key: its successors end with it; keys that were made with them end where the caller asks
    /// for it and may do it.
    async fn descent(&self, key: &ApiKey) -> Result<Descent, RevokeError> {
        let mut by_maker: BTreeMap<ApiKeyId, Vec<ApiKey>> = BTreeMap::new();
        let mut after = None;
        loop {
            let request = PageRequest { after, limit: STEP };
            let page = self.authority.store.api_keys(&key.realm, request).await?;
            for made in page.items {
                if let Some(maker) = made.made_with.clone() {
                    by_maker.entry(maker).or_default().push(made);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut descent = Descent {
            ends: vec![key.id.clone()],
            goes_on: Vec::new(),
        };
        let mut from = vec![key.clone()];
        while let Some(maker) = from.pop() {
            for made in by_maker.remove(&maker.id).unwrap_or_default() {
                let is_successor = maker.successor.as_ref() == Some(&made.id);
                if is_successor || self.request.with_made_keys {
                    self.authority.require_revoke(self.principal, &made.client)?;
                    descent.ends.push(made.id.clone());
                    from.push(made);
                } else if made.works(self.now) {
                    descent.goes_on.push(made.id);
                }
            }
        }
        Ok(descent)
    }

    /// Ends keys in one commit, with their successors as they are then; gives the last event, where there was
    /// one, and the keys.
    async fn end_api_keys(&self, ids: &[ApiKeyId]) -> Result<(Option<Sequence>, Vec<ApiKeyId>), RevokeError> {
        let ending = EndApiKeys {
            ids: ids.to_vec(),
            note: self.request.reason.clone(),
            until: self.now.plus(self.principal.realm().limits.access_ttl_max),
            audit: self.audit(EventTarget::Realm, 0),
            now: self.now,
        };
        let reads = Reads::default().api_keys(ids.iter().cloned());
        let decide = move |state: &Snapshot| ending.decide(state);
        let (ended, placed) = self.authority.store.commit(reads, decide).await?;
        Ok((placed.last(), ended))
    }

    fn index_of(&self, key: &ApiKeyId) -> SessionIndex {
        SessionIndex::ApiKey(self.principal.realm_name().clone(), key.clone())
    }

    /// Ends the sessions that a key began, and says how many and with which last event.
    async fn end_sessions_of(&self, key: &ApiKeyId) -> Result<(u64, Option<Sequence>), RevokeError> {
        let (mut matched, mut sequence, mut after) = (0, None, None);
        loop {
            let request = PageRequest { after, limit: STEP };
            let page = self.authority.store.sessions(self.index_of(key), request).await?;
            let live = page.items.iter().filter(|stored| self.is_live(&stored.session));
            let live: Vec<_> = live.map(|stored| stored.session.id).collect();
            if !live.is_empty() {
                let (ended, last) = self.end_sessions(live).await?;
                matched += ended;
                sequence = last.or(sequence);
            }
            after = page.next;
            if after.is_none() {
                return Ok((matched, sequence));
            }
        }
    }

    async fn end_sessions(&self, ids: Vec<SessionId>) -> Result<(u64, Option<Sequence>), RevokeError> {
        let (note, now) = (self.request.reason.clone(), self.now);
        let reads = Reads::default().sessions(ids.iter().copied());
        let end = move |state: &Snapshot| {
            let changes = end_sessions(state, &ids, RevokeReason::ApiKey, &note, now);
            let ended = changes.sessions.len() as u64;
            Decision::Commit(changes, ended)
        };
        let (ended, placed) = self.authority.store.commit(reads, end).await?;
        Ok((ended, placed.last()))
    }
}

/// Ends keys with their successors, as they are at the commit.
struct EndApiKeys {
    ids: Vec<ApiKeyId>,
    note: String,
    /// When the last access token of the realm ends.
    until: Timestamp,
    /// A record of the call, for another target.
    audit: AuditRecord,
    now: Timestamp,
}

impl EndApiKeys {
    /// The keys that it ended, or had ended before.
    fn decide(&self, state: &Snapshot) -> Decision<Vec<ApiKeyId>> {
        let unread: Vec<_> = state
            .api_keys
            .iter()
            .filter_map(|key| key.successor.clone())
            .filter(|successor| state.api_key(successor).is_none())
            .collect();
        if !unread.is_empty() {
            return Decision::ReadMore(Reads::default().api_keys(unread));
        }
        let mut changes = Changes::default();
        let mut ended: Vec<ApiKeyId> = Vec::new();
        let mut keys: Vec<_> = self.ids.iter().rev().filter_map(|id| state.api_key(id)).collect();
        while let Some(key) = keys.pop() {
            if ended.contains(&key.id) {
                continue;
            }
            ended.push(key.id.clone());
            keys.extend(
                key.successor
                    .as_ref()
                    .and_then(|successor| state.api_key(successor)),
            );
            if key.revoked_at.is_none() {
                self.end(key, &mut changes);
            }
        }
        Decision::Commit(changes, ended)
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

/// API keys that came of one.
struct Descent {
    /// It and those that end with it.
    ends: Vec<ApiKeyId>,
    /// Those that were made with them, work, and go on working.
    goes_on: Vec<ApiKeyId>,
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
