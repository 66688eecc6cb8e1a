//! `tessera policy explain`: why a subject is allowed or denied.

use std::process::ExitCode;

use tessera_proto::v1::{self, ExplainRequest, explain_request};

use super::{ask, wire};
use crate::{
    arguments::{About, Connection, Output},
    failure::Failure,
    json,
    terminal::{Paint, padded, visible, width},
};

/// How many digits of a revision are shown.
const REVISION_SHOWN: usize = 12;
/// How many paths to roles are shown.
const WAYS_MAX: usize = 10;

pub(super) async fn run(
    subject: &str,
    scope: &str,
    about: About,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let explained = ask::explain(subject, scope, about, connection).await?;
    let response = v1::ExplainResponse {
        explanations: vec![explained],
        decide_time: None,
    };
    print(&response, output)
}

/// Explains a decision that was made.
pub(super) async fn decision(
    id: String,
    connection: &Connection,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let request = ExplainRequest {
        about: Some(explain_request::About::DecisionId(id)),
    };
    let response = connection.policies().await?.explain(request).await?.into_inner();
    print(&response, output)
}

fn print(response: &v1::ExplainResponse, output: &Output) -> Result<ExitCode, Failure> {
    let paint = Paint::stdout();
    output.print(&wire::explain_response(response), || {
        let mut texts: Vec<String> = Vec::new();
        if let Some(time) = json::time(response.decide_time.as_ref()) {
            texts.push(format!("decided at {time}\n"));
        }
        texts.extend(
            response
                .explanations
                .iter()
                .map(|explained| text(explained, paint)),
        );
        texts.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The first digits of a revision.
pub(super) fn short(revision: &str) -> String {
    revision.chars().take(REVISION_SHOWN).collect()
}

fn text(explained: &v1::Explanation, paint: Paint) -> String {
    let verdict = if explained.allowed {
        paint.good("ALLOWED")
    } else {
        paint.bad("DENIED")
    };
    let mut text = format!(
        "{verdict}  {} → {}  ({})   revision {}\n",
        visible(&explained.subject),
        visible(&explained.scope),
        visible(&explained.realm),
        short(&explained.policy_revision),
    );
    text += &roles(explained);
    if let Some(rule) = &explained.rule {
        text += &deciding(rule, &explained.path);
    }
    if !explained.misses.is_empty() {
        text += &nearest(&explained.misses, paint);
    } else if explained.rule.is_none() && !explained.allowed {
        text += &format!("  reason  {}\n", visible(&explained.reason));
    }
    if !explained.note.is_empty() {
        text += &format!("  note    {}\n", visible(&explained.note));
    }
    text
}

/// The paths to roles, each with its roles: those of the deciding rule, otherwise all.
fn roles(explained: &v1::Explanation) -> String {
    let of_rule = explained.rule.is_some() && !explained.path.is_empty();
    let ways: Vec<Vec<&v1::RoleStep>> = if of_rule {
        vec![explained.path.iter().collect()]
    } else if explained.rule.is_some() {
        // The rule names the subject itself.
        Vec::new()
    } else {
        longest(&explained.roles)
    };
    if ways.is_empty() {
        return if explained.rule.is_some() {
            String::new()
        } else {
            "  roles   none\n".to_owned()
        };
    }
    let mut text = String::new();
    for (position, way) in ways.iter().take(WAYS_MAX).enumerate() {
        let heading = if position == 0 { "roles" } else { "" };
        let steps: Vec<String> = way.iter().map(|step| shown_step(step)).collect();
        text += &format!(
            "  {heading:<5}   {} → {}\n",
            visible(&explained.subject),
            steps.join(" → ")
        );
    }
    if let Some(more) = ways.len().checked_sub(WAYS_MAX).filter(|more| *more > 0) {
        text += &format!("          and {more} more ways\n");
    }
    text
}

fn shown_step(step: &v1::RoleStep) -> String {
    let role = visible(&step.role);
    match step.rule {
        None => format!("{role} (asserted)"),
        Some(_) => role.into_owned(),
    }
}

/// The paths that are not the beginning of another one.
fn longest(paths: &[v1::RolePath]) -> Vec<Vec<&v1::RoleStep>> {
    let is_part = |path: &v1::RolePath| {
        paths
            .iter()
            .any(|other| other.steps.len() > path.steps.len() && other.steps.starts_with(&path.steps))
    };
    paths
        .iter()
        .filter(|path| !is_part(path))
        .map(|path| path.steps.iter().collect())
        .collect()
}

/// The rule that decides, and the rules that give its role.
fn deciding(rule: &v1::Rule, path: &[v1::RoleStep]) -> String {
    let given = path.iter().filter_map(|step| step.rule.as_ref());
    let rules: Vec<&v1::Rule> = std::iter::once(rule).chain(given).collect();
    let column = rules.iter().map(|rule| width(&place(rule))).max().unwrap_or(0);
    let mut text = String::new();
    for (position, rule) in rules.iter().enumerate() {
        let heading = match position {
            0 => "rule",
            1 => "given",
            _ => "",
        };
        text += &format!(
            "  {heading:<5}   {}  {}\n",
            padded(&place(rule), column),
            visible(&rule.text)
        );
    }
    text
}

fn nearest(misses: &[v1::Miss], paint: Paint) -> String {
    let rows: Vec<(String, String, &v1::Miss)> = misses
        .iter()
        .map(|miss| {
            let rule = miss.rule.as_ref();
            let text = rule
                .map(|rule| visible(&rule.text).into_owned())
                .unwrap_or_default();
            (rule.map(place).unwrap_or_default(), text, miss)
        })
        .collect();
    let places = rows.iter().map(|(place, ..)| width(place)).max().unwrap_or(0);
    let rules = rows.iter().map(|(_, rule, _)| width(rule)).max().unwrap_or(0);
    let mut text = "  nearest rules:\n".to_owned();
    for (place, rule, miss) in &rows {
        text += &format!(
            "    {}  {}      {}\n",
            padded(place, places),
            padded(rule, rules),
            visible(&miss.reason)
        );
        if !miss.remedy.is_empty() {
            let indent = " ".repeat(places);
            text += &format!("    {indent}  {} {}\n", paint.hint("try:"), visible(&miss.remedy));
        }
    }
    text
}

/// `policy.csv:3`.
pub(super) fn place(rule: &v1::Rule) -> String {
    format!("{}:{}", visible(&rule.file), rule.line)
}
