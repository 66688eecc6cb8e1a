//! Stops a running authority on request, and ends it if it can't stop.

use std::{io, process::exit, thread, time::Instant};

use tessera_daemon::telemetry;
use tessera_server::Limits;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use crate::failure::Failure;

/// The number on Linux and macOS.
const SIGXFSZ: i32 = 25;
/// The exit code of a process that was ended before it could stop.
const NOT_STOPPED: i32 = 3;

/// Makes a write beyond the limit of file sizes an error like a full disk, instead of ending the process.
pub(crate) fn outlive_file_limits() -> Result<(), Failure> {
    let too_large = signal(SignalKind::from_raw(SIGXFSZ)).map_err(|error| no_handler(&error))?;
    // The handler stays installed.
    drop(too_large);
    Ok(())
}

/// Ready at SIGTERM or SIGINT. Installs the handlers at once, so that a signal during start is not lost.
pub(crate) fn requested() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let install = |kind| signal(kind).map_err(|error| no_handler(&error));
    let (mut terminate, mut interrupt) = (
        install(SignalKind::terminate())?,
        install(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The same, for an authority. After the signal, or once the given handle is dropped, the process has the times of
/// `limits` to end; then it is ended, regardless of what it waits for: a write to a disk that does not respond may
/// never return. Nothing is acknowledged before it is durable, so nothing is lost.
///
/// A thread with a separate runtime does this, as all threads of the other one may wait for the disk.
pub(crate) fn requested_within(
    limits: &Limits,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let apart = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| no_handler(&error))?;
    let requested = {
        let _entered = apart.enter();
        requested()?
    };
    let longest = limits.drain_time_max.saturating_add(limits.close_time_max);
    let (mut tell, told) = oneshot::channel::<()>();
    let watch = async move {
        tokio::select! {
            () = requested => {}
            () = tell.closed() => {}
        }
        let began = Instant::now();
        // There is no listener if the authority stops by itself.
        let _ = tell.send(());
        sleep(longest).await;
        end(began);
    };
    thread::Builder::new()
        .name("tessera-stop".to_owned())
        .spawn(move || apart.block_on(watch))
        .map_err(|error| no_handler(&error))?;
    Ok(async move {
        // A thread that has ended means the same: signals would have no effect.
        let _ = told.await;
    })
}

fn no_handler(error: &io::Error) -> Failure {
    Failure::cannot_run(format!("no signal handler can be installed: {error}"))
}

/// Ends the process.
fn end(began: Instant) -> ! {
    let after = began.elapsed();
    tracing::error!(
        ?after,
        "ended before it could stop, because something did not finish, such as a write to a disk that does not respond: what was acknowledged is safe"
    );
    // If the log is not read, the line can't be written, and this does not delay the end.
    telemetry::flush();
    exit(NOT_STOPPED)
}
