//! `PolicyService` from the wire and back.

use tessera_authority::{
    Applied, Ask, AttemptOutcome, ExplainedDecision, Plan, PlanId, PolicyStatus, Principal, SessionImpact,
};
use tessera_core::{
    Cursor, DecisionId, NameError, PolicyRevision, RoleName, Scope, ScopeSet, Subject,
    limits::{ROLES_MAX, SCOPES_MAX},
};
use tessera_policy::{
    Change, ChangeKind, Demand, Diagnostic, Explanation, Given, Grant, Miss, Permission, RoleStep,
    RouteChange, RuleAt, Verdict,
};
use tessera_proto::{Message, v1};

use super::{scope::denied_scopes, time::timestamp};
use crate::{error::ApiError, fields::Fields};

const DIAGNOSTICS_MAX: usize = 100;
const CHANGES_MAX: usize = 1000;
/// Clients accept answers of 4 MiB. Two lists of this size, and the rest of a plan, are smaller.
const CHANGES_BYTES_MAX: usize = 1024 * 1024;

/// A question about a subject.
pub(crate) struct About {
    pub(crate) subject: Subject,
    pub(crate) roles: Vec<RoleName>,
}

/// The subject of an explanation.
pub(crate) enum ExplainAbout {
    Question(About, Ask),
    Decision(DecisionId),
}

// === requests ===

pub(crate) fn check_request(
    wire: &v1::CheckRequest,
    principal: &Principal,
) -> Result<(About, ScopeSet), ApiError> {
    let mut fields = Fields::default();
    let about = about(&mut fields, "", &wire.subject, &wire.roles, principal);
    let scopes: ScopeSet = fields
        .list("scopes", &wire.scopes, SCOPES_MAX, Scope::parse)
        .into_iter()
        .collect();
    if wire.scopes.is_empty() {
        fields.reject("scopes", "is empty");
    }
    fields.finish(about.map(|about| (about, scopes)))
}

pub(crate) fn explain_request(
    wire: v1::ExplainRequest,
    principal: &Principal,
) -> Result<ExplainAbout, ApiError> {
    use v1::explain_request::About as Wire;
    let mut fields = Fields::default();
    let about = match wire.about {
        None => {
            fields.reject("about", "must be `question` or `decision_id`");
            None
        }
        Some(Wire::DecisionId(id)) => fields
            .required("decision_id", &id, DecisionId::parse)
            .map(ExplainAbout::Decision),
        Some(Wire::Question(question)) => {
            let about = about(
                &mut fields,
                "question.",
                &question.subject,
                &question.roles,
                principal,
            );
            let ask = fields.required("question.scope", &question.scope, ask);
            about
                .zip(ask)
                .map(|(about, ask)| ExplainAbout::Question(about, ask))
        }
    };
    fields.finish(about)
}

/// A plan; `None`: the text is not one of our plan ids.
pub(crate) fn plan_id(text: &str) -> Result<PlanId, ApiError> {
    let mut fields = Fields::default();
    let plan = PlanId::parse(text).ok();
    if plan.is_none() {
        fields.reject("plan", "is not a plan of this authority: take it from Plan");
    }
    fields.finish(plan)
}

/// The files of a policy; `None`: those of the directory.
pub(crate) fn policy_files(wire: v1::PlanRequest) -> Option<Vec<(String, Vec<u8>)>> {
    let files: Vec<_> = wire
        .files
        .into_iter()
        .map(|file| (file.name, file.content))
        .collect();
    (!files.is_empty()).then_some(files)
}

fn about(
    fields: &mut Fields,
    prefix: &str,
    subject: &str,
    roles: &[String],
    principal: &Principal,
) -> Option<About> {
    let roles = fields.list(&format!("{prefix}roles"), roles, ROLES_MAX, RoleName::parse);
    let subject = if subject.is_empty() {
        Some(principal.client().to_subject())
    } else {
        fields.required(&format!("{prefix}subject"), subject, Subject::parse)
    };
    subject.map(|subject| About { subject, roles })
}

/// One of the authority's own permissions, or a scope.
fn ask(text: &str) -> Result<Ask, NameError> {
    match Permission::parse(text) {
        Some(permission) => Ok(Ask::Permission(permission)),
        None => Scope::parse(text).map(Ask::Scope),
    }
}

// === answers ===

pub(crate) fn check_response((grant, policy): (Grant, PolicyRevision)) -> v1::CheckResponse {
    v1::CheckResponse {
        granted: grant.granted.iter().map(ToString::to_string).collect(),
        denied: denied_scopes(grant.denied),
        policy_revision: policy.to_string(),
    }
}

pub(crate) fn explained_decision(explained: ExplainedDecision) -> v1::ExplainResponse {
    v1::ExplainResponse {
        decide_time: Some(timestamp(explained.decision.made_at())),
        explanations: explained.explanations.into_iter().map(explanation).collect(),
    }
}

pub(crate) fn explained_question(explained: Explanation) -> v1::ExplainResponse {
    v1::ExplainResponse {
        explanations: vec![explanation(explained)],
        decide_time: None,
    }
}

fn explanation(explained: Explanation) -> v1::Explanation {
    let (allowed, reason) = match explained.verdict {
        Verdict::Allowed => (true, String::new()),
        Verdict::Denied { reason } => (false, reason),
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
        roles: explained
            .roles
            .into_iter()
            .map(|steps| v1::RolePath {
                steps: steps.into_iter().map(role_step).collect(),
            })
            .collect(),
        misses: explained.misses.into_iter().map(miss).collect(),
        note: explained.note.unwrap_or_default(),
    }
}

