//! Explain: why policy decided as it did, now or in the past.

use std::sync::Arc;

use tessera_core::{
    AuditAction, AuditRecord, ClientName, DecisionId, PolicyRevision, RoleName, Scope, ScopeSet, Subject,
    audit::Actor,
};
use tessera_policy::{Explanation, LoadError, Permission, Policy, Question, Stopped, Work};
use tessera_store::AuditQuery;

use crate::{
    error::Unavailable,
    heavy::Entered,
    issuance::scopes::Bearer,
    policy::{error::ExplainError, files::from_memory, policies::Policies},
    principal::Principal,
};

/// Audit records read at once: most are skipped, by the times of many at once.
const STEP: usize = 4096;

/// The question about a subject.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A scope.
    Scope(Scope),
    /// A permission that the authority itself checks for a client.
    Permission(Permission),
}

/// A decision that was made, explained by the policy that made it.
#[derive(Clone, Debug)]
pub struct ExplainedDecision {
    /// The decision.
    pub decision: DecisionId,
    /// The audit record of the decision.
    pub record: AuditRecord,
    /// The reason for each requested scope; or why the client may not act for the subject and its roles.
    pub explanations: Vec<Explanation>,
}

impl Policies {
    /// The decision of the policy in force on scopes, without issuing anything.
    ///
    /// # Errors
    /// Refuses a caller that asks about another subject, or with roles, if policy does not permit it.
    pub async fn check_policy(
        &self,
        principal: &Principal,
        (subject, roles): Asked,
        scopes: ScopeSet,
    ) -> Result<(tessera_policy::Grant, PolicyRevision), ExplainError> {
        if subject != principal.client().to_subject() || !roles.is_empty() {
            self.shared.require(principal, &Permission::ReadPolicies)?;
        }
        let policy = self.shared.policy();
        let (revision, realm) = (*policy.revision(), principal.realm_name().clone());
        // If compiled, an answer takes less than a microsecond.
        if policy.is_compiled() {
            return Ok((policy.grant(&realm, &subject, &roles, &scopes), revision));
        }
        let entered = self.heavy.enter(principal).await?;
        let ask = move |work: &Work| policy.grant_within(&realm, &subject, &roles, &scopes, work);
        let grant = entered.run(ask).await?;
        Ok((grant.map_err(|Stopped| Unavailable::OutOfTime)?, revision))
    }

    /// Why the policy in force decides as it does.
    ///
    /// # Errors
    /// Refuses if policy does not permit it.
    pub async fn explain_policy(
        &self,
        principal: &Principal,
        (subject, roles): Asked,
        ask: Ask,
    ) -> Result<Explanation, ExplainError> {
        self.shared.require(principal, &Permission::ReadPolicies)?;
        let (policy, realm) = (self.shared.policy(), principal.realm_name().clone());
        let is_light = is_light(&policy);
        let explain = move || match &ask {
            Ask::Permission(permission) => policy.explain_permission(&realm, &subject, permission),
            Ask::Scope(scope) => policy.explain(&Question {
                realm: &realm,
                subject: &subject,
                roles: &roles,
                scope,
            }),
        };
        if is_light {
            return Ok(explain());
        }
        let entered = self.heavy.enter(principal).await?;
        Ok(entered.run(move |_| explain()).await?)
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
        self.shared.require(principal, &Permission::ReadPolicies)?;
        let record = self.find_decision(principal, decision).await?;
        let record = record.filter(|record| record.realm == *principal.realm_name());
        let record = record.ok_or(ExplainError::DecisionUnknown)?;
        let made = RecordedDecision::of(&record).ok_or(ExplainError::DecisionUnknown)?;
        let (subject, roles) = match made.subject {
            Some(subject) => subject,
            None => self.subject_of(&record).await?,
        };
        let entered = self.heavy.enter(principal).await?;
        let policy = self.policy_at(&made.policy, &entered).await?;
        let realm = record.realm.clone();
        let explain = move |work: &Work| {
            let bearer = Bearer {
                realm: &realm,
                client: &made.client,
                subject: &subject,
                roles: &roles,
            };
            bearer.explain(&policy, &made.scopes, work)
        };
        let explanations = entered.run(explain).await?;
        Ok(ExplainedDecision {
            decision,
            explanations: explanations.map_err(|Stopped| Unavailable::OutOfTime)?,
            record,
        })
    }

    /// The subject and roles of a refresh. The audit record has the session, which outlives its tokens.
    async fn subject_of(&self, record: &AuditRecord) -> Result<Asked, ExplainError> {
        let AuditAction::Refreshed { session, .. } = &record.action else {
            return Err(ExplainError::DecisionUnknown);
        };
        let stored = self.shared.store.session(*session).await?;
        let session = stored.ok_or(ExplainError::DecisionUnknown)?.session;
        Ok((session.subject.clone(), session.roles.clone()))
    }

    async fn policy_at(
        &self,
        revision: &PolicyRevision,
        entered: &Entered,
    ) -> Result<Arc<Policy>, ExplainError> {
        let in_force = self.shared.policy();
        if in_force.revision() == revision {
            return Ok(in_force);
        }
        let files = self.shared.store.policy_files(revision).await?;
        let files = files.ok_or(ExplainError::PolicyForgotten(*revision))?;
        match entered.run(move |work| from_memory(&files, work)).await? {
            Ok(policy) => Ok(Arc::new(policy)),
            Err(LoadError::Refused(_)) => Err(ExplainError::PolicyUnreadable(*revision)),
            Err(LoadError::Stopped) => Err(Unavailable::OutOfTime.into()),
        }
    }

    /// The record of a decision, which is in the millisecond of the decision's id.
    async fn find_decision(
        &self,
        principal: &Principal,
        decision: DecisionId,
    ) -> Result<Option<AuditRecord>, Unavailable> {
        let at = decision.made_at();
        let last = self.shared.store.log().audit_position();
        let mut query = AuditQuery {
            through: last,
            from: at,
            until: at,
            ..AuditQuery::after(0, STEP)
        };
        while query.after < last {
            let page = self.audit.read_audit(principal, query).await?;
            let mut records = page.entries.into_iter().map(|entry| entry.record);
            if let Some(record) = records.find(|record| record.action.facts().decision == Some(decision)) {
                return Ok(Some(record));
            }
            query.after = page.through;
        }
        Ok(None)
    }
}

/// Up to this number of rules, an explanation, which reads each rule, takes negligible time.
const LIGHT_RULES_MAX: usize = 1_000;

fn is_light(policy: &Policy) -> bool {
    policy.is_compiled() && policy.rule_count() <= LIGHT_RULES_MAX
}

/// The subject of a question or a decision, and the roles asserted for it.
pub type Asked = (Subject, Vec<RoleName>);

/// What an audit record says of a decision.
struct RecordedDecision {
    client: ClientName,
    subject: Option<Asked>,
    scopes: ScopeSet,
    policy: PolicyRevision,
}

impl RecordedDecision {
    /// `None` if policy decided nothing.
    fn of(record: &AuditRecord) -> Option<Self> {
        let Actor::Client { client, .. } = &record.actor else {
            return None;
        };
        let facts = record.action.facts();
        facts.decision?;
        let scopes = [facts.scopes, facts.denied].into_iter().flatten();
        Some(Self {
            client: client.clone(),
            subject: facts
                .subject
                .map(|subject| (subject.clone(), facts.roles.to_vec())),
            scopes: scopes.flat_map(ScopeSet::iter).cloned().collect(),
            policy: *facts.policy?,
        })
    }
}
