//! `tessera store …`.

use std::path::Path;

use serde_json::json;
use tessera_daemon::{Config, launch, telemetry};

use crate::{
    arguments::{Output, Store},
    failure::Failure,
};

pub(crate) async fn run(command: &Store, output: &Output) -> Result<(), Failure> {
    match command {
        Store::Compact { config } => compact(&read(config)?, output).await,
        Store::Init { config, consent } => {
            let config = read(config)?;
            consent.ask(&format!(
                "`{}` begins empty: the sessions, API keys and signing keys that were there are gone for good.",
                config.store.path.display()
            ))?;
            launch::init(&config).await.map_err(Failure::cannot_run)?;
            let path = config.store.path.display().to_string();
            output.print(&json!({ "path": path }), || {
                format!("`{path}` begins empty: make API keys with `tessera apikey create --config`\n")
            })
        }
    }
}

fn read(path: &Path) -> Result<Config, Failure> {
    let config = Config::read(path).map_err(Failure::cannot_run)?;
    telemetry::init(config.log.format, "warn");
    Ok(config)
}

async fn compact(config: &Config, output: &Output) -> Result<(), Failure> {
    let (before, after) = launch::compact(config).await.map_err(Failure::cannot_run)?;
    output.print(&json!({ "bytes_before": before, "bytes_after": after }), || {
        format!("{} MiB before, {} MiB now\n", before >> 20, after >> 20)
    })
}
