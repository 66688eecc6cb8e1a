//! Explain: why policy decided as it did, now or then.

use std::sync::Arc;

use tessera_core::{
    AuditAction, AuditRecord, ClientName, DecisionId, PolicyRevision, RoleName, Scope, ScopeSet, Subject,
    audit::Actor,
};
use tessera_policy::{Explanation, Permission, Policy, Question};

use crate::{
    Authority, Principal,
    error::{CallNotAllowed, ExplainError, Unavailable},
    grant::Bearer,
    plan::from_memory,
    reload::load,
};

/// Audit records read at once.
const STEP: usize = 256;

/// What is asked about a subject.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A scope.
    Scope(Scope),
    /// What the authority itself does for a client.
    Permission(Permission),
}

/// A decision that was made, explained by the policy that made it.
#[derive(Clone, Debug)]
pub struct ExplainedDecision {
    /// The decision.
    pub decision: DecisionId,
    /// What the audit trail has of it.
    pub record: AuditRecord,
    /// Why, for each scope that was asked for; or why the client may not speak for the subject and its roles.
    pub explanations: Vec<Explanation>,
}

impl Authority {
    /// What the policy in force says about scopes, without issuing anything.
    ///
    /// # Errors
    /// Refuses a caller that asks about another subject, or with roles, where policy does not permit.
    pub fn check_policy(
        &self,
        principal: &Principal,
        subject: &Subject,
        roles: &[RoleName],
        scopes: &ScopeSet,
    ) -> Result<(tessera_policy::Grant, PolicyRevision), CallNotAllowed> {
        if *subject != principal.client().to_subject() || !roles.is_empty() {
            self.require(principal, &Permission::ReadPolicies)?;
        }
        let policy = self.policy();
        let grant = policy.grant(principal.realm_name(), subject, roles, scopes);
        Ok((grant, policy.revision().clone()))
    }

    /// Why the policy in force says what it says.
    ///
    /// # Errors
    /// Refuses where policy does not permit.
    pub fn explain_policy(
        &self,
        principal: &Principal,
        subject: &Subject,
        roles: &[RoleName],
        ask: &Ask,
    ) -> Result<Explanation, CallNotAllowed> {
        self.require(principal, &Permission::ReadPolicies)?;
        let policy = self.policy();
        let realm = principal.realm_name();
        Ok(match ask {
            Ask::Permission(permission) => policy.explain_permission(realm, subject, permission),
            Ask::Scope(scope) => policy.explain(&Question {
                realm,
                subject,
                roles,
                scope,
            }),
        })
    }

    /// Why a decision was made as it was, by the policy that made it.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub async fn explain_decision(
        &self,
        principal: &Principal,
        decision: DecisionId,
    ) -> Result<ExplainedDecision, ExplainError> {
        self.require(principal, &Permission::ReadPolicies)?;
        let record = self.find_decision(decision).await?;
        let record = record.filter(|record| record.realm == *principal.realm_name());
        let record = record.ok_or(ExplainError::DecisionUnknown)?;
        let made = Made::of(&record).ok_or(ExplainError::DecisionUnknown)?;
        let (subject, roles) = match made.subject {
            Some(subject) => subject,
            None => self.subject_of(&record).await?,
        };
        let policy = self.policy_at(&made.policy).await?;
        let bearer = Bearer {
            realm: &record.realm,
            client: &made.client,
            subject: &subject,
            roles: &roles,
        };
        Ok(ExplainedDecision {
            decision,
            explanations: bearer.explain(&policy, &made.scopes),
            record,
        })
    }

    /// Whom a refresh was for. The audit record has the family, which outlives its tokens.
    async fn subject_of(&self, record: &AuditRecord) -> Result<Asked, ExplainError> {
        let AuditAction::Refreshed { family, .. } = &record.action else {
            return Err(ExplainError::DecisionUnknown);
        };
        let family = self.store.family(*family).await?;
        let family = family.ok_or(ExplainError::DecisionUnknown)?;
        Ok((family.subject, family.roles))
    }

    async fn policy_at(&self, revision: &PolicyRevision) -> Result<Arc<Policy>, ExplainError> {
        let in_force = self.policy();
        if in_force.revision() == revision {
            return Ok(in_force);
        }
        let files = self.store.policy(revision).await?;
        let files = files.ok_or_else(|| ExplainError::PolicyForgotten(revision.clone()))?;
        let policy = load(move || from_memory(&files)).await;
        policy.map_err(|_| ExplainError::PolicyUnreadable(revision.clone()))
    }

    /// The record of a decision. Records are in the order of their time, as ids are, but for clocks that
    /// were set back; then it is not found where it should be, and all are looked at.
    async fn find_decision(&self, decision: DecisionId) -> Result<Option<AuditRecord>, Unavailable> {
        let mut before = self.last_before(decision).await?;
        let mut has_started_over = before == 0;
        loop {
            let records = self.store.audit_after(before, STEP).await?;
            let found = records.iter().find(|(_, record)| made(record) == Some(decision));
            if let Some((_, record)) = found {
                return Ok(Some(record.clone()));
            }
            match records.last() {
                Some((last, _)) => before = *last,
                None if has_started_over => return Ok(None),
                None => {
                    before = 0;
                    has_started_over = true;
                }
            }
        }
    }

    /// A position before the first record of the decision's millisecond, by halving.
    async fn last_before(&self, decision: DecisionId) -> Result<u64, Unavailable> {
        let at = decision.made_at();
        let (mut low, mut high) = (0, u64::MAX / 2);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let next = self.store.audit_after(middle, 1).await?;
            match next.first() {
                Some((position, record)) if record.at < at => low = *position,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whom a decision was about: the subject, and the roles asserted for it.
type Asked = (Subject, Vec<RoleName>);

/// What an audit record has of a decision.
struct Made {
    client: ClientName,
    subject: Option<Asked>,
    scopes: ScopeSet,
    policy: PolicyRevision,
}

impl Made {
    fn of(record: &AuditRecord) -> Option<Self> {
        let all =
            |granted: &ScopeSet, denied: &ScopeSet| granted.iter().chain(denied.iter()).cloned().collect();
        let Actor::Client { client, .. } = &record.actor else {
            return None;
        };
        let client = client.clone();
        match &record.action {
            AuditAction::Issued {
                subject,
                roles,
                scopes,
                denied,
                policy,
                ..
            } => Some(Self {
                client,
                subject: Some((subject.clone(), roles.clone())),
                scopes: all(scopes, denied),
                policy: policy.clone(),
            }),
            AuditAction::Refreshed {
                scopes,
                denied,
                policy,
                ..
            } => Some(Self {
                client,
                subject: None,
                scopes: all(scopes, denied),
                policy: policy.clone(),
            }),
            AuditAction::Denied {
                subject,
                roles,
                scopes,
                policy,
                ..
            } => Some(Self {
                client,
                subject: Some((subject.clone(), roles.clone())),
                scopes: scopes.clone(),
                policy: policy.clone(),
            }),
            _ => None,
        }
    }
}

/// The decision that a record is of.
fn made(record: &AuditRecord) -> Option<DecisionId> {
    match &record.action {
        AuditAction::Issued { decision, .. }
        | AuditAction::Refreshed { decision, .. }
        | AuditAction::Denied { decision, .. } => Some(*decision),
        _ => None,
    }
}
