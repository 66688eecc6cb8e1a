//! The commit of a Refresh: a pure function of what the store has.

use std::sync::Arc;

use tessera_core::{
    AuditAction, AuditRecord, ClientName, DecisionId, PolicyRevision, Presented, RealmLimits, RequestId,
    RevokeReason, Seconds, SecretHash, Session, SessionId, Timestamp, TokenId, Verdict,
};
use tessera_store::{Changes, Decision, Snapshot, StoredSession, Times};
use tessera_token::{NoEntropy, RefreshToken, random};

use crate::{
    error::Unavailable,
    issuance::{error::RefreshError, scopes::Grant, tokens::Committed},
    log::event::session_revoked,
    principal::Identity,
};

/// A presented token that is about to be spent.
#[derive(Clone, Debug)]
pub(crate) struct RefreshCommit {
    pub(crate) identity: Identity,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) session: SessionId,
    pub(crate) generation: u64,
    pub(crate) secret: SecretHash,
    pub(crate) successor: SecretHash,
    pub(crate) token_id: TokenId,
    pub(crate) decision: DecisionId,
    /// The session's scopes that policy grants; nothing for a spent token.
    pub(crate) grant: Grant,
    pub(crate) now: Timestamp,
}

/// The result of the commit of a Refresh.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The session has the next generation.
    Rotated(Committed),
    /// The same successor again.
    Replayed(Committed),
    /// A spent token: the session of this client is revoked.
    Reused(ClientName),
    /// Nothing happened.
    Refused(RefreshError),
    /// Another policy was put in force since the decision: nothing happened.
    PolicyChanged,
}

impl RefreshCommit {
    pub(crate) fn new(
        identity: &Identity,
        request_id: Option<RequestId>,
        token: &RefreshToken,
        successor: &RefreshToken,
        session: &Session,
        now: Timestamp,
    ) -> Result<Self, NoEntropy> {
        Ok(Self {
            identity: identity.clone(),
            request_id,
            session: token.session,
            generation: token.generation,
            secret: token.secret.hash(),
            successor: successor.secret.hash(),
            token_id: TokenId::generate(now, random()?),
            decision: DecisionId::generate(now, random()?),
            grant: Grant::nothing(session),
            now,
        })
    }

    /// The verdict on the presented token. Time in which no client could have received the answer again does not count
    /// against the grace window.
    pub(crate) fn verdict(&self, session: &Session, times: &Times) -> Verdict {
        let presented = Presented {
            generation: self.generation,
            secret: self.secret,
            client: self.identity.client(),
        };
        let limits = &self.identity.realm().limits;
        let away = self.away(session, times);
        if away == Seconds(0) || limits.grace == Seconds(0) {
            return session.present(&presented, limits, self.now);
        }
        let limits = RealmLimits {
            grace: Seconds(limits.grace.0.saturating_add(away.0)),
            ..limits.clone()
        };
        session.present(&presented, &limits, self.now)
    }

    /// For how long the authority was stopped since the last rotation.
    fn away(&self, session: &Session, times: &Times) -> Seconds {
        let previous = session.family.and_then(|family| family.previous);
        let millis = previous.map_or(0, |previous| times.away_millis(previous.spent_at, self.now));
        // A part of a second counts as a whole one.
        Seconds(u32::try_from(millis.saturating_add(999) / 1000).unwrap_or(u32::MAX))
    }

    /// Reads the session again, and decides. `policy` made the decision.
    pub(crate) fn decide(&self, state: &Snapshot, policy: &PolicyRevision) -> Decision<Outcome> {
        if state.policy_in_force() != Some(policy) {
            return Decision::Abort(Outcome::PolicyChanged);
        }
        let Some(stored) = state.session(self.session) else {
            return refused(RefreshError::Invalid);
        };
        if let Some(reason) = self.ended_with_others(stored) {
            return refused(RefreshError::Revoked(reason));
        }
        let session = &stored.session;
        match self.verdict(session, &state.times) {
            Verdict::Rotate | Verdict::Replay if self.grant.granted.is_empty() => {
                // A reuse before and not now: impossible, as generations only grow.
                refused(Unavailable::Defect("a generation went backwards").into())
            }
            Verdict::Rotate => self.rotate(state, session),
            Verdict::Replay => self.replay(state, session),
            Verdict::Reuse => self.reuse(session),
            Verdict::Refuse(refusal) => refused(refusal.into()),
        }
    }

    /// Another client does not learn what happened to the session.
    fn ended_with_others(&self, stored: &StoredSession) -> Option<RevokeReason> {
        let is_own = *self.identity.client() == stored.session.client;
        stored.ended.filter(|_| is_own)
    }

    fn rotate(&self, state: &Snapshot, session: &Session) -> Decision<Outcome> {
        let limits = &self.identity.realm().limits;
        let rotated = session
            .rotated(self.successor, limits, self.now)
            .regaining(&self.grant.granted);
        let rotated = Arc::new(rotated);
        let changes = Changes {
            sessions: vec![Arc::clone(&rotated)],
            audit: vec![self.record(self.refreshed(&rotated, false))],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Rotated(self.committed(state, rotated)))
    }

    fn replay(&self, state: &Snapshot, session: &Session) -> Decision<Outcome> {
        if session
            .family
            .is_none_or(|family| family.current != self.successor)
        {
            // The ratchet gives another successor than before: the server key was changed.
            return refused(RefreshError::Invalid);
        }
        let given = session.regaining(&self.grant.granted).replayed(self.now);
        let is_changed = given != *session;
        let given = Arc::new(given);
        let changes = Changes {
            sessions: is_changed.then(|| Arc::clone(&given)).into_iter().collect(),
            audit: vec![self.record(self.refreshed(&given, true))],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Replayed(self.committed(state, given)))
    }

    fn reuse(&self, session: &Session) -> Decision<Outcome> {
        let revoked = session.revoked(RevokeReason::Reuse, self.now);
        let action = AuditAction::Reused {
            session: session.id,
            subject: session.subject.clone(),
            presented: self.generation,
            current: session.generation(),
        };
        let event = session_revoked(&revoked, RevokeReason::Reuse, String::new(), self.now);
        let client = session.client.clone();
        let changes = Changes {
            audit: vec![self.record(action)],
            sessions: vec![Arc::new(revoked)],
            events: vec![event],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Reused(client))
    }

    fn committed(&self, state: &Snapshot, session: Arc<Session>) -> Committed {
        Committed {
            session,
            token_id: self.token_id,
            scopes: self.grant.granted.clone(),
            policy: self.grant.revision,
            rev: state.head(),
            at: self.now,
        }
    }

    fn refreshed(&self, session: &Session, is_replay: bool) -> AuditAction {
        AuditAction::Refreshed {
            session: session.id,
            token: self.token_id,
            generation: session.generation(),
            is_replay,
            scopes: self.grant.granted.clone(),
            denied: self.grant.denied_scopes(),
            decision: self.decision,
            policy: self.grant.revision,
        }
    }

    fn record(&self, action: AuditAction) -> AuditRecord {
        self.identity.record(self.now, self.request_id, action)
    }
}

fn refused(error: RefreshError) -> Decision<Outcome> {
    Decision::Abort(Outcome::Refused(error))
}

#[cfg(test)]
mod tests;
