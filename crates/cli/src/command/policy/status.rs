//! `tessera policy status`: the policy in force, and the last attempt to change it.

use std::process::ExitCode;

use serde_json::{Value, json};
use tessera_proto::v1::{GetStatusRequest, GetStatusResponse, ReloadOutcome};

use crate::{
    arguments::{Connection, Output},
    draw::{Finding, draw},
    failure::Failure,
    json,
    output::table,
    terminal::{Paint, counted, visible},
};

pub(super) async fn run(connection: &Connection, output: &Output) -> Result<ExitCode, Failure> {
    let status = connection
        .policies()
        .await?
        .get_status(GetStatusRequest {})
        .await?
        .into_inner();
    output.print(&document(&status), || text(&status, Paint::stdout()))?;
    let is_refused = status.attempt_outcome() == ReloadOutcome::Refused;
    Ok(ExitCode::from(u8::from(is_refused)))
}

fn document(status: &GetStatusResponse) -> Value {
    let findings = status.diagnostics.iter().map(Finding::from);
    json!({
        "policy_revision": status.policy_revision,
        "apply_time": json::time(status.apply_time.as_ref()),
        "rules": status.rules,
        "compiled": status.compiled,
        "reconciled": status.reconciled,
        "directory": status.directory,
        "attempt_time": json::time(status.attempt_time.as_ref()),
        "attempt_trigger": status.attempt_trigger,
        "attempt_outcome": outcome(status),
        "attempt_problem": status.attempt_problem,
        "diagnostics": findings.map(|finding| finding.to_json()).collect::<Value>(),
        "diagnostics_total": status.diagnostics_total,
    })
}

fn outcome(status: &GetStatusResponse) -> String {
    json::enum_name(status.attempt_outcome().as_str_name(), "RELOAD_OUTCOME_")
}

fn text(status: &GetStatusResponse, paint: Paint) -> String {
    let is_refused = status.attempt_outcome() == ReloadOutcome::Refused;
    let attempt = format!(
        "{} by {}: {}",
        json::time(status.attempt_time.as_ref()).unwrap_or_default(),
        visible(&status.attempt_trigger),
        if is_refused {
            paint.bad("refused")
        } else {
            outcome(status)
        }
    );
    let directory = if status.directory.is_empty() {
        "built in".into()
    } else {
        visible(&status.directory)
    };
    let mut text = table(&[
        ("policy", visible(&status.policy_revision).into_owned()),
        (
            "since",
            json::time(status.apply_time.as_ref()).unwrap_or_default(),
        ),
        ("rules", rules(status, paint)),
        ("sessions", reconciled(status, paint)),
        ("directory", directory.into_owned()),
        ("last try", attempt),
        ("", visible(&status.attempt_problem).into_owned()),
    ]);
    if !status.diagnostics.is_empty() {
        let findings: Vec<Finding> = status.diagnostics.iter().map(Finding::from).collect();
        text += &format!("\n{}", draw(&findings, None, paint));
        let shown = u64::try_from(findings.len()).unwrap_or(u64::MAX);
        if status.diagnostics_total > shown {
            text += &format!("of {} in all\n", status.diagnostics_total);
        }
    }
    text
}

fn rules(status: &GetStatusResponse, paint: Paint) -> String {
    let compiled = if status.compiled {
        "compiled".to_owned()
    } else {
        paint.warn("not compiled: casbin itself answers, which is slow")
    };
    format!("{}, {compiled}", counted(status.rules, "rule"))
}

fn reconciled(status: &GetStatusResponse, paint: Paint) -> String {
    if status.reconciled {
        "all are updated".to_owned()
    } else {
        paint.warn("not all are updated yet")
    }
}
