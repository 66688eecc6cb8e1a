//! Ending an API key, with what came of it.

use std::{collections::BTreeSet, sync::Arc};

use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, ClientName, EventTarget, RevokeReason, Sequence, SessionId,
    Timestamp,
};
use tessera_policy::{Permission, Policy};
use tessera_store::{Changes, Decision, PageRequest, Reads, SessionIndex, Snapshot};

use crate::{
    credential::authenticate::Principal,
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
        let (descent, mut sequence) = self.end_api_keys(id).await?;
        let mut revoked = Revoked::of(0, None);
        if self.request.validate_only {
            for key in &descent.ends {
                revoked.matched += self.matched(self.index_of(key)).await?.live;
            }
        } else {
            for key in &descent.ends {
                let (matched, last) = self.end_sessions_of(key).await?;
                revoked.matched += matched;
                sequence = last.or(sequence);
            }
            let position = || self.authority.position();
            let cursor = sequence.map_or_else(position, |sequence| self.authority.cursor_at(sequence));
            revoked.cursor = Some(cursor);
            revoked.is_change = sequence.is_some();
        }
        revoked.api_keys = descent.ends;
        revoked.made_keys = descent.goes_on.into_iter().collect();
        Ok(revoked)
    }

    /// Ends a key, and what came of it, in one commit, as it is then; gives the last event, where there was one.
    /// A call that only counts writes nothing.
    async fn end_api_keys(&self, id: &ApiKeyId) -> Result<(Descent, Option<Sequence>), RevokeError> {
        let known = self.descent(id).await?;
        let ending = EndApiKeys {
            id: id.clone(),
            with_made_keys: self.request.with_made_keys,
            validate_only: self.request.validate_only,
            policy: self.authority.policy(),
            principal: self.principal.clone(),
            note: self.request.reason.clone(),
            until: self.now.plus(self.principal.realm().limits.access_ttl_max),
            audit: self.audit(EventTarget::Realm, 0),
            now: self.now,
        };
        let reads = Reads::default().api_keys(known.iter().cloned()).made_with(known);
        let decide = move |state: &Snapshot| ending.decide(state);
        let (ended, placed) = self.authority.store.commit(reads, decide).await?;
        let descent = ended.map_err(|client| {
            let permission = Permission::RevokeApiKeysOf(client);
            self.principal.not_allowed(permission.scope())
        })?;
        Ok((descent, placed.last()))
    }

    /// The keys that come of a key, as they are now, so that the commit has little left to look for.
    async fn descent(&self, id: &ApiKeyId) -> Result<BTreeSet<ApiKeyId>, RevokeError> {
        let mut known = BTreeSet::new();
        let mut level = vec![id.clone()];
        while !level.is_empty() {
            let reads = Reads::default()
                .api_keys(level.iter().cloned())
                .made_with(level.iter().cloned());
            let state = self.authority.store.read(reads).await?;
            let came: Vec<_> = state
                .api_keys
                .iter()
                .flat_map(|key| came_of(&state, key, self.request.with_made_keys))
                .collect();
            known.extend(level);
            level = came.into_iter().filter(|id| !known.contains(id)).collect();
        }
        Ok(known)
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

/// The keys that end with a key that was read: its successor, and, where the caller asks for it, those that were made
/// with it.
fn came_of(state: &Snapshot, key: &ApiKey, with_made_keys: bool) -> Vec<ApiKeyId> {
    let made = state.made_with(&key.id).unwrap_or_default();
    let made = made.iter().filter(|_| with_made_keys).map(|made| made.id.clone());
    made.chain(key.successor.clone()).collect()
}

/// Ends a key, and what came of it, as it is at the commit.
struct EndApiKeys {
    id: ApiKeyId,
    with_made_keys: bool,
    validate_only: bool,
    policy: Arc<Policy>,
    principal: Principal,
    note: String,
    /// When the last access token of the realm ends.
    until: Timestamp,
    /// A record of the call, for another target.
    audit: AuditRecord,
    now: Timestamp,
}

impl EndApiKeys {
    /// What came of the key; else the client whose keys the caller may not end.
    fn decide(&self, state: &Snapshot) -> Decision<Result<Descent, ClientName>> {
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
            if !self.may_revoke(&key.client) {
                return Decision::Abort(Err(key.client.clone()));
            }
            if !self.with_made_keys {
                let works = made.iter().filter(|made| made.works(self.now));
                descent.goes_on.extend(works.map(|made| made.id.clone()));
            }
            left.extend(came_of(state, key, self.with_made_keys));
            descent.ends.push(id);
        }
        // A key may have been removed; one that was looked for has a list of what it made.
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

    fn may_revoke(&self, client: &ClientName) -> bool {
        let (realm, caller) = (self.principal.realm_name(), self.principal.client());
        let permission = Permission::RevokeApiKeysOf(client.clone());
        client == caller || self.policy.permits(realm, caller, &permission)
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
#[derive(Debug, Default, PartialEq)]
struct Descent {
    /// It and those that end with it.
    ends: Vec<ApiKeyId>,
    /// Those that were made with them, work, and go on working.
    goes_on: BTreeSet<ApiKeyId>,
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
