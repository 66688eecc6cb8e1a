//! `tessera-bench` loads a real `tessera` process and, in turns, the simplest program that could do the same. So each
//! figure is a ratio from the same minute on the same machine.
#![forbid(unsafe_code)]

mod arguments;
mod bare;
mod caller;
mod chart;
mod drive;
mod echo;
mod failure;
mod fanout;
mod fsync;
mod group;
mod history;
mod hostile;
mod origin;
mod parcel;
mod process;
mod refusal;
mod report;
mod rotation;
mod rounds;
mod sessions;
mod soak;
mod stage;
mod statistics;
mod suite;
mod verb;

use std::{pin::pin, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    arguments::{Arguments, Command, Run},
    failure::Failure,
    stage::Stage,
};

/// As in `tessera`: generator and baseline must not be slower than the program that is compared with them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::at("making an async runtime", error)),
    };
    let outcome = runtime.block_on(run(arguments.command));
    // A blocking read of stdin must not delay the end of a finished command.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => measure(&arguments).await,
        Command::History(arguments) => history::append(&arguments),
        Command::Hostile(arguments) => hostile::run(&arguments).await,
        Command::HostileLoad(arguments) => hostile::load(&arguments).await,
        Command::Soak(arguments) => soak::run(&arguments).await,
        Command::EchoServer(arguments) => echo::server::serve(arguments.rotating.as_deref()).await,
    }
}

async fn measure(arguments: &Run) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        eprintln!("note: built without optimisation, so the figures say little (use --release)");
    }
    group::check(arguments)?;
    let mut stopped = pin!(stop_requested());
    let mut stage = tokio::select! {
        stage = Stage::set(arguments) => stage?,
        stopped = &mut stopped => return Err(stopped),
    };
    let report = tokio::select! {
        report = suite::run(&stage, arguments) => report,
        stopped = &mut stopped => Err(stopped),
    };
    // After any outcome, and before the data that the servers use is removed.
    stage.strike().await;
    let report = report?;
    match &arguments.json {
        Some(file) if file.as_os_str() == "-" => {
            println!("{}", report.to_json());
            return Ok(());
        }
        Some(file) => {
            let text = format!("{:#}\n", report.to_json());
            std::fs::write(file, text)
                .map_err(|error| Failure::at(format!("writing `{}`", file.display()), error))?;
        }
        None => {}
    }
    println!("{}", report.to_table());
    Ok(())
}

/// Ready once the user stops this. Without it the servers would outlive a Ctrl-C.
async fn stop_requested() -> Failure {
    let what = "listening to signals";
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return Failure::at(what, error),
        };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Failure::new("stopped before the end")
}
