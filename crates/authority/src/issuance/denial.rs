//! Denials by policy: recorded, so that they can be explained later by their decision id.

use tessera_core::{
    AuditAction, AuditRecord, DecisionId, PolicyRevision, RequestId, Scope, ScopeSet, SessionId,
};

use crate::{issuance::scopes::Bearer, principal::Identity};

/// Policy grants nothing, or not everything that was required.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) asked: ScopeSet,
    pub(crate) denied: Vec<(Scope, String)>,
    /// Whether some scopes were granted.
    pub(crate) partly: bool,
    pub(crate) policy: PolicyRevision,
}

impl Denial {
    /// Its audit record. `session` is the session that was to be refreshed.
    pub(crate) fn record(
        &self,
        identity: &Identity,
        request: Option<RequestId>,
        bearer: &Bearer<'_>,
        session: Option<SessionId>,
        decision: DecisionId,
    ) -> AuditRecord {
        let action = AuditAction::Denied {
            subject: bearer.subject.clone(),
            roles: bearer.roles.to_vec(),
            scopes: self.asked.clone(),
            session,
            decision,
            policy: self.policy,
        };
        // The record of a decision is found by the time in its decision id.
        identity.record(decision.made_at(), request, action)
    }

    /// Logs it. The refused caller chooses how often it calls: the log of calls has a line with the same decision,
    /// sampled.
    pub(crate) fn log(&self, decision: DecisionId) {
        tracing::debug!(
            %decision,
            policy = %self.policy,
            denied = self.denied.len(),
            "policy denied scopes"
        );
    }
}
