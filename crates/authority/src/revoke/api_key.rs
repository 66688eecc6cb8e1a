//! Ending an API key, with what came of it.

use std::collections::{BTreeMap, VecDeque};

use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, EventBody, EventTarget, RevokeReason, Sequence, SessionId,
    Timestamp,
};
use tessera_store::{NewEvent, PageRequest, SessionIndex, StoreExt};

use super::{RevokeOperation, Revoked, STEP, end_session};
use crate::error::RevokeError;

impl RevokeOperation<'_> {
    /// The keys first, in one commit: from there on no session that they began can be refreshed, and they make
    /// nothing any more. Then their sessions, in steps, so that verifiers refuse their access tokens too. A
    /// crash in between loses nothing that matters: repeating the call ends the rest.
    pub(super) async fn api_key(&self, id: &ApiKeyId) -> Result<Revoked, RevokeError> {
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
            let place = || self.authority.place();
            let cursor = sequence.map_or_else(place, |sequence| self.authority.cursor_at(sequence));
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
        let (ids, now, note) = (ids.to_vec(), self.now, self.request.reason.clone());
        let until = now.plus(self.principal.realm().limits.access_ttl_max);
        let audit = self.audit(EventTarget::Realm, 0);
        let ended = self.authority.store.transact(move |tx| {
            let (mut last, mut ended) = (None, Vec::new());
            let mut left: VecDeque<_> = ids.iter().cloned().collect();
            while let Some(id) = left.pop_front() {
                let Some(key) = tx.api_key(&id)?.filter(|_| !ended.contains(&id)) else {
                    continue;
                };
                left.extend(key.successor.clone());
                ended.push(id);
                if key.revoked_at.is_some() {
                    continue;
                }
                let revoked = ApiKey {
                    revoked_at: Some(now),
                    ..key
                };
                tx.put_api_key(&revoked)?;
                tx.audit(&revocation_record(
                    &audit,
                    EventTarget::ApiKey(revoked.id.clone()),
                    &note,
                ))?;
                last = Some(tx.append(api_key_revoked(&revoked, &note, now, until))?);
            }
            Ok((last, ended))
        });
        Ok(ended.await?)
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
            let live = page.items.iter().filter(|session| self.is_live(session));
            let live: Vec<_> = live.map(|session| session.id).collect();
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
        let ended = self.authority.store.transact(move |tx| {
            let (mut ended, mut last) = (0, None);
            for id in &ids {
                if let Some(sequence) = end_session(tx, *id, RevokeReason::ApiKey, &note, now)? {
                    ended += 1;
                    last = Some(sequence);
                }
            }
            Ok((ended, last))
        });
        Ok(ended.await?)
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

fn api_key_revoked(key: &ApiKey, note: &str, now: Timestamp, until: Timestamp) -> NewEvent {
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: key.realm.clone(),
        note: note.to_owned(),
        body: EventBody::ApiKeyRevoked {
            api_key: key.id.clone(),
            client: key.client.clone(),
        },
    }
}
