//! Denials by policy: recorded, so that they can be explained later by their decision id.

use tessera_core::{AuditAction, DecisionId, PolicyRevision, RequestId, Scope, ScopeSet, SessionId};
use tessera_store::Changes;

use crate::{
    error::Unavailable,
    issuance::{issuer::Issuance, scopes::Bearer},
    principal::Identity,
};

/// Policy grants nothing, or not everything that was required.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) asked: ScopeSet,
    pub(crate) denied: Vec<(Scope, String)>,
    /// Whether some scopes were granted.
    pub(crate) partly: bool,
    pub(crate) policy: PolicyRevision,
}

impl Issuance {
    /// Writes a denial to the audit trail and the log. `session` is the session that was to be refreshed.
    pub(crate) async fn record_denial(
        &self,
        identity: &Identity,
        request: Option<RequestId>,
        bearer: &Bearer<'_>,
        denial: &Denial,
        session: Option<SessionId>,
        decision: DecisionId,
    ) -> Result<(), Unavailable> {
        // The refused caller chooses how often it calls: the log of calls has a line with the same decision, sampled.
        tracing::debug!(
            %decision,
            policy = %denial.policy,
            realm = %bearer.realm,
            client = %bearer.client,
            subject = %bearer.subject,
            denied = denial.denied.len(),
            "policy denied scopes"
        );
        let action = AuditAction::Denied {
            subject: bearer.subject.clone(),
            roles: bearer.roles.to_vec(),
            scopes: denial.asked.clone(),
            session,
            decision,
            policy: denial.policy,
        };
        let changes = Changes {
            // The record of a decision is found by the time in its decision id.
            audit: vec![identity.record(decision.made_at(), request, action)],
            ..Changes::default()
        };
        self.shared.store.write(changes).await?;
        Ok(())
    }
}
