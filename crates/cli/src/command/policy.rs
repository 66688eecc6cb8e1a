//! `tessera policy …`.

mod apply;
mod ask;
mod check;
mod diff;
mod explain;
mod fmt;
mod plan;
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
        PolicyCommand::Check(folder) => check::run(&folder.into_path(), output),
        PolicyCommand::Test {
            folder,
            deny_uncovered,
        } => test::run(&folder.into_path(), deny_uncovered, output),
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
        // 2 says that there are changes.
        PolicyCommand::Diff(arguments) => {
            let compared = diff::run(&arguments, connection, output).await;
            compared.map_err(|failure| failure.with_code(1))
        }
        PolicyCommand::Fmt { folder, check } => fmt::run(&folder.into_path(), check, output),
        PolicyCommand::Status => status::run(connection, output).await,
        PolicyCommand::Reload => apply::reload(connection, output).await,
        PolicyCommand::Plan { folder, policy } => {
            plan::run(policy.or(folder).as_deref(), connection, output).await
        }
        PolicyCommand::Apply { plan, max_sessions } => {
            apply::run(plan, max_sessions, connection, output).await
        }
    }
}

/// Reads a folder. The files are kept where they are no policy, to show what is wrong in them.
fn load(folder: &Path) -> Result<Result<Policy, Refused>, Failure> {
    let sources = match read(folder)? {
        Ok(sources) => sources,
        Err(refused) => return Ok(Err(refused)),
    };
    Ok(Policy::from_sources(&sources).map_err(|error| Refused {
        sources: Some(sources),
        error,
    }))
}

/// Reads the files of a folder, without a look into them.
fn read(folder: &Path) -> Result<Result<Sources, Refused>, Failure> {
    if !folder.is_dir() {
        return Err(Failure::cannot_run(format!(
            "there is no folder `{}`; name the folder of the policy",
            shown(folder)
        )));
    }
    Ok(Sources::read(folder).map_err(|error| Refused { sources: None, error }))
}

/// The policy of a folder; a failure where it has mistakes.
pub(crate) fn load_right(folder: &Path) -> Result<Policy, Failure> {
    load(folder)?.map_err(|refused| is_refused(folder, refused))
}

fn is_refused(folder: &Path, refused: Refused) -> Failure {
    Failure::policy(format!("the policy in `{}` is refused", shown(folder)), refused)
}

/// A path as it was typed.
fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
