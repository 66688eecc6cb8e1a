//! The commit of a Refresh: a pure function of what the store has.

use std::sync::Arc;

use tessera_core::{
    Audience, AuditAction, AuditRecord, ClientName, DecisionId, Presented, RealmLimits, Refusal, RequestId,
    RevokeReason, Scope, ScopeSet, Seconds, SecretHash, Session, SessionId, Timestamp, TokenId, Verdict,
};
use tessera_policy::Policy;
use tessera_store::{Changes, Decision, Reads, Snapshot, StoredSession, Times};

use crate::{
    issuance::{
        denial::Denial,
        error::RefreshError,
        scopes::{Bearer, Grant},
        tokens::{Committed, bytes_at_most},
    },
    log::event::session_revoked,
    principal::Identity,
};

/// How many scopes are decided in the store's turn at most. More are decided before, in the caller's own time.
const SCOPES_IN_TURN_MAX: usize = 32;

/// A presented token that is about to be spent.
#[derive(Clone, Debug)]
pub(crate) struct RefreshCommit {
    pub(crate) identity: Identity,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) session: SessionId,
    pub(crate) generation: u64,
    pub(crate) secret: SecretHash,
    pub(crate) successor: SecretHash,
    /// Fewer scopes for this access token; empty: all of the session's.
    pub(crate) scopes: ScopeSet,
    /// The audience that the caller expects; `None`: any.
    pub(crate) audience: Option<Audience>,
    pub(crate) token_id: TokenId,
    pub(crate) decision: DecisionId,
    pub(crate) policy: Arc<Policy>,
    /// The longest access token that is issued.
    pub(crate) token_bytes_max: usize,
    /// The grant, if it was decided before the store's turn.
    pub(crate) granted: Option<Grant>,
    pub(crate) now: Timestamp,
}

/// The result of the commit of a Refresh.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The session has the next generation.
    Rotated(Spent),
    /// The same successor again.
    Replayed(Spent),
    /// A spent token: the session of this client is revoked.
    Reused(ClientName),
    /// Policy grants nothing now, which is recorded.
    Denied(Denial),
    /// The session refuses the token: nothing happened.
    Refused(Refusal, Arc<Session>),
    /// Something else is wrong: nothing happened.
    Failed(RefreshError),
    /// The decision of policy takes too long for the store's turn, or the token may be too long: nothing happened.
    GrantFirst(Arc<Session>),
    /// Another policy was put in force since the decision: nothing happened.
    PolicyChanged,
}

/// What a spent token gives.
#[derive(Debug)]
pub(crate) struct Spent {
    pub(crate) committed: Committed,
    /// Scopes that policy does not grant now, with the reason.
    pub(crate) denied: Vec<(Scope, String)>,
}

impl RefreshCommit {
    /// What it reads.
    pub(crate) fn reads(&self) -> Reads {
        let key = Some(*self.identity.api_key());
        Reads::default().session(self.session).api_keys(key)
    }

