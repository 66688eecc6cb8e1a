//! Which audit records a caller requests.

use tessera_core::{
    ApiKeyId, AuditKind, AuditOutcome, AuditRecord, ClientName, DecisionId, RealmName, SessionId, Subject,
    Timestamp, audit::Actor,
};
use tessera_store::AuditQuery;

/// The search conditions: each condition that is set must hold.
#[derive(Clone, Debug)]
pub struct AuditFilter {
    /// Not earlier than this,
    pub from: Timestamp,
    /// and not later.
    pub until: Timestamp,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<AuditKind>,
    /// With this outcome.
    pub outcome: Option<AuditOutcome>,
    /// This client acted, or was the target.
    pub client: Option<ClientName>,
    /// This API key was used, or was the target.
    pub api_key: Option<ApiKeyId>,
    /// About this subject.
    pub subject: Option<Subject>,
    /// About this session.
    pub session: Option<SessionId>,
    /// Of this decision.
    pub decision: Option<DecisionId>,
}

impl Default for AuditFilter {
    /// All records.
    fn default() -> Self {
        Self {
            from: Timestamp::EPOCH,
            until: Timestamp::MAX,
            kinds: Vec::new(),
            outcome: None,
            client: None,
            api_key: None,
            subject: None,
            session: None,
            decision: None,
        }
    }
}

impl AuditFilter {
    /// The part of the trail after `position` that can contain matching records. The record of a decision is in the
    /// decision's millisecond.
    pub(crate) fn query(&self, position: u64, limit: usize) -> AuditQuery {
        let made_at = self.decision.map(|decision| decision.made_at());
        AuditQuery {
            from: made_at.map_or(self.from, |at| at.max(self.from)),
            until: made_at.map_or(self.until, |at| at.min(self.until)),
            ..AuditQuery::after(position, limit)
        }
    }

    /// Whether a record of `realm` matches. Its time was compared before.
    pub(crate) fn takes(&self, realm: &RealmName, record: &AuditRecord) -> bool {
        let kind = record.action.kind();
        let facts = record.action.facts();
        let acted_with = |key: &ApiKeyId| match &record.actor {
            Actor::Client { credential, .. } => credential.api_key() == Some(key),
            Actor::Operator | Actor::Stranger { .. } => false,
        };
        record.realm == *realm
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.outcome.is_none_or(|outcome| kind.outcome() == outcome)
            && self.client.as_ref().is_none_or(|client| record.concerns(client))
            && self.api_key.as_ref().is_none_or(|key| {
                acted_with(key) || facts.api_key == Some(key) || facts.successor == Some(key)
            })
            && (self.subject.is_none() || facts.subject == self.subject.as_ref())
            && (self.session.is_none() || facts.session == self.session)
            && (self.decision.is_none() || facts.decision == self.decision)
    }
}
