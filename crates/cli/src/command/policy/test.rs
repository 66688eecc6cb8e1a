//! `tessera policy test`: the policy's own tests, and their coverage.

use std::{borrow::Cow, path::Path, process::ExitCode};

use serde_json::{Value, json};
use tessera_policy::{RuleAt, TestReport};

use super::{
    directory::{is_refused, load, shown},
    rule,
};
use crate::{
    arguments::Output,
    draw::Refused,
    failure::Failure,
    terminal::{Paint, counted, padded, visible, width},
};

/// The code of a test that fails; with any other finding the tests did not run.
const TEST_FAILED: &str = "P050";
/// How many rules are listed.
const NAMED_MAX: usize = 100;

pub(super) fn run(directory: &Path, deny_uncovered: bool, output: &Output) -> Result<ExitCode, Failure> {
    let policy = match load(directory)? {
        Ok(policy) => policy,
        Err(refused) => return failed(directory, refused, output),
    };
    let report = policy.test_report();
    let is_covered = report.uncovered.is_empty() && report.uncovered_routes.is_empty();
    let is_ok = is_covered || !deny_uncovered;
    let document = json!({
        "ok": is_ok,
        "revision": policy.revision(),
        "tests": report.tests,
        "expectations": report.expectations,
        "calls": report.calls,
        "uncovered": report.uncovered.iter().map(rule::rule_json).collect::<Value>(),
        "uncovered_routes": report.uncovered_routes.iter().map(rule::rule_json).collect::<Value>(),
        "diagnostics": [],
    });
    output.print(&document, || {
        passed(directory, &report, deny_uncovered, Paint::stdout())
    })?;
    Ok(ExitCode::from(u8::from(!is_ok)))
}

fn failed(directory: &Path, refused: Refused, output: &Output) -> Result<ExitCode, Failure> {
    let mut diagnostics = refused.error.diagnostics.iter();
    if !diagnostics.all(|diagnostic| diagnostic.code == TEST_FAILED) {
        return Err(is_refused(directory, refused));
    }
    let document = json!({
        "ok": false,
        "revision": refused.sources.as_ref().map(tessera_policy::Sources::revision),
        "tests": null,
        "expectations": null,
        "calls": null,
        "uncovered": null,
        "uncovered_routes": null,
        "diagnostics": refused.to_json(),
    });
    output.print(&document, || refused.draw(Paint::stdout()))?;
    Ok(ExitCode::from(1))
}

fn passed(directory: &Path, report: &TestReport, deny_uncovered: bool, paint: Paint) -> String {
    let mut text = match (report.tests, report.calls) {
        (0, 0) => format!("{}: there are no tests\n", shown(directory)),
        _ => format!("{}: {} passed\n", paint.good(&shown(directory)), ran(report)),
    };
    let lists = [("rule", &report.uncovered), ("route", &report.uncovered_routes)];
    for (what, uncovered) in lists.into_iter().filter(|(_, uncovered)| !uncovered.is_empty()) {
        let verb = if uncovered.len() == 1 { "is" } else { "are" };
        let said = format!("{} {verb} covered by no test:", counted(uncovered.len(), what));
        text += &if deny_uncovered {
            format!("{} {said}\n", paint.bad("error:"))
        } else {
            format!("{} {said}\n", paint.warn("warning:"))
        };
        text += &rules(uncovered);
    }
    text
}

/// How many tests there are of each kind.
fn ran(report: &TestReport) -> String {
    let tests = format!(
        "{} with {}",
        counted(report.tests, "test"),
        counted(report.expectations, "expectation")
    );
    let calls = match report.calls {
        1 => "1 test of a route".to_owned(),
        calls => format!("{calls} tests of routes"),
    };
    match (report.tests, report.calls) {
        (_, 0) => tests,
        (0, _) => calls,
        _ => format!("{tests} and {calls}"),
    }
}

fn rules(uncovered: &[RuleAt]) -> String {
    let rows: Vec<(String, Cow<'_, str>)> = uncovered
        .iter()
        .take(NAMED_MAX)
        .map(|rule| {
            (
                format!("{}:{}", visible(&rule.file), rule.line),
                visible(&rule.text),
            )
        })
        .collect();
    let column = rows.iter().map(|(place, _)| width(place)).max().unwrap_or(0);
    let mut text: String = rows
        .iter()
        .map(|(place, rule)| format!("  {}  {rule}\n", padded(place, column)))
        .collect();
    if let Some(more) = uncovered.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text += &format!("  and {more} more: --json has all of them\n");
    }
    text
}
