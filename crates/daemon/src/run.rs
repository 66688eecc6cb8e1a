//! Serving an authority with the tasks around it, until told to stop.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tessera_authority::{Authority, Unavailable};
use tessera_core::Seconds;
use tessera_server::{Listeners, ServeError, ServeOptions};

use crate::{
    ServiceManager, audit_sink, certificate_watcher,
    config::{AuditConfig, TelemetryConfig},
    policy_watcher, server_key_watcher,
    telemetry::Traces,
};

/// How long the end waits for the collector of traces, at most.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// How to serve, and the additional tasks.
#[derive(Debug)]
pub struct RunOptions {
    /// How the server serves.
    pub server: ServeOptions,
    /// How long audit records are kept.
    pub audit_retention: Seconds,
    /// Additional destinations of audit records.
    pub audit: AuditConfig,
    /// The identity of this process for collectors of OpenTelemetry.
    pub telemetry: TelemetryConfig,
    /// Whether a change in the policy directory is put in force automatically; otherwise only by SIGHUP and
    /// `PolicyService`.
    pub policy_watch: bool,
    /// The configuration file whose `[keys]` the server keys follow; `None`: they stay.
    pub server_keys: Option<PathBuf>,
    /// Traces to send before the end; `None`: nothing is traced.
    pub traces: Option<Traces>,
    /// The service manager that is told of serving, reloading and stopping.
    pub service_manager: ServiceManager,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            server: ServeOptions::default(),
            audit_retention: Seconds::days(90),
            audit: AuditConfig::default(),
            telemetry: TelemetryConfig::default(),
            policy_watch: true,
            server_keys: None,
            traces: None,
            service_manager: ServiceManager::default(),
        }
    }
}

/// Serving failed, or the store could not be closed after it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server failed, or the store did while it served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The store could not be closed cleanly.
    #[error("the store could not be closed: {0}")]
    Close(Unavailable),
}

/// Serves `authority` until `shutdown` is ready, as [`tessera_server::serve`] does. Meanwhile it purges data that is no
/// longer needed and follows the policy directory. It closes the store at the end.
///
/// # Errors
/// See [`RunError`].
pub async fn run(
    listeners: Listeners,
    authority: Arc<Authority>,
    options: RunOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let RunOptions {
        server,
        audit_retention,
        audit,
        telemetry,
        policy_watch,
        server_keys,
        traces,
        service_manager,
    } = options;
    let mut server = server;
    server.traces = traces.as_ref().map(Traces::of_calls);
    let finish_time_max = server.limits.drain_time_max;
    let purging = tokio::spawn(Arc::clone(&authority).run_purging(audit_retention));
    let watching = policy_watcher::keep(
        Arc::clone(&authority),
        policy_watch,
        policy_watcher::hangup(),
        service_manager.clone(),
    );
    let watching = tokio::spawn(watching);
    let sinks = tokio::spawn(audit_sink::keep(Arc::clone(&authority), audit, telemetry));
    let tls = server.tls.clone();
    let certificates = tls.map(|tls| tokio::spawn(certificate_watcher::keep(tls, policy_watcher::hangup())));
    let server_keys = server_keys.map(|config| {
        let followed = server_key_watcher::keep(Arc::clone(&authority), config, policy_watcher::hangup());
        tokio::spawn(followed)
    });
    let watchdog = tokio::spawn(service_manager.clone().keep_watchdog());
    // The sockets are bound, and SIGHUP no longer ends the process.
    service_manager.ready("serving");
    let shutdown = async move {
        shutdown.await;
        service_manager.stopping();
    };
    let served = tessera_server::serve(listeners, Arc::clone(&authority), server, shutdown).await;
    let tasks = [purging, watching, sinks, watchdog];
    for task in tasks.into_iter().chain(certificates).chain(server_keys) {
        task.abort();
    }
    // In parallel with closing the store, which does not wait for the collector.
    let finished = finish(traces, finish_time_max);
    if let Err(error) = served {
        finished.await;
        return Err(error.into());
    }
    let (closed, ()) = tokio::join!(authority.close(), finished);
    closed.map_err(RunError::Close)?;
    tracing::info!("stopped");
    Ok(())
}

/// Sends the waiting spans, for at most `longest`.
async fn finish(traces: Option<Traces>, longest: Duration) {
    if let Some(traces) = traces {
        // It fails if the runtime ends, and then the process ends too.
        let _ = tokio::task::spawn_blocking(move || traces.finish(longest.min(FINISH_TIME_MAX))).await;
    }
}
