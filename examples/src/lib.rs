//! What all examples need: settings from the environment, and serving until Ctrl-C.
#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    fs,
    io::{self, IsTerminal},
};

use axum::Router;
use tessera_client::{ApiKey, Connection};
use tokio::net::TcpListener;

/// What went wrong, for whoever started the service.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The authority that `TESSERA_ADDR` and `TESSERA_API_KEY` name, as for `tessera` itself. `TESSERA_CA` is the file of a
/// certificate authority that this system does not trust.
///
/// # Errors
/// Fails if there is no valid API key, or the file can't be read.
pub fn authority() -> Result<Connection, Failure> {
    let address = setting("TESSERA_ADDR", "http://127.0.0.1:7600");
    let key =
        variable("TESSERA_API_KEY").ok_or("no API key: set TESSERA_API_KEY (`tessera dev` prints one)")?;
    let key = ApiKey::parse(&key).map_err(|error| format!("TESSERA_API_KEY: {error}"))?;
    let connection = Connection::new(address, key);
    let Some(file) = variable("TESSERA_CA") else {
        return Ok(connection);
    };
    let pem = fs::read(&file).map_err(|error| format!("TESSERA_CA: {file}: {error}"))?;
    Ok(connection.certificate_authority(pem))
}

/// A variable of the environment, or its default.
#[must_use]
pub fn setting(name: &str, default: &str) -> String {
    variable(name).unwrap_or_else(|| default.to_owned())
}

/// A variable of the environment; one that is empty is as if it were not set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Logs to stderr what `RUST_LOG` says, or what is worth a warning.
pub fn log() {
    let filter = setting("RUST_LOG", "warn,tessera_client=info");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// Binds `LISTEN`, or `default`.
///
/// # Errors
/// Fails where it is no address, or taken.
pub async fn listen(default: &str) -> Result<TcpListener, Failure> {
    let address = setting("LISTEN", default);
    let listener = TcpListener::bind(&address).await;
    listener.map_err(|error| format!("`{address}` can't be listened at: {error}").into())
}

/// Prints where the service is as a line for the shell, and serves until Ctrl-C.
///
/// # Errors
/// Fails where the socket breaks.
pub async fn serve(variable: &str, listener: TcpListener, router: Router) -> Result<(), Failure> {
    println!("export {variable}=http://{}", listener.local_addr()?);
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C can't be heard: stopping");
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}
