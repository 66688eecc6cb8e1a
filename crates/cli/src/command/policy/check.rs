//! `tessera policy check`: reports all mistakes in a directory.

use std::{path::Path, process::ExitCode};

use serde_json::json;
use tessera_policy::{Policy, Sources};

use super::directory::{load, shown};
use crate::{
    arguments::Output,
    draw::Finding,
    failure::Failure,
    terminal::{Paint, counted},
};

pub(super) fn run(directory: &Path, output: &Output) -> Result<ExitCode, Failure> {
    match load(directory)? {
        Ok(policy) => {
            let warnings: Vec<Finding> = policy.warnings().iter().map(Finding::from).collect();
            let document = json!({
                "ok": true,
                "revision": policy.revision(),
                "rules": policy.rule_count(),
                "compiled": policy.is_compiled(),
                "diagnostics": [],
                "warnings": warnings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            });
            output.print(&document, || {
                right(directory, &policy, &warnings, Paint::stdout())
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            let document = json!({
                "ok": false,
                "revision": refused.sources.as_ref().map(Sources::revision),
                "rules": null,
                "compiled": null,
                "diagnostics": refused.to_json(),
                "warnings": [],
            });
            output.print(&document, || refused.draw(Paint::stdout()))?;
            Ok(ExitCode::from(1))
        }
    }
}

fn right(directory: &Path, policy: &Policy, warnings: &[Finding], paint: Paint) -> String {
    let (catalogue, report) = (policy.catalogue(), policy.test_report());
    let compiled = if policy.is_compiled() {
        "compiled"
    } else {
        "not compiled"
    };
    let mut text = format!(
        "{}: {}, {}, {}, {}, {}; revision {}; {compiled}\n",
        paint.good(&shown(directory)),
        counted(policy.rule_count(), "rule"),
        counted(catalogue.roles().len(), "role"),
        counted(catalogue.scopes().count(), "scope"),
        counted(catalogue.realms().len(), "realm"),
        counted(report.tests + report.calls, "test"),
        policy.revision().short(),
    );
    if !policy.is_compiled() {
        text += &format!(
            "{} the model is not the usual one: casbin itself answers, which looks at every rule each time\n",
            paint.warn("warning:")
        );
    }
    for warning in warnings {
        text += "\n";
        text += &warning.draw_warning(policy.sources(), paint);
    }
    text
}
