//! `tessera apikey create`.

use std::path::Path;

use serde_json::{Value, json};
use tessera_authority::ApiKeyTerms;
use tessera_core::{ClientName, MachineClock, RealmName, api_key::ALLOW_FROM_MAX};
use tessera_daemon::{Config, StartProgress, launch, telemetry};
use tessera_proto::v1::CreateApiKeyRequest;

use super::id::lost;
use crate::{
    arguments::{Connection, CreateApiKey, Output},
    command::duration::duration,
    failure::Failure,
    json,
};

pub(super) async fn run(
    create: CreateApiKey,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    output.check_field(&["secret", "api_key"])?;
    if let Some(config) = &create.config {
        return offline(&create, config, output).await;
    }
    let request = CreateApiKeyRequest {
        name: create.name,
        realm: create.realm.unwrap_or_default(),
        ttl: create.expires.map(duration),
        allow_from: create.allow_from.iter().map(ToString::to_string).collect(),
    };
    let made = connection.api_keys().await?.create_api_key(request).await?;
    let made = made.into_inner();
    let described = made.api_key.as_ref().map(json::api_key);
    print_made(&made.secret, described.as_ref(), output)
}

/// Writes to the data directory itself, which only its owner can do: for a realm's first key.
async fn offline(create: &CreateApiKey, config: &Path, output: &Output) -> Result<(), Failure> {
    let client = ClientName::from_short(&create.name).map_err(Failure::cannot_run)?;
    let realm = RealmName::parse(create.realm.as_deref().unwrap_or_default()).map_err(Failure::cannot_run)?;
    if create.allow_from.len() > ALLOW_FROM_MAX {
        let problem = format!("--allow-from can be given at most {ALLOW_FROM_MAX} times");
        return Err(Failure::cannot_run(problem));
    }
    let terms = ApiKeyTerms {
        ttl: create.expires,
        allow_from: create.allow_from.clone(),
    };
    let config = Config::read(config)?;
    telemetry::init(config.log.format, "warn");
    if !config.realms.contains_key(&realm) {
        return Err(Failure::cannot_run(format!(
            "realm `{realm}` is not in the configuration"
        )));
    }
    let authority = launch::open(&config, MachineClock::Unknown, &StartProgress::default()).await?;
    let new = authority
        .credentials()
        .create_operator_api_key(&realm, client, terms)
        .await
        .map_err(Failure::cannot_run)?;
    authority.close().await.map_err(Failure::cannot_run)?;
    let record = json!({ "id": new.record.id, "client": new.record.client, "realm": new.record.realm });
    print_made(new.secret.expose(), Some(&record), output)
}

fn print_made(secret: &str, api_key: Option<&Value>, output: &Output) -> Result<(), Failure> {
    let document = json!({ "secret": secret, "api_key": api_key });
    output.print_once(&document, &lost(api_key), || {
        format!("{secret}\nThis is shown once: keep it now.")
    })
}
