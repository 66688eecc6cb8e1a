//! `tessera policy apply` and `tessera policy reload`: put another policy in force.

use std::process::ExitCode;

use serde_json::json;
use tessera_proto::v1::{self, ApplyRequest, ReloadRequest};

use super::{explain::short, plan, wire};
use crate::{
    arguments::{Connection, Output},
    failure::Failure,
    terminal::visible,
};

pub(super) async fn run(
    plan: String,
    max_sessions: Option<u64>,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let request = ApplyRequest { plan, max_sessions };
    let done = connection.policies().await?.apply(request).await?.into_inner();
    print(
        &done.previous_revision,
        &done.policy_revision,
        done.sessions,
        &done.cursor,
        output,
    )
}

pub(super) async fn reload(connection: &Connection, output: &Output) -> Result<ExitCode, Failure> {
    let done = connection
        .policies()
        .await?
        .reload(ReloadRequest {})
        .await?
        .into_inner();
    print(
        &done.previous_revision,
        &done.policy_revision,
        done.sessions,
        &done.cursor,
        output,
    )
}

fn print(
    previous: &str,
    now: &str,
    sessions: Option<v1::SessionImpact>,
    cursor: &str,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let document = json!({
        "previous_revision": previous,
        "policy_revision": now,
        "sessions": sessions.as_ref().map(wire::effect),
        "cursor": cursor,
    });
    output.print(&document, || {
        if previous == now {
            return format!("revision {} is in force, as before", visible(&short(now)));
        }
        format!(
            "revision {} → {} is in force\nsessions: {}",
            visible(&short(previous)),
            visible(&short(now)),
            plan::impact(sessions.as_ref(), plan::Tense::Past)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
