//! `tessera doctor`: checks an installation.

use std::process::ExitCode;

use serde_json::json;
use tessera_daemon::{Finding, Level, examine};

use crate::{
    arguments::{Doctor, Output},
    failure::Failure,
    terminal::{Paint, counted, visible},
};

pub(crate) async fn run(command: &Doctor, output: &Output) -> Result<ExitCode, Failure> {
    let found = examine(&command.config).await;
    let worst = found
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Level::Ok);
    let findings = found.iter().map(|finding| {
        json!({
            "level": finding.level.name(),
            "check": finding.check,
            "message": finding.message,
            "todo": finding.todo,
        })
    });
    let document = json!({ "worst": worst.name(), "findings": findings.collect::<Vec<_>>() });
    output.print(&document, || told(&found))?;
    Ok(ExitCode::from(match worst {
        Level::Ok => 0,
        Level::Warn => 1,
        Level::Fail => 2,
    }))
}

fn told(found: &[Finding]) -> String {
    let paint = Paint::stdout();
    let mut text = String::new();
    for finding in found {
        let level = match finding.level {
            Level::Ok => paint.good("ok  "),
            Level::Warn => paint.warn("warn"),
            Level::Fail => paint.bad("fail"),
        };
        let message: Vec<_> = finding.message.lines().map(visible).collect();
        text += &format!("{level}  {:14}  {}\n", finding.check, message.join("\n      "));
        if let Some(todo) = &finding.todo {
            text += &format!("      {}\n", paint.hint(&format!("→ {}", visible(todo))));
        }
    }
    let of = |level| found.iter().filter(|finding| finding.level == level).count();
    let (failures, warnings) = (of(Level::Fail), of(Level::Warn));
    let (failures, warnings) = (
        counted(failures as u64, "failure"),
        counted(warnings as u64, "warning"),
    );
    format!("{text}{failures}, {warnings}")
}
