//! `tessera serve`: an authority in production.

use std::{io, sync::Arc};

use tessera_authority::Authority;
use tessera_daemon::{Config, LaunchError, RunOptions, ServiceManager, StartProgress, launch, telemetry};
use tessera_server::{Listeners, ServeOptions, Starting, Tls};
use tokio::net::TcpListener;

use crate::{arguments::Serve, command::shutdown, failure::Failure};

pub(crate) async fn run(arguments: &Serve) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    let traces = telemetry::init_traced(config.log.format, "info", &config.telemetry);
    let limits = config.limits();
    let mut shutdown = Box::pin(shutdown::requested_within(&limits)?);
    let tls = config
        .server
        .tls
        .as_ref()
        .map(Tls::read)
        .transpose()
        .map_err(LaunchError::from)?;
    for note in tls.iter().flat_map(Tls::notes) {
        tracing::warn!("{note}");
    }
    if tls.is_none() && !config.server.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.server.listen, "plaintext on a public address: API keys can be read in transit; set [server.tls]");
    }
    let listeners = bind(&config).await?;
    let progress = StartProgress::default();
    let starting = listeners
        .admin
        .as_ref()
        .map(|admin| answer(admin, progress.clone()));
    let starting = starting.transpose().map_err(Failure::cannot_run)?;
    let authority = tokio::select! {
        started = start(&config, arguments, &progress) => started?,
        () = &mut shutdown => {
            tracing::info!("stopped before it was ready");
            return Ok(());
        }
    };
    drop(starting);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.server.listen,
        policy = %authority.policy().revision(),
        tls = tls.is_some(),
        "serving"
    );
    let options = RunOptions {
        server: ServeOptions {
            limits,
            tls,
            http: config.http(),
            traces: None,
        },
        audit_retention: config.store.audit_retention.seconds(),
        audit: config.audit.clone(),
        telemetry: config.telemetry.clone(),
        policy_watch: config.policy.watch,
        server_keys: Some(arguments.config.clone()),
        traces,
        service_manager: ServiceManager::from_environment(),
    };
    let served = tessera_daemon::run(listeners, authority.clone(), options, shutdown).await;
    launch::note_end(&config, &authority);
    served.map_err(Failure::cannot_run)
}

/// Answers probes until the authority serves.
fn answer(admin: &TcpListener, progress: StartProgress) -> io::Result<Starting> {
    Starting::answer(admin, move || progress.to_string())
}

/// Opens the authority, and warns of a realm that no client can call.
async fn start(
    config: &Config,
    arguments: &Serve,
    progress: &StartProgress,
) -> Result<Arc<Authority>, Failure> {
    let authority = launch::open(config, arguments.clock.machine_clock(), progress).await?;
    for realm in authority.realms().keys() {
        if !authority
            .credentials()
            .has_working_api_key(realm)
            .await
            .map_err(Failure::cannot_run)?
        {
            tracing::warn!(%realm, "no API key works in this realm: stop, and run `tessera apikey create NAME --realm {realm} --config {}`", arguments.config.display());
        }
    }
    Ok(authority)
}

/// Binds before the store is opened: an address that is in use is found at once.
async fn bind(config: &Config) -> Result<Listeners, Failure> {
    let public = listen("listen", config.server.listen).await?;
    let admin = match config.server.admin_listen {
        Some(address) => Some(listen("admin_listen", address).await?),
        None => None,
    };
    Ok(Listeners { public, admin })
}

pub(crate) async fn listen(name: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::cannot_run(format!(
            "can't listen on {address}: {error} (choose another with `{name}`)"
        ))
    })
}