    /// The scopes that are to be granted.
    pub(crate) fn asked<'a>(&'a self, session: &'a Session) -> &'a ScopeSet {
        if self.scopes.is_empty() {
            &session.scopes
        } else {
            &self.scopes
        }
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

    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Outcome> {
        if state.policy_in_force() != Some(self.policy.revision()) {
            return Decision::Abort(Outcome::PolicyChanged);
        }
        let key = state.api_key(self.identity.api_key());
        if !key.is_some_and(|key| key.works(self.now)) {
            return failed(RefreshError::CredentialEnded);
        }
        let stored = state.session(self.session);
        let Some(stored) = stored.filter(|stored| stored.session.realm == self.identity.realm().name) else {
            return failed(RefreshError::Invalid);
        };
        if let Some(reason) = self.ended_with_others(stored) {
            return failed(RefreshError::Revoked(reason));
        }
        let session = &stored.session;
        match self.verdict(session, &state.times) {
            Verdict::Rotate => self.granting(session, |grant| self.rotate(state, session, grant)),
            Verdict::Replay => self.granting(session, |grant| self.replay(state, session, grant)),
            // The scopes of a thief do not matter.
            Verdict::Reuse => self.reuse(session),
            Verdict::Refuse(refusal) => Decision::Abort(Outcome::Refused(refusal, Arc::clone(session))),
        }
    }

    /// Another client does not learn what happened to the session.
    fn ended_with_others(&self, stored: &StoredSession) -> Option<RevokeReason> {
        let is_own = *self.identity.client() == stored.session.client;
        stored.ended.filter(|_| is_own)
    }

    /// Decides `requested ∩ the session's ∩ policy now`, and goes on with the grant unless it is empty.
    fn granting(
        &self,
        session: &Arc<Session>,
        go_on: impl FnOnce(Grant) -> Decision<Outcome>,
    ) -> Decision<Outcome> {
        if self
            .audience
            .as_ref()
            .is_some_and(|asked| *asked != session.audience)
        {
            return failed(RefreshError::OtherAudience(session.audience.clone()));
        }
        if let Some(beyond) = self.scopes.iter().find(|scope| !session.scopes.contains(scope)) {
            return failed(RefreshError::ScopeExceedsGrant(beyond.clone()));
        }
        match self.grant(session) {
            None => Decision::Abort(Outcome::GrantFirst(Arc::clone(session))),
            Some(grant) if grant.granted.is_empty() => self.deny(session, grant),
            Some(grant) => go_on(grant),
        }
    }

    /// The grant that was decided before, or one that is decided now; `None` if it must be decided first.
    fn grant(&self, session: &Session) -> Option<Grant> {
        if self.granted.is_some() {
            return self.granted.clone();
        }
        let asked = self.asked(session);
        if !self.policy.is_compiled() || asked.len() > SCOPES_IN_TURN_MAX {
            return None;
        }
        let grant = Bearer::of_session(session).grant(&self.policy, asked);
        let bytes = bytes_at_most(self.identity.realm(), session, &grant);
        (bytes <= self.token_bytes_max).then_some(grant)
    }

    fn deny(&self, session: &Session, grant: Grant) -> Decision<Outcome> {
        let denial = Denial {
            asked: self.asked(session).clone(),
            denied: grant.denied,
            partly: false,
            policy: grant.revision,
        };
        let bearer = Bearer::of_session(session);
        let record = denial.record(
            &self.identity,
            self.request_id,
            &bearer,
            Some(session.id),
            self.decision,
        );
        let changes = Changes {
            audit: vec![record],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Denied(denial))
    }

    fn rotate(&self, state: &Snapshot, session: &Session, grant: Grant) -> Decision<Outcome> {
        let limits = &self.identity.realm().limits;
        let rotated = session
            .rotated(self.successor, limits, self.now)
            .regaining(&grant.granted);
        let rotated = Arc::new(rotated);
        let changes = Changes {
            sessions: vec![Arc::clone(&rotated)],
            audit: vec![self.record(self.refreshed(&rotated, &grant, false))],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Rotated(self.spent(state, rotated, grant)))
    }

    fn replay(&self, state: &Snapshot, session: &Session, grant: Grant) -> Decision<Outcome> {
        if session
            .family
            .is_none_or(|family| family.current != self.successor)
        {
            // The ratchet gives another successor than before: the server key was changed.
            return failed(RefreshError::Invalid);
        }
        let given = session.regaining(&grant.granted).replayed(self.now);
        let is_changed = given != *session;
        let given = Arc::new(given);
        let changes = Changes {
            sessions: is_changed.then(|| Arc::clone(&given)).into_iter().collect(),
            audit: vec![self.record(self.refreshed(&given, &grant, true))],
            ..Changes::default()
        };
        Decision::Commit(changes, Outcome::Replayed(self.spent(state, given, grant)))
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

    fn spent(&self, state: &Snapshot, session: Arc<Session>, grant: Grant) -> Spent {
        let committed = Committed {
            session,
            token_id: self.token_id,
            scopes: grant.granted,
            policy: grant.revision,
            rev: state.head(),
            at: self.now,
        };
        Spent {
            committed,
            denied: grant.denied,
        }
    }

    fn refreshed(&self, session: &Session, grant: &Grant, is_replay: bool) -> AuditAction {
        AuditAction::Refreshed {
            session: session.id,
            token: self.token_id,
            generation: session.generation(),
            is_replay,
            scopes: grant.granted.clone(),
            denied: grant.denied_scopes(),
            decision: self.decision,
            policy: grant.revision,
        }
    }

    fn record(&self, action: AuditAction) -> AuditRecord {
        self.identity.record(self.now, self.request_id, action)
    }
}

fn failed(error: RefreshError) -> Decision<Outcome> {
    Decision::Abort(Outcome::Failed(error))
}

#[cfg(test)]
mod tests;
