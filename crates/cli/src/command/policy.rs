//! `tessera policy …`.

mod apply;
mod ask;
mod check;
mod diff;
pub(crate) mod directory;
mod explain;
mod fmt;
mod plan;
mod routes;
mod rule;
mod status;
mod test;
mod wire;

use std::process::ExitCode;

use crate::{
    arguments::{self, Connection, Format, Output, PolicyCommand},
    failure::Failure,
};

pub(crate) async fn run(
    arguments: arguments::Policy,
    connection: &Connection,
    output: Output,
) -> Result<ExitCode, Failure> {
    let output = Output {
        json: output.json || arguments.format == Some(Format::Json),
        ..output
    };
    let output = &output;
    match arguments.command {
        PolicyCommand::Check(directory) => check::run(&directory.into_path(), output),
        PolicyCommand::Test {
            directory,
            deny_uncovered,
        } => test::run(&directory.into_path(), deny_uncovered, output),
        PolicyCommand::Explain {
            decision: Some(id), ..
        } => explain::decision(id, connection, output).await,
        PolicyCommand::Explain {
            subject,
            scope,
            about,
            decision: None,
        } => {
            let (subject, scope) = (subject.unwrap_or_default(), scope.unwrap_or_default());
            explain::run(&subject, &scope, about, connection, output).await
        }
        PolicyCommand::Can {
            subject,
            scope,
            about,
        } => ask::can(&subject, &scope, about, connection, output).await,
        // Exit code 2 means that there are changes.
        PolicyCommand::Diff(arguments) => {
            let compared = diff::run(&arguments, connection, output).await;
            compared.map_err(|failure| failure.with_code(1))
        }
        PolicyCommand::Fmt { directory, check } => fmt::run(&directory.into_path(), check, output),
        PolicyCommand::Status => status::run(connection, output).await,
        PolicyCommand::Reload => apply::reload(connection, output).await,
        PolicyCommand::Plan { directory, policy } => {
            plan::run(policy.or(directory).as_deref(), connection, output).await
        }
        PolicyCommand::Apply { plan, max_sessions } => {
            apply::run(plan, max_sessions, connection, output).await
        }
    }
}
