//! `AuditService` from the wire and back.

use prost_types::Timestamp as WireTimestamp;
use tessera_authority::{
    AuditFilter, AuditLine, AuditOrder, TailBegin, TailStart, Tailed, TrailFault, TrailReport,
};
use tessera_core::{
    ApiKeyId, AuditKind, AuditOutcome, ClientName, DecisionId, RealmName, SessionId, Subject, Timestamp,
};
use tessera_proto::v1::{self, tail_audit_records_response::Message};
use tessera_store::AuditEntry;

use super::time::{are_nanos, timestamp};
use crate::{error::ApiError, fields::Fields};

/// Each kind of record with its name on the wire.
const KINDS: [(AuditKind, v1::AuditAction); 20] = [
    (AuditKind::Issued, v1::AuditAction::Issued),
    (AuditKind::Refreshed, v1::AuditAction::Refreshed),
    (AuditKind::Reused, v1::AuditAction::RefreshTokenReused),
    (AuditKind::Revoked, v1::AuditAction::Revoked),
    (AuditKind::ApiKeyCreated, v1::AuditAction::ApiKeyCreated),
    (AuditKind::ApiKeyRolled, v1::AuditAction::ApiKeyRolled),
    (AuditKind::ClientDisabled, v1::AuditAction::ClientDisabled),
    (AuditKind::ClientEnabled, v1::AuditAction::ClientEnabled),
    (AuditKind::SigningKeyCreated, v1::AuditAction::SigningKeyCreated),
    (
        AuditKind::SigningKeyActivated,
        v1::AuditAction::SigningKeyActivated,
    ),
    (AuditKind::PolicyApplied, v1::AuditAction::PolicyApplied),
    (AuditKind::SessionsReconciled, v1::AuditAction::SessionsReconciled),
    (AuditKind::Denied, v1::AuditAction::ScopesDenied),
    (AuditKind::CallRefused, v1::AuditAction::CallRefused),
    (AuditKind::CredentialRefused, v1::AuditAction::CredentialRefused),
    (AuditKind::Checkpoint, v1::AuditAction::Checkpoint),
    (AuditKind::BackedUp, v1::AuditAction::BackedUp),
    (AuditKind::WrongClient, v1::AuditAction::WrongClient),
    (AuditKind::SubscriberEvicted, v1::AuditAction::SubscriberEvicted),
    (AuditKind::ServerKeyReplaced, v1::AuditAction::ServerKeyReplaced),
];

/// Which records are listed, in which order, and how many per page.
pub(crate) fn list_request(
    wire: &v1::ListAuditRecordsRequest,
) -> Result<(AuditFilter, AuditOrder, usize), ApiError> {
    let mut fields = Fields::default();
    let filter = filter(&mut fields, wire.filter.as_ref());
    let order = match v1::AuditOrder::try_from(wire.order) {
        Ok(v1::AuditOrder::Unspecified | v1::AuditOrder::NewestFirst) => Some(AuditOrder::NewestFirst),
        Ok(v1::AuditOrder::OldestFirst) => Some(AuditOrder::OldestFirst),
        Err(_) => {
            fields.reject("order", "is not an order");
            None
        }
    };
    let page_size = fields.page_size(wire.page_size);
    fields.finish(order.map(|order| (filter, order, page_size)))
}

/// Which records are followed.
pub(crate) fn tail_request(wire: &v1::TailAuditRecordsRequest) -> Result<TailStart, ApiError> {
    let mut fields = Fields::default();
    let has_filter = wire
        .filter
        .as_ref()
        .is_some_and(|filter| *filter != v1::AuditFilter::default());
    if wire.with_digests && has_filter {
        fields.reject(
            "with_digests",
            "is of no use with a filter: every record is needed",
        );
    }
    let filter = filter(&mut fields, wire.filter.as_ref());
    fields.finish(Some(TailStart {
        filter,
        after: wire.after_position,
        stops_at_end: wire.stop_at_end,
        with_digests: wire.with_digests,
    }))
}

pub(crate) fn tail_begin(begin: &TailBegin, realm: &RealmName, key: String) -> v1::TailAuditRecordsResponse {
    tail_message(Message::Begin(v1::AuditTailBegin {
        realm: realm.to_string(),
        after_position: begin.after,
        through_position: begin.through.unwrap_or(0),
        checkpoint_key: key,
    }))
}

pub(crate) fn tailed(tailed: Tailed) -> v1::TailAuditRecordsResponse {
    tail_message(match tailed {
        Tailed::Record(entry) => Message::Record(record(*entry)),
        Tailed::Digest(digest) => Message::Digest(v1::AuditDigest {
            position: digest.position,
            digest: digest.digest.to_vec(),
            previous_link: digest.previous.0.to_vec(),
        }),
        Tailed::Checkpoint(checkpoint) => Message::End(v1::AuditTailEnd { checkpoint }),
    })
}

fn tail_message(message: Message) -> v1::TailAuditRecordsResponse {
    v1::TailAuditRecordsResponse {
        message: Some(message),
    }
}

fn filter(fields: &mut Fields, wire: Option<&v1::AuditFilter>) -> AuditFilter {
    let Some(wire) = wire else {
        return AuditFilter::default();
    };
    let from = time(fields, "filter.since", wire.since.as_ref());
    let until = time(fields, "filter.until", wire.until.as_ref());
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        fields.reject("filter.until", "is before `since`");
    }
    AuditFilter {
        from: from.unwrap_or(Timestamp::EPOCH),
        until: until.unwrap_or(Timestamp::MAX),
        kinds: kinds(fields, &wire.actions),
        outcome: outcome(fields, wire.outcome),
        client: fields.optional("filter.client", &wire.client, ClientName::parse),
        api_key: fields.optional("filter.api_key_id", &wire.api_key_id, ApiKeyId::parse),
        subject: fields.optional("filter.subject", &wire.subject, Subject::parse),
        session: fields.optional("filter.session_id", &wire.session_id, SessionId::parse),
        decision: fields.optional("filter.decision_id", &wire.decision_id, DecisionId::parse),
    }
}

