//! Ending an API key and its descendants.

use std::collections::BTreeSet;

use tessera_core::{ApiKeyId, RevokeReason, Sequence, SessionId};
use tessera_store::{Decision, PageRequest, Reads, SessionIndex, Snapshot};

use crate::{
    credential::{
        end::{Descent, EndApiKeys, came_of},
        right::check_may_end,
    },
    session::{
        end::end_sessions,
        error::RevokeError,
        revoke::operation::{RevokeOperation, Revoked, STEP},
    },
};

impl RevokeOperation<'_> {
    /// The keys end first, in one commit: from then on no session that they began can be refreshed, and they make
    /// nothing any longer. Then their sessions end, in steps, so that verifiers refuse their access tokens too. A crash
    /// in between loses nothing that matters: repeating the call ends the rest.
    pub(crate) async fn api_key(&self, id: &ApiKeyId) -> Result<Revoked, RevokeError> {
        let key = self.sessions.shared.store.api_key(id).await?;
        let Some(key) = key.filter(|key| key.realm == *self.principal.realm_name()) else {
            return Ok(self.nothing());
        };
        self.sessions
            .credentials
            .require_revoke(self.principal, &key.client)?;
        let (descent, mut sequence) = self.end_api_keys(id).await?;
        let mut revoked = Revoked::of(0, None);
        if self.request.validate_only {
            for key in &descent.ends {
                revoked.matched += self.matched(&self.index_of(key)).await?.live;
            }
        } else {
            for key in &descent.ends {
                let (matched, last) = self.end_sessions_of(key).await?;
                revoked.matched += matched;
                sequence = last.or(sequence);
            }
            let position = || self.sessions.shared.position();
            let cursor = sequence.map_or_else(position, |sequence| self.sessions.shared.cursor_at(sequence));
            revoked.cursor = Some(cursor);
            revoked.is_change = sequence.is_some();
        }
        revoked.api_keys = descent.ends;
        revoked.made_keys = descent.goes_on.into_iter().collect();
        Ok(revoked)
    }

    /// Ends a key and its descendants in one commit, as they are then; returns the last event, if there was one. A call
    /// that only counts writes nothing.
    async fn end_api_keys(&self, id: &ApiKeyId) -> Result<(Descent, Option<Sequence>), RevokeError> {
        let known = self.descent(id).await?;
        let (policy, principal) = (self.sessions.shared.policy(), self.principal.clone());
        let ending = EndApiKeys {
            id: *id,
            with_made_keys: self.request.with_made_keys,
            validate_only: self.request.validate_only,
            check_may_end: Box::new(move |client| check_may_end(&policy, &principal, client)),
            until: self.now.plus(self.principal.realm().limits.access_ttl_max),
            cause: self.cause(),
        };
        let reads = Reads::default().api_keys(known.iter().copied()).made_with(known);
        let decide = move |state: &Snapshot| ending.decide(state);
        let (ended, placed) = self.sessions.shared.store.commit(reads, decide).await?;
        Ok((ended?, placed.last()))
    }

    /// The descendants of a key as they are now, so that the commit has little left to read.
    async fn descent(&self, id: &ApiKeyId) -> Result<BTreeSet<ApiKeyId>, RevokeError> {
        let mut known = BTreeSet::new();
        let mut level = vec![*id];
        while !level.is_empty() {
            let reads = Reads::default()
                .api_keys(level.iter().copied())
                .made_with(level.iter().copied());
            let state = self.sessions.shared.store.read(reads).await?;
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
        SessionIndex::Credential(self.principal.realm_name().clone(), (*key).into())
    }

    /// Ends the sessions that a key began; returns how many, and the last event.
    async fn end_sessions_of(&self, key: &ApiKeyId) -> Result<(u64, Option<Sequence>), RevokeError> {
        let index = self.index_of(key);
        let (mut matched, mut sequence, mut after) = (0, None, None);
        loop {
            let request = PageRequest { after, limit: STEP };
            let page = self.sessions.shared.store.sessions(&index, request).await?;
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
        let (ended, placed) = self.sessions.shared.store.commit(reads, end).await?;
        Ok((ended, placed.last()))
    }
}
