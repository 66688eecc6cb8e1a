//! The commit of an Issue: a pure function of what the store has.

use std::sync::Arc;

use tessera_core::{
    AuditAction, AuditRecord, Condition, CredentialId, DecisionId, PolicyRevision, RequestId, ScopeSet,
    Seconds, Session, SessionId, Timestamp, TokenId,
};
use tessera_store::{Changes, Decision, Reads, RequestKey, RequestRecord, Snapshot};

use crate::{issuance::tokens::Committed, principal::Identity};

/// How long a request id is remembered.
const REQUEST_TTL: Seconds = Seconds(600);

/// A session that is about to be stored.
#[derive(Clone, Debug)]
pub(crate) struct IssueCommit {
    /// The policy that granted its scopes.
    pub(crate) policy: PolicyRevision,
    /// Identifies the request that is made idempotent, and its content.
    pub(crate) idempotency: Option<(RequestKey, [u8; 32])>,
    pub(crate) session: Session,
    pub(crate) token_id: TokenId,
    pub(crate) identity: Identity,
    pub(crate) request: Option<RequestId>,
    pub(crate) denied: ScopeSet,
    pub(crate) decision: DecisionId,
    pub(crate) sessions_max: u64,
    pub(crate) now: Timestamp,
}

/// The result of the commit of an Issue.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A session was made.
    Made(Committed),
    /// The session that an earlier request with the same id made.
    Repeated(Committed),
    /// The id was used for another request.
    Mismatch,
    /// The session that the request made was refreshed since.
    Refreshed,
    /// The session that the request made has ended.
    Ended,
    /// The caller's API key was revoked, or the client disabled, since it was authenticated.
    CredentialEnded,
    /// The client has reached its limit of sessions.
    SessionsUsed,
    /// Another policy was put in force since the decision.
    PolicyChanged,
}

impl IssueCommit {
    /// What it reads first.
    pub(crate) fn reads(&self) -> Reads {
        let reads = Reads::default()
            .api_keys(self.session.credential.api_key().copied())
            .client(self.session.realm.clone(), self.session.client.clone());
        match &self.idempotency {
            Some((key, _)) => reads.request(key.clone()),
            None => reads,
        }
    }

    pub(crate) fn decide(&self, state: &Snapshot) -> Decision<Outcome> {
        if state.policy_in_force() != Some(&self.policy) {
            return Decision::Abort(Outcome::PolicyChanged);
        }
        let client = state.client(&self.session.realm, &self.session.client);
        if client.is_disabled || !self.credential_works(state) {
            // The revocation ended everything that the key began, this session included.
            return Decision::Abort(Outcome::CredentialEnded);
        }
        if let Some((_, digest)) = &self.idempotency
            && let Some(record) = state.request().filter(|record| self.now < record.expires_at)
        {
            return if record.digest == *digest {
                self.repeat(state, record.session)
            } else {
                Decision::Abort(Outcome::Mismatch)
            };
        }
        if client.sessions >= self.sessions_max {
            return Decision::Abort(Outcome::SessionsUsed);
        }
        self.begin(state)
    }

    fn credential_works(&self, state: &Snapshot) -> bool {
        match &self.session.credential {
            CredentialId::ApiKey(id) => state.api_key(id).is_some_and(|key| key.works(self.now)),
        }
    }

    fn begin(&self, state: &Snapshot) -> Decision<Outcome> {
        let session = Arc::new(Session {
            rev: state.head(),
            ..self.session.clone()
        });
        let record = self.idempotency.as_ref().map(|(key, digest)| {
            let record = RequestRecord {
                digest: *digest,
                session: session.id,
                expires_at: self.now.plus(REQUEST_TTL),
            };
            (key.clone(), record)
        });
        let scopes = &session.scopes;
        let changes = Changes {
            sessions: vec![Arc::clone(&session)],
            requests: record.into_iter().collect(),
            audit: vec![self.audit(&session, scopes)],
            ..Changes::default()
        };
        let committed = self.committed(state, &session, scopes.clone());
        Decision::Commit(changes, Outcome::Made(committed))
    }

    /// The session that the first request with this id began, with the scopes that policy grants now.
    fn repeat(&self, state: &Snapshot, id: SessionId) -> Decision<Outcome> {
        if !state.has_looked_for(id) {
            return Decision::ReadMore(Reads::default().session(id));
        }
        let earlier = state.session(id).filter(|stored| {
            stored.ended.is_none() && stored.session.condition(self.now) == Condition::Active
        });
        let Some(session) = earlier.map(|stored| &stored.session) else {
            return Decision::Abort(Outcome::Ended);
        };
        let first = 1;
        if session.generation() > first {
            // The first refresh token is spent: using it again would end the session.
            return Decision::Abort(Outcome::Refreshed);
        }
        let scopes = session.scopes.minus(&session.scopes.minus(&self.session.scopes));
        if scopes.is_empty() {
            return Decision::Abort(Outcome::Ended);
        }
        let given = session.regaining(&scopes);
        let is_changed = given != **session;
        let given = Arc::new(given);
        let changes = Changes {
            sessions: is_changed.then(|| Arc::clone(&given)).into_iter().collect(),
            audit: vec![self.audit(&given, &scopes)],
            ..Changes::default()
        };
        let committed = self.committed(state, &given, scopes);
        Decision::Commit(changes, Outcome::Repeated(committed))
    }

    /// Records the access token that is about to be signed, the session's first or a later one.
    fn audit(&self, session: &Session, scopes: &ScopeSet) -> AuditRecord {
        let action = AuditAction::Issued {
            session: session.id,
            token: self.token_id,
            subject: session.subject.clone(),
            audience: session.audience.clone(),
            roles: session.roles.clone(),
            scopes: scopes.clone(),
            denied: self.denied.clone(),
            decision: self.decision,
            policy: self.policy,
        };
        self.identity.record(self.now, self.request, action)
    }

    fn committed(&self, state: &Snapshot, session: &Arc<Session>, scopes: ScopeSet) -> Committed {
        Committed {
            token_id: self.token_id,
            scopes,
            policy: self.policy,
            rev: state.head(),
            at: self.now,
            session: Arc::clone(session),
        }
    }
}

#[cfg(test)]
mod tests;