fn time(fields: &mut Fields, field: &str, wire: Option<&WireTimestamp>) -> Option<Timestamp> {
    let wire = wire?;
    let millis = wire.seconds.checked_mul(1000).filter(|_| are_nanos(wire.nanos));
    let millis = millis.and_then(|millis| millis.checked_add(i64::from(wire.nanos) / 1_000_000));
    match millis {
        Some(millis) if (0..=Timestamp::MAX.as_millis()).contains(&millis) => {
            Some(Timestamp::from_millis(millis))
        }
        _ => {
            fields.reject(field, "must be a time within the years 1970 to 9999");
            None
        }
    }
}

fn kinds(fields: &mut Fields, wire: &[i32]) -> Vec<AuditKind> {
    if wire.len() > KINDS.len() {
        fields.reject("filter.actions", "names more actions than there are");
        return Vec::new();
    }
    let mut kinds = Vec::new();
    for (index, action) in wire.iter().enumerate() {
        match KINDS.iter().find(|(_, named)| i32::from(*named) == *action) {
            Some((kind, _)) => kinds.push(*kind),
            None => fields.reject(format!("filter.actions[{index}]"), "is not an action"),
        }
    }
    kinds
}

fn outcome(fields: &mut Fields, wire: i32) -> Option<AuditOutcome> {
    match v1::AuditOutcome::try_from(wire) {
        Ok(v1::AuditOutcome::Unspecified) => None,
        Ok(v1::AuditOutcome::Done) => Some(AuditOutcome::Done),
        Ok(v1::AuditOutcome::Refused) => Some(AuditOutcome::Refused),
        Err(_) => {
            fields.reject("filter.outcome", "is not an outcome");
            None
        }
    }
}

/// The line holds the content of a record; the wire adds its times and kinds as types.
pub(crate) fn record(entry: AuditEntry) -> v1::AuditRecord {
    let line = AuditLine::of(&entry);
    let kind = entry.record.action.kind();
    let action = KINDS.iter().find(|(known, _)| *known == kind);
    let outcome = match kind.outcome() {
        AuditOutcome::Done => v1::AuditOutcome::Done,
        AuditOutcome::Refused => v1::AuditOutcome::Refused,
    };
    v1::AuditRecord {
        position: entry.position,
        time: Some(timestamp(entry.record.at)),
        realm: line.realm,
        actor: Some(v1::AuditActor {
            client: line.actor.client,
            api_key_id: line.actor.api_key_id,
            address: line.actor.address,
            operator: line.actor.operator,
        }),
        action: action
            .map_or(v1::AuditAction::Unspecified, |(_, action)| *action)
            .into(),
        outcome: outcome.into(),
        request_id: line.request_id,
        session_id: line.session_id,
        token_id: line.token_id,
        subject: line.subject,
        audience: line.audience,
        roles: line.roles,
        scopes: line.scopes,
        denied_scopes: line.denied_scopes,
        decision_id: line.decision_id,
        policy_revision: line.policy_revision,
        generation: line.generation.unwrap_or(0),
        is_replay: line.is_replay,
        client: line.client,
        api_key_id: line.api_key_id,
        successor_id: line.successor_id,
        kid: line.kid,
        target: line.target,
        ended_sessions: line.ended_sessions.unwrap_or(0),
        narrowed_sessions: line.narrowed_sessions.unwrap_or(0),
        reason: line.reason,
        call: line.call,
        required: line.required,
        times: line.times.unwrap_or(0),
        log_position: line.log_position.unwrap_or(0),
        checkpoint: line.checkpoint,
        subscriber: line.subscriber,
        server_key_id: line.server_key_id,
        encoded: entry.encoded,
        previous_link: entry.previous.0.to_vec(),
    }
}

/// How far a check is.
pub(crate) fn progress(report: &TrailReport, end: u64) -> v1::VerifyAuditResponse {
    v1::VerifyAuditResponse {
        records: report.records,
        first_position: report.first,
        last_position: report.last,
        end_position: end,
        first_time: report.first_at.map(timestamp),
        last_time: report.last_at.map(timestamp),
        signed_checkpoints: report.signed,
        unknown_checkpoints: report.unknown,
        signed_through: report.signed_through,
        ..v1::VerifyAuditResponse::default()
    }
}

/// The result of a check.
pub(crate) fn verified(result: Result<TrailReport, TrailFault>, key: String) -> v1::VerifyAuditResponse {
    let response = match result {
        Ok(report) => progress(&report, report.last),
        Err(fault) => v1::VerifyAuditResponse {
            fault: fault.to_string(),
            ..v1::VerifyAuditResponse::default()
        },
    };
    v1::VerifyAuditResponse {
        is_done: true,
        checkpoint_key: key,
        ..response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_action_and_every_action_a_kind() {
        for kind in AuditKind::ALL {
            let action = KINDS.iter().find(|(known, _)| *known == kind).unwrap().1;
            let name = action.as_str_name().strip_prefix("AUDIT_ACTION_").unwrap();
            assert_eq!(name.to_lowercase(), kind.as_str());
        }
        assert!(v1::AuditAction::try_from(KINDS.len() as i32 + 1).is_err());
    }
}
