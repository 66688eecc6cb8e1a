//! `tessera policy …`.

mod apply;
mod ask;
mod check;
mod diff;
mod explain;
mod fmt;
mod plan;
mod routes;
mod status;
mod test;
mod wire;

use std::{path::Path, process::ExitCode};

use tessera_policy::{Policy, Sources};

use crate::{
    arguments::{self, Connection, Format, Output, PolicyCommand},
    draw::Refused,
    failure::Failure,
    terminal::visible,
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

/// Reads a directory. If the files are not a policy, they are kept to show the mistakes in them.
fn load(directory: &Path) -> Result<Result<Policy, Refused>, Failure> {
    let sources = match read(directory)? {
        Ok(sources) => sources,
        Err(refused) => return Ok(Err(refused)),
    };
    Ok(Policy::from_sources(&sources).map_err(|error| Refused {
        sources: Some(sources),
        error,
    }))
}

/// Reads the files of a directory, without parsing them.
fn read(directory: &Path) -> Result<Result<Sources, Refused>, Failure> {
    if !directory.is_dir() {
        return Err(Failure::cannot_run(format!(
            "there is no directory `{}`; name the directory of the policy",
            shown(directory)
        )));
    }
    Ok(Sources::read(directory).map_err(|error| Refused { sources: None, error }))
}

/// The policy of a directory; a failure if it has mistakes.
pub(crate) fn load_right(directory: &Path) -> Result<Policy, Failure> {
    load(directory)?.map_err(|refused| is_refused(directory, refused))
}

fn is_refused(directory: &Path, refused: Refused) -> Failure {
    Failure::policy(
        format!("the policy in `{}` is refused", shown(directory)),
        refused,
    )
}

/// A path in its typed form.
fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
