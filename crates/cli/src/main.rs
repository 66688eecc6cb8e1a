//! `tessera`: runs an authority, and calls one.
#![forbid(unsafe_code)]
// They panic if a pipe is closed: see `output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod command;
mod confirm;
mod connect;
mod draw;
mod failure;
mod json;
mod notice;
mod output;
mod partial;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use tessera_core::secret;
use tessera_daemon::telemetry;

use crate::{
    arguments::{Arguments, Command, Connection, Output},
    failure::Failure,
};

/// Measured to save up to 12% of the server's time against the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error),
    };
    let as_json = arguments.as_json();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::cannot_run(format!("no async runtime: {error}")).report(as_json),
    };
    let outcome = runtime.block_on(run(arguments));
    // A blocking read of stdin must not keep a finished command alive.
    runtime.shutdown_background();
    tessera_daemon::let_sealer_rest();
    // Errors come after the log.
    telemetry::flush();
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(as_json),
    }
}

/// Prints help, or the error in the arguments.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // If it can't be printed, there is no other output.
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    // It repeats the input, which may contain a key by mistake.
    let told = without_environment(&secret::redact_known(&text));
    let mut words = std::env::args_os().skip(1);
    if words
        .by_ref()
        .take_while(|word| word != "--")
        .any(|word| word == "--json")
    {
        let message = told.split("\n\nUsage:").next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message).trim_end();
        Failure::cannot_run(message).report(true);
    } else if told == text {
        drop(error.print());
    } else {
        notice::notice(told.trim_end());
    }
    // 2 would mean that there are changes.
    let mut words = std::env::args_os().skip_while(|word| word != "policy");
    let is_diff = words.any(|word| word == "diff");
    ExitCode::from(if is_diff { 1 } else { 2 })
}

/// Removes values that only the environment gave, which the usage shows as if they were required.
fn without_environment(text: &str) -> String {
    let Some((before, usage)) = text.split_once("Usage:") else {
        return text.to_owned();
    };
    let usage = usage.replace(" --addr <URL>", "").replace(" --api-key <KEY>", "");
    format!("{before}Usage:{usage}")
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        command,
        connection,
        output,
    } = arguments;
    command::shutdown::outlive_file_limits()?;
    match dispatch(command, &connection, output).await {
        Ok(code) => Ok(code),
        Err(failure) => Err(failure.diagnosed(&connection).await),
    }
}

async fn dispatch(command: Command, connection: &Connection, output: Output) -> Result<ExitCode, Failure> {
    match command {
        Command::Dev(dev) => command::dev::run(dev).await?,
        Command::Init(init) => command::init::run(&init, &output).await?,
        Command::Config { command } => command::config::run(&command, &output).await?,
        Command::Serverkey { command } => command::serverkey::run(&command, connection, &output)?,
        Command::Serve(serve) => command::serve::run(&serve).await?,
        Command::Health(health) => return command::health::run(&health, connection, &output).await,
        Command::Status(status) => return command::status::run(&status, connection, &output).await,
        Command::Node { command } => command::node::run(&command, connection, &output).await?,
        Command::Top(top) => command::top::run(&top, connection, &output).await?,
        Command::Doctor(doctor) => return command::doctor::run(&doctor, &output).await,
        Command::Restore(restore) => command::restore::run(&restore, &output).await?,
        Command::Backup { command } => command::backup::run(command, connection, &output).await?,
        Command::Store { command } => command::store::run(&command, &output).await?,
        Command::Token { command } => return command::token::run(command, connection, &output).await,
        Command::Revoke(revoke) => command::revoke::run(revoke, connection, &output).await?,
        Command::Subscribers { command } => {
            command::subscribers::run(command, connection, &output).await?;
        }
        Command::Key { command } => command::key::run(command, connection, &output).await?,
        Command::Watch(watch) => command::watch::run(watch, connection, &output).await?,
        Command::Audit { command } => command::audit::run(command, connection, &output).await?,
        Command::Apikey { command } => command::apikey::run(command, connection, &output).await?,
        Command::Session { command } => command::session::run(command, connection, &output).await?,
        Command::Policy(policy) => return command::policy::run(policy, connection, output).await,
        Command::Completions { shell } => command::completions(shell)?,
        Command::Man { directory } => command::man(&directory)?,
    }
    Ok(ExitCode::SUCCESS)
}
