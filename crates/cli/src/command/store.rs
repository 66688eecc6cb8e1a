//! `tessera store …`.

use std::path::Path;

use serde_json::json;
use tessera_daemon::{Config, database, launch, store_copy, telemetry};

use crate::{
    arguments::{Output, Store},
    failure::Failure,
};

pub(crate) async fn run(command: &Store, output: &Output) -> Result<(), Failure> {
    match command {
        Store::Compact { config } => compact(&read(config)?, output).await,
        Store::Migrate { config } => migrate(&read(config)?, output).await,
        Store::Copy { from, to } => copy(&read(from)?, &read(to)?, output).await,
        Store::Init { config, consent } => {
            let config = read(config)?;
            consent.ask(&format!(
                "`{}` will be new and empty: the old sessions, API keys and signing keys are lost for good.",
                config.store.path.display()
            ))?;
            launch::init(&config).await?;
            let path = config.store.path.display().to_string();
            output.print(&json!({ "path": path }), || {
                format!("`{path}` is new and empty: make API keys with `tessera apikey create --config`\n")
            })
        }
    }
}

fn read(path: &Path) -> Result<Config, Failure> {
    let config = Config::read(path)?;
    telemetry::init(config.log.format, "warn");
    Ok(config)
}

async fn migrate(config: &Config, output: &Output) -> Result<(), Failure> {
    let (before, now) = database::migrate(config).await?;
    output.print(&json!({ "version_before": before, "version": now }), || {
        if before == now {
            format!("the schema is already at version {now}\n")
        } else {
            format!("the schema was at version {before}, and is now at version {now}\n")
        }
    })
}

async fn copy(from: &Config, to: &Config, output: &Output) -> Result<(), Failure> {
    let copied = store_copy::copy(from, to).await?;
    let store_copy::Copied { records, position } = copied;
    output.print(&json!({ "records": records, "position": position }), || {
        format!(
            "{records} records, up to event {position} of the log. From now on, serve with the other configuration \
             and the same server key\n"
        )
    })
}

async fn compact(config: &Config, output: &Output) -> Result<(), Failure> {
    let (before, after) = launch::compact(config).await?;
    output.print(&json!({ "bytes_before": before, "bytes_after": after }), || {
        format!("{} MiB before, {} MiB now\n", before >> 20, after >> 20)
    })
}
