//! When a running authority is asked to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// On Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Ready at SIGTERM or SIGINT. Installs the handlers at once, so that a signal during start is not lost.
pub(crate) fn requested() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let install = |kind| {
        signal(kind)
            .map_err(|error| Failure::cannot_run(format!("no signal handler can be installed: {error}")))
    };
    // Writing beyond a limit of the size of files is an error like a full disk, not the end of the process.
    let mut file_too_large = install(SignalKind::from_raw(SIGXFSZ))?;
    tokio::spawn(async move { while file_too_large.recv().await.is_some() {} });
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
