//! Records as events of the Open Cybersecurity Schema Framework, version 1.3: Authentication (3002), Account Change
//! (3001) and API Activity (6003). Values without a field in the schema are in `unmapped`.

use serde_json::{Map, Value, json};
use tessera_authority::AuditLine;
use tessera_core::{AuditKind, AuditOutcome};
use tessera_store::AuditEntry;

/// The event of an action: its class and activity.
#[derive(Clone, Copy)]
struct Class {
    category: (u32, &'static str),
    class: (u32, &'static str),
    activity: (u32, &'static str),
}

const IAM: (u32, &str) = (3, "Identity & Access Management");
const APPLICATION: (u32, &str) = (6, "Application Activity");

impl Class {
    const fn authentication(activity: (u32, &'static str)) -> Self {
        Self {
            category: IAM,
            class: (3002, "Authentication"),
            activity,
        }
    }

    const fn account_change(activity: (u32, &'static str)) -> Self {
        Self {
            category: IAM,
            class: (3001, "Account Change"),
            activity,
        }
    }

    const fn api_activity(activity: (u32, &'static str)) -> Self {
        Self {
            category: APPLICATION,
            class: (6003, "API Activity"),
            activity,
        }
    }

    fn of(kind: AuditKind) -> Self {
        match kind {
            AuditKind::Issued | AuditKind::Denied | AuditKind::CredentialRefused | AuditKind::WrongClient => {
                Self::authentication((1, "Logon"))
            }
            AuditKind::Refreshed => Self::authentication((4, "Service Ticket Request")),
            AuditKind::Reused | AuditKind::Revoked => Self::authentication((2, "Logoff")),
            AuditKind::ApiKeyCreated => Self::account_change((1, "Create")),
            AuditKind::ApiKeyRolled => Self::account_change((3, "Password Change")),
            AuditKind::ClientEnabled => Self::account_change((2, "Enable")),
            AuditKind::ClientDisabled => Self::account_change((5, "Disable")),
            AuditKind::SigningKeyCreated => Self::api_activity((1, "Create")),
            AuditKind::CallRefused => Self::api_activity((99, "Other")),
            AuditKind::BackedUp => Self::api_activity((2, "Read")),
            AuditKind::SigningKeyActivated
            | AuditKind::PolicyApplied
            | AuditKind::SessionsReconciled
            | AuditKind::SubscriberEvicted
            | AuditKind::ServerKeyReplaced
            | AuditKind::Checkpoint => Self::api_activity((3, "Update")),
        }
    }
}

/// The severity: a stolen token is high, a refusal is low, the rest is informational.
fn severity(kind: AuditKind) -> (u32, &'static str) {
    match (kind, kind.outcome()) {
        (AuditKind::Reused | AuditKind::WrongClient, _) => (4, "High"),
        (_, AuditOutcome::Refused) => (2, "Low"),
        (_, AuditOutcome::Done) => (1, "Informational"),
    }
}

/// The event of a record.
pub(super) fn event(entry: &AuditEntry, line: &AuditLine) -> Value {
    let kind = entry.record.action.kind();
    let class = Class::of(kind);
    let (severity_id, severity) = severity(kind);
    let (status_id, status) = match kind.outcome() {
        AuditOutcome::Done => (1, "Success"),
        AuditOutcome::Refused => (2, "Failure"),
    };
    let mut event = json!({
        "activity_id": class.activity.0,
        "activity_name": class.activity.1,
        "category_uid": class.category.0,
        "category_name": class.category.1,
        "class_uid": class.class.0,
        "class_name": class.class.1,
        "type_uid": class.class.0 * 100 + class.activity.0,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "time": entry.record.at.as_millis(),
        "message": kind.as_str(),
        "metadata": {
            "version": "1.3.0",
            "uid": entry.position.to_string(),
            "sequence": entry.position,
            "product": { "name": "Tessera", "vendor_name": "Tessera", "version": env!("CARGO_PKG_VERSION") },
            "tenant_uid": line.realm,
        },
        "unmapped": serde_json::to_value(line).unwrap_or_default(),
    });
    if let Some(event) = event.as_object_mut() {
        people(event, line);
        api(event, class, line);
    }
    event
}

/// The actor, its address, and the subject.
fn people(event: &mut Map<String, Value>, line: &AuditLine) {
    let actor = match &line.actor {
        actor if actor.operator => json!({ "app_name": "operator" }),
        actor if actor.client.is_empty() => json!({}),
        actor => {
            json!({ "user": { "name": actor.client, "uid": actor.api_key_id, "type": "System", "type_id": 3 } })
        }
    };
    event.insert("actor".to_owned(), actor);
    if !line.actor.address.is_empty() {
        event.insert("src_endpoint".to_owned(), json!({ "ip": line.actor.address }));
    }
    let about = [&line.subject, &line.client, &line.api_key_id, &line.actor.client];
    if let Some(name) = about.into_iter().find(|name| !name.is_empty()) {
        event.insert("user".to_owned(), json!({ "name": name }));
    }
    if !line.session_id.is_empty() {
        event.insert("session".to_owned(), json!({ "uid": line.session_id }));
    }
    if !line.reason.is_empty() {
        event.insert("status_detail".to_owned(), json!(line.reason));
    }
}

/// The operation, which API Activity requires.
fn api(event: &mut Map<String, Value>, class: Class, line: &AuditLine) {
    if class.class.0 == 6003 {
        let operation = if line.call.is_empty() {
            &line.action
        } else {
            &line.call
        };
        event.insert("api".to_owned(), json!({ "operation": operation }));
    }
}
