//! `/status`: what an operator needs first, as one document.

use std::time::Duration;

use serde_json::{Value, json};
use tessera_authority::{AttemptOutcome, Authority, ListedSubscriber, PublishedKey};
use tessera_core::{KeyStatus, RealmName, Timestamp};

use tokio::time::timeout;

use super::attention::{self, why_not_ready};
use crate::listen::Tls;

/// How long counting sessions may take.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(1);

/// The document. It contains names, ids, counts and times, and nothing secret.
pub(super) async fn document(authority: &Authority, tls: Option<&Tls>) -> Value {
    let mut realms = Vec::new();
    let mut counts = session_counts(authority).await.into_iter();
    for realm in authority.realms().keys() {
        realms.push(json!({
            "name": realm.as_str(),
            // `None` if the store can't be read.
            "sessions": counts.next().flatten(),
            "signing_keys": signing_keys(authority, realm),
            "api_keys_ending": api_keys_ending(authority, realm),
        }));
    }
    let found = attention::all(authority, tls).into_iter();
    let found = found.map(|item| json!({ "code": item.code, "message": item.message, "todo": item.todo }));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": authority.now().to_rfc3339(),
        "ready": authority.is_ready(),
        "why_not_ready": why_not_ready(authority),
        "log_sequence": authority.position().sequence.0,
        "policy": policy(authority),
        "realms": realms,
        "node": authority.other_nodes().node_name(),
        "verifiers": verifiers(authority),
        "other_nodes": other_nodes(authority),
        "backup": backup(authority),
        "audit_sinks": sinks(authority),
        "server_key": server_key(authority),
        "certificate": tls.map(certificate),
        "clock": clock(authority),
        "store": store(authority),
        "attention": found.collect::<Vec<_>>(),
    })
}

/// How many sessions each realm has, in the order of the realms; fewer if the store does not answer: the caller needs a
/// quick answer then.
async fn session_counts(authority: &Authority) -> Vec<Option<u64>> {
    let mut counts = Vec::new();
    let counting = async {
        for realm in authority.realms().keys() {
            counts.push(authority.sessions().session_count(realm).await.ok());
        }
    };
    drop(timeout(COUNTING_TIME_MAX, counting).await);
    counts
}

fn policy(authority: &Authority) -> Value {
    let status = authority.policies().policy_status();
    let is_refused = matches!(status.last_attempt.outcome, AttemptOutcome::Refused { .. });
    json!({
        "revision": status.policy.to_string(),
        "since": status.since.to_rfc3339(),
        "rules": status.rules,
        "last_change_refused": is_refused,
        "reconciled": status.is_reconciled,
        "compiled": status.is_compiled,
    })
}

fn signing_keys(authority: &Authority, realm: &RealmName) -> Vec<Value> {
    let rotation = authority.signing_keys().key_rotation();
    let rotates_at = |key: &PublishedKey| {
        let every = rotation.every.filter(|_| key.status == KeyStatus::Active)?;
        Some(key.not_before.plus(every).to_rfc3339())
    };
    let keys = authority.signing_keys().published_keys(Some(realm));
    let keys = keys.iter().map(|key| {
        json!({
            "id": key.id.to_string(),
            "status": status_name(key.status),
            "not_before": key.not_before.to_rfc3339(),
            "not_after": key.not_after.map(Timestamp::to_rfc3339),
            "rotates_at": rotates_at(key),
        })
    });
    keys.collect()
}

fn status_name(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Published => "published",
        KeyStatus::Active => "active",
        KeyStatus::Retired => "retired",
        KeyStatus::Revoked => "revoked",
    }
}

/// How many keys end, by the time within which they end.
fn api_keys_ending(authority: &Authority, realm: &RealmName) -> Value {
    let counts = authority.credentials().ending_api_keys();
    let of_realm = counts.iter().filter(|count| count.realm == *realm);
    of_realm
        .map(|count| (count.within.to_string(), count.keys.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The verifiers of all nodes; only those of this node if the others are not known now.
fn verifiers(authority: &Authority) -> Vec<Value> {
    let committed = authority.position().sequence.0;
    let listed = authority.fence().required_subscribers_of_all_nodes();
    let verifiers = listed.into_iter().map(|ListedSubscriber { node, state }| {
        json!({
            "realm": state.key.realm.as_str(),
            "client": state.key.client.as_str(),
            "name": state.key.name.to_string(),
            "node": node,
            "events_behind": committed.saturating_sub(state.acknowledged.0),
            "acknowledged_seconds_ago": state.acknowledged_before.as_secs_f64(),
            "silent_for_seconds": state.silent_for.as_secs_f64(),
            "staleness_bound_seconds": state.bound.as_secs_f64(),
            "connected": state.is_open,
            "failed_closed": state.has_failed_closed(),
        })
    });
    verifiers.collect()
}

/// The nodes that share the store; null if it can't be read.
fn other_nodes(authority: &Authority) -> Option<Vec<Value>> {
    let committed = authority.position().sequence.0;
    let nodes = authority.other_nodes().lately()?;
    let nodes = nodes.iter().map(|node| {
        json!({
            "name": node.name,
            "seen_seconds_ago": node.seen_before.as_secs_f64(),
            "events_behind": committed.saturating_sub(node.applied.0),
            "answers": node.answers(),
            "ended": node.report.has_ended,
            "verifiers": node.report.subscribers.iter().filter(|state| state.is_open).count(),
        })
    });
    Some(nodes.collect())
}

fn backup(authority: &Authority) -> Value {
    let state = authority.backups().backup_state();
    json!({
        "last_at": state.last.map(|last| last.at.to_rfc3339()),
        "last_sequence": state.last.map(|last| last.position.0),
        "running": state.is_running,
        "failed": state.failed,
    })
}

fn sinks(authority: &Authority) -> Vec<Value> {
    let head = authority.audit_sinks().head().borrow().position;
    let sinks = authority.audit_sinks().states().into_iter().map(|sink| {
        json!({
            // `None` if this node delivers.
            "delivered_by": authority.audit().delivered_by(&sink.name),
            "name": sink.name,
            "lag_records": head.saturating_sub(sink.position),
            "failing_since": sink.failing_since.map(Timestamp::to_rfc3339),
            "rejected_records": sink.rejected,
        })
    });
    sinks.collect()
}

fn server_key(authority: &Authority) -> Value {
    let status = authority.signing_keys().server_key_status();
    json!({
        "id": status.current,
        "previous": status.previous.len(),
        "last_change_refused": status.is_last_change_refused,
    })
}

fn certificate(tls: &Tls) -> Value {
    json!({
        "expires_at": tls.expires_at().map(Timestamp::to_rfc3339),
        "last_change_refused": tls.is_last_change_refused(),
    })
}

fn clock(authority: &Authority) -> Value {
    let state = authority.timekeeping().clock_state();
    json!({
        "stepped": state.is_stepped,
        "offset_millis": state.offset_millis,
    })
}

fn store(authority: &Authority) -> Value {
    json!({
        "takes_writes": authority.takes_writes(),
        "commit_waiting_seconds": authority.commit_waiting().as_secs_f64(),
        "waiting_units": authority.waiting_units(),
    })
}
