//! An audit record as one line of JSON, for exports, sinks and the command line.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tessera_core::{AuditFacts, Scope, ScopeSet, audit::Actor};
use tessera_store::{AuditEntry, AuditLink, StoreError};

/// A record; each member is present if its action has it. The names are those of the proto.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "audit_service.proto describes each")]
pub struct AuditLine {
    pub position: u64,
    pub time: String,
    pub realm: String,
    pub action: String,
    pub outcome: String,
    pub actor: AuditLineActor,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub audience: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_scopes: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    pub is_replay: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_key_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub successor_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrowed_sessions: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub call: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub required: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_position: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checkpoint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subscriber: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_key_id: String,
    pub encoded: String,
    pub previous_link: String,
}

/// Who acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "audit_service.proto describes each")]
pub struct AuditLineActor {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_key_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(skip_serializing_if = "is_false")]
    pub operator: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl AuditLine {
    /// The line of a record.
    #[must_use]
    pub fn of(entry: &AuditEntry) -> Self {
        let record = &entry.record;
        let kind = record.action.kind();
        Self {
            position: entry.position,
            time: record.at.to_rfc3339_millis(),
            realm: record.realm.to_string(),
            action: kind.as_str().to_owned(),
            outcome: kind.outcome().as_str().to_owned(),
            actor: AuditLineActor::of(&record.actor),
            request_id: text(record.request.as_ref()),
            encoded: STANDARD.encode(&entry.encoded),
            previous_link: entry.previous.to_string(),
            ..Self::of_facts(&record.action.facts())
        }
    }

    fn of_facts(facts: &AuditFacts<'_>) -> Self {
        Self {
            session_id: text(facts.session.as_ref()),
            token_id: text(facts.token.as_ref()),
            subject: text(facts.subject),
            audience: text(facts.audience),
            roles: facts.roles.iter().map(ToString::to_string).collect(),
            scopes: scopes(facts.scopes),
            denied_scopes: scopes(facts.denied),
            decision_id: text(facts.decision.as_ref()),
            policy_revision: text(facts.policy),
            generation: facts.generation,
            is_replay: facts.is_replay,
            client: text(facts.client),
            api_key_id: text(facts.api_key),
            successor_id: text(facts.successor),
            kid: text(facts.key),
            target: text(facts.target),
            ended_sessions: facts.ended,
            narrowed_sessions: facts.narrowed,
            reason: text(facts.reason.as_ref()),
            call: text(facts.call.as_ref()),
            required: text(facts.required.as_ref()),
            times: facts.times,
            log_position: facts.log_position,
            checkpoint: text(facts.checkpoint.as_ref()),
            subscriber: text(facts.subscriber),
            server_key_id: text(facts.server_key.as_ref()),
            ..Self::default()
        }
    }

    /// The record from which a line was made.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the line is not what [`of`](Self::of) made.
    pub fn entry(&self) -> Result<AuditEntry, StoreError> {
        let damaged = |problem: &str| StoreError::Damaged {
            detail: format!("the line of record {} {problem}", self.position),
        };
        let encoded = STANDARD.decode(&self.encoded);
        let encoded = encoded.map_err(|_| damaged("has no bytes"))?;
        let previous = AuditLink::parse(&self.previous_link).ok_or_else(|| damaged("has no link"))?;
        let entry = AuditEntry::decode(self.position, previous, encoded)?;
        if Self::of(&entry) != *self {
            return Err(damaged("says other than its bytes: it was changed"));
        }
        Ok(entry)
    }
}

impl AuditLineActor {
    fn of(actor: &Actor) -> Self {
        match actor {
            Actor::Client {
                client,
                credential,
                address,
            } => Self {
                client: client.to_string(),
                api_key_id: text(credential.api_key()),
                address: text(address.as_ref()),
                operator: false,
            },
            Actor::Operator => Self {
                operator: true,
                ..Self::default()
            },
            Actor::Stranger { address } => Self {
                address: text(address.as_ref()),
                ..Self::default()
            },
        }
    }
}

fn text(value: Option<&impl ToString>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn scopes(set: Option<&ScopeSet>) -> Vec<String> {
    let scopes = set.into_iter().flat_map(ScopeSet::iter);
    scopes.map(Scope::to_string).collect()
}
