//! Explanations in one form, from a directory or from an authority.

use serde_json::{Value, json};
use tessera_policy::{Explanation, Given, Miss, RoleStep, RouteChanges, RuleAt, Verdict};
use tessera_proto::v1;

use super::{routes, rule::wire_rule_json};
use crate::json;

/// An explanation in the form of the wire.
pub(super) fn explanation(explained: Explanation) -> v1::Explanation {
    let (allowed, reason) = match explained.verdict {
        Verdict::Allowed => (true, String::new()),
        Verdict::Denied { reason } => (false, reason),
    };
    let left_out = match explained.roles_left_out {
        0 => None,
        count => Some(format!("{count} more roles are left out")),
    };
    v1::Explanation {
        allowed,
        reason,
        policy_revision: explained.revision.to_string(),
        realm: explained.realm.to_string(),
        subject: explained.subject.to_string(),
        asserted: explained.asserted.iter().map(ToString::to_string).collect(),
        scope: explained.scope,
        rule: explained.rule.map(rule),
        path: explained.path.into_iter().map(role_step).collect(),
        roles: explained.roles.into_iter().map(role_path).collect(),
        misses: explained.misses.into_iter().map(miss).collect(),
        note: explained
            .note
            .into_iter()
            .chain(left_out)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn rule(rule: RuleAt) -> v1::Rule {
    v1::Rule {
        file: rule.file,
        line: rule.line,
        text: rule.text,
    }
}

fn role_path(steps: Vec<RoleStep>) -> v1::RolePath {
    v1::RolePath {
        steps: steps.into_iter().map(role_step).collect(),
    }
}

fn role_step(step: RoleStep) -> v1::RoleStep {
    v1::RoleStep {
        role: step.role.to_string(),
        rule: match step.given {
            Given::Asserted => None,
            Given::Rule(given) => Some(rule(given)),
        },
    }
}

fn miss(miss: Miss) -> v1::Miss {
    v1::Miss {
        reason: miss.reason.to_string(),
        rule: Some(rule(miss.rule)),
        remedy: miss.remedy.unwrap_or_default(),
    }
}

// === JSON ===

pub(super) fn explain_response(response: &v1::ExplainResponse) -> Value {
    json!({
        "explanations": response.explanations.iter().map(explanation_json).collect::<Value>(),
        "decide_time": json::time(response.decide_time.as_ref()),
    })
}

fn explanation_json(explained: &v1::Explanation) -> Value {
    let steps = |steps: &[v1::RoleStep]| -> Value { steps.iter().map(step_json).collect() };
    json!({
        "allowed": explained.allowed,
        "reason": explained.reason,
        "policy_revision": explained.policy_revision,
        "realm": explained.realm,
        "subject": explained.subject,
        "asserted": explained.asserted,
        "scope": explained.scope,
        "rule": explained.rule.as_ref().map(wire_rule_json),
        "path": steps(&explained.path),
        "roles": explained.roles.iter().map(|path| json!({ "steps": steps(&path.steps) })).collect::<Value>(),
        "misses": explained.misses.iter().map(miss_json).collect::<Value>(),
        "note": explained.note,
    })
}

fn step_json(step: &v1::RoleStep) -> Value {
    json!({ "role": step.role, "rule": step.rule.as_ref().map(wire_rule_json) })
}

fn miss_json(miss: &v1::Miss) -> Value {
    json!({
        "rule": miss.rule.as_ref().map(wire_rule_json),
        "reason": miss.reason,
        "remedy": miss.remedy,
    })
}

/// Routes have the same form as in `diff`.
pub(super) fn plan_response(response: &v1::PlanResponse, routes: &RouteChanges) -> Value {
    let mut answer = json!({
        "plan": response.plan,
        "current_revision": response.current_revision,
        "new_revision": response.new_revision,
        "changes": response.changes.iter().map(change_json).collect::<Value>(),
        "changes_total": response.changes_total,
        "sessions": response.sessions.as_ref().map(effect),
    });
    routes::add_to(&mut answer, routes);
    answer
}

fn change_json(change: &v1::PolicyChange) -> Value {
    json!({
        "holder": change.holder,
        "scope": change.scope,
        "kind": json::enum_name(change.kind().as_str_name(), "CHANGE_KIND_"),
        "rule": change.rule.as_ref().map(wire_rule_json),
    })
}

pub(super) fn effect(effect: &v1::SessionImpact) -> Value {
    json!({ "live": effect.live, "narrowed": effect.narrowed, "ended": effect.ended })
}