fn rule(rule: RuleAt) -> v1::Rule {
    v1::Rule {
        file: rule.file,
        line: rule.line,
        text: rule.text,
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

pub(crate) fn plan_response(plan: &Plan, principal: &Principal) -> v1::PlanResponse {
    let ours = |change: &&Change| change.realm == *principal.realm_name();
    let (gains, losses) = (plan.diff.gains().filter(ours), plan.diff.losses().filter(ours));
    let changes: Vec<_> = gains.chain(losses).collect();
    let changes_total = count(changes.len() + plan.diff.left_out());
    let routes = &plan.diff.routes;
    v1::PlanResponse {
        plan: plan.id.to_string(),
        current_revision: plan.id.from.to_string(),
        new_revision: plan.id.to.to_string(),
        changes: bounded(changes.into_iter().map(policy_change)),
        changes_total,
        sessions: Some(effect(
            plan.impact
                .get(principal.realm_name())
                .copied()
                .unwrap_or_default(),
        )),
        routes: bounded(routes.changes.iter().map(route_change)),
        routes_total: count(routes.total),
        routes_gained: count(routes.gained),
        routes_lost: count(routes.lost),
    }
}

/// The first of many messages, so that an answer with them is not too large.
fn bounded<M: Message>(messages: impl Iterator<Item = M>) -> Vec<M> {
    let mut left = CHANGES_BYTES_MAX;
    let fits = |message: &M| match left.checked_sub(message.encoded_len()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    messages.take(CHANGES_MAX).take_while(fits).collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn policy_change(change: &Change) -> v1::PolicyChange {
    v1::PolicyChange {
        holder: change.holder.clone(),
        scope: change.scope.clone(),
        kind: match change.kind {
            ChangeKind::Gained => v1::ChangeKind::Gained,
            ChangeKind::Lost => v1::ChangeKind::Lost,
        }
        .into(),
        rule: change.rule.clone().map(rule),
    }
}

fn route_change(change: &RouteChange) -> v1::RouteChange {
    v1::RouteChange {
        host: change.host.clone().unwrap_or_default(),
        methods: change.methods.clone(),
        path: change.path.clone(),
        before: Some(route_demand(&change.before)),
        after: Some(route_demand(&change.after)),
        old_route: change.old.clone().map(rule),
        new_route: change.new.clone().map(rule),
        gain: change.is_gain(),
        loss: change.loses,
        gone: change.is_gone,
    }
}

fn route_demand(demand: &Demand) -> v1::RouteDemand {
    let needs = |needs: v1::RouteNeeds| v1::RouteDemand {
        needs: needs.into(),
        ..v1::RouteDemand::default()
    };
    match demand {
        Demand::Unsaid => needs(v1::RouteNeeds::Unsaid),
        Demand::Refused => needs(v1::RouteNeeds::Refused),
        Demand::Open => needs(v1::RouteNeeds::Nothing),
        Demand::Token {
            scopes,
            audience,
            realm,
        } => v1::RouteDemand {
            scopes: scopes.clone(),
            audience: audience.as_ref().map_or_else(String::new, ToString::to_string),
            realm: realm.as_ref().map_or_else(String::new, ToString::to_string),
            ..needs(v1::RouteNeeds::Token)
        },
    }
}

pub(crate) fn apply_response(applied: &Applied, cursor: &Cursor) -> v1::ApplyResponse {
    v1::ApplyResponse {
        previous_revision: applied.previous.to_string(),
        policy_revision: applied.policy.to_string(),
        sessions: Some(effect(applied.total())),
        cursor: cursor.to_string(),
    }
}

pub(crate) fn reload_response(applied: &Applied, cursor: &Cursor) -> v1::ReloadResponse {
    v1::ReloadResponse {
        previous_revision: applied.previous.to_string(),
        policy_revision: applied.policy.to_string(),
        sessions: Some(effect(applied.total())),
        cursor: cursor.to_string(),
    }
}

fn effect(impact: SessionImpact) -> v1::SessionImpact {
    v1::SessionImpact {
        live: impact.live,
        narrowed: impact.narrowed,
        ended: impact.ended,
    }
}

pub(crate) fn policy_status(status: PolicyStatus) -> v1::GetStatusResponse {
    let attempt = status.last_attempt;
    let (outcome, problem, diagnostics) = match attempt.outcome {
        AttemptOutcome::Applied => (v1::ReloadOutcome::Applied, String::new(), Vec::new()),
        AttemptOutcome::Unchanged => (v1::ReloadOutcome::Unchanged, String::new(), Vec::new()),
        AttemptOutcome::Refused { problem, diagnostics } => {
            (v1::ReloadOutcome::Refused, problem, diagnostics)
        }
    };
    v1::GetStatusResponse {
        policy_revision: status.policy.to_string(),
        apply_time: Some(timestamp(status.since)),
        rules: count(status.rules),
        compiled: status.is_compiled,
        reconciled: status.is_reconciled,
        directory: status
            .directory
            .map_or_else(String::new, |directory| directory.display().to_string()),
        attempt_time: Some(timestamp(attempt.at)),
        attempt_trigger: attempt.trigger.as_str().to_owned(),
        attempt_outcome: outcome.into(),
        attempt_problem: problem,
        diagnostics_total: count(diagnostics.len()),
        diagnostics: diagnostics
            .into_iter()
            .take(DIAGNOSTICS_MAX)
            .map(diagnostic)
            .collect(),
    }
}

fn diagnostic(found: Diagnostic) -> v1::Diagnostic {
    v1::Diagnostic {
        code: found.code.to_owned(),
        file: found.file,
        line: found.line,
        column: found.column,
        message: found.message,
        help: found.help.unwrap_or_default(),
    }
}
