//! When a running authority is asked to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Ready at SIGTERM or SIGINT. Installs the handlers at once, so that a signal during start is not lost.
pub(crate) fn requested() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let install = |kind| {
        signal(kind)
            .map_err(|error| Failure::cannot_run(format!("no signal handler can be installed: {error}")))
    };
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
