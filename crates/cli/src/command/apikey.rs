//! `tessera apikey …`.

use std::path::Path;

use serde_json::{Value, json};
use tessera_core::{ClientName, RealmName, Seconds};
use tessera_daemon::{Config, launch, telemetry};
use tessera_proto::v1::{
    self, CreateApiKeyRequest, EnableClientRequest, ListApiKeysRequest, RevokeApiKeyRequest,
    RollApiKeyRequest,
};

use crate::{
    arguments::{ApiKey, Connection, Output},
    command::duration,
    confirm::Consent,
    failure::Failure,
    json,
    output::columns,
    terminal::counted,
};

pub(crate) async fn run(command: ApiKey, connection: &Connection, output: &Output) -> Result<(), Failure> {
    match command {
        ApiKey::Create {
            name,
            realm,
            config: Some(config),
            ..
        } => create_offline(&name, realm.as_deref().unwrap_or_default(), &config, output).await,
        ApiKey::Create {
            name,
            realm,
            expires,
            config: None,
        } => {
            let request = CreateApiKeyRequest {
                name,
                realm: realm.unwrap_or_default(),
                ttl: expires.map(duration),
            };
            let made = connection
                .api_keys()
                .await?
                .create_api_key(request)
                .await?
                .into_inner();
            print_made(
                &made.secret,
                made.api_key.as_ref().map(json::api_key).as_ref(),
                output,
            )
        }
        ApiKey::List => list(connection, output).await,
        ApiKey::Roll { id, overlap } => roll(id, overlap, connection, output).await,
        ApiKey::Revoke {
            id,
            reason,
            with_made_keys,
            validate_only,
            consent,
        } => {
            let request = RevokeApiKeyRequest {
                id,
                reason,
                with_made_keys,
                validate_only,
            };
            if !validate_only && consent.is_to_be_asked() {
                ask(&request, &consent, connection).await?;
            }
            revoke(request, connection, output).await
        }
        ApiKey::Enable { name } => {
            let request = EnableClientRequest { name };
            connection.api_keys().await?.enable_client(request).await?;
            output.print(&json!({}), || "enabled".to_owned())
        }
    }
}

/// Asks before more ends than one key.
async fn ask(
    request: &RevokeApiKeyRequest,
    consent: &Consent,
    connection: &Connection,
) -> Result<(), Failure> {
    let preview = RevokeApiKeyRequest {
        validate_only: true,
        ..request.clone()
    };
    let ends = connection.api_keys().await?.revoke_api_key(preview).await?;
    let ends = ends.into_inner();
    if ends.api_key_ids.len() <= 1 && ends.matched == 0 {
        return Ok(());
    }
    consent.ask(&format!(
        "This revokes {} ({}) and ends {}.",
        counted(ends.api_key_ids.len(), "API key"),
        ends.api_key_ids.join(", "),
        counted(ends.matched, "live session"),
    ))
}

async fn revoke(
    request: RevokeApiKeyRequest,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let validate_only = request.validate_only;
    let revoked = connection.api_keys().await?.revoke_api_key(request).await?;
    let revoked = revoked.into_inner();
    let document = json!({
        "matched": revoked.matched,
        "cursor": revoked.cursor,
        "api_key_ids": revoked.api_key_ids,
        "made_key_ids": revoked.made_key_ids,
    });
    output.print(&document, || {
        let keys = revoked.api_key_ids.join(", ");
        let mut text = match (keys.as_str(), validate_only) {
            ("", _) => "there is no such key in the realm".to_owned(),
            (keys, true) => format!(
                "would revoke {keys}; live sessions that would end: {}",
                revoked.matched
            ),
            (keys, false) => format!("revoked {keys}; live sessions ended: {}", revoked.matched),
        };
        if !revoked.made_key_ids.is_empty() {
            text += &format!(
                "\nmade with it, and still working: {} (--with-made-keys ends them too)",
                revoked.made_key_ids.join(", ")
            );
        }
        text
    })
}

async fn roll(id: String, overlap: Seconds, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let request = RollApiKeyRequest {
        id,
        overlap: Some(duration(overlap)),
    };
    let rolled = connection
        .api_keys()
        .await?
        .roll_api_key(request)
        .await?
        .into_inner();
    let document = json!({
        "secret": rolled.secret,
        "api_key": rolled.api_key.as_ref().map(json::api_key),
        "previous": rolled.previous.as_ref().map(json::api_key),
    });
    let until = rolled
        .previous
        .and_then(|key| json::time(key.expire_time.as_ref()))
        .unwrap_or_default();
    output.print(&document, || {
        format!(
            "{}\nThis is shown once. The old key works until {until}.",
            rolled.secret
        )
    })
}

/// Writes to the data directory itself, which only its owner can do: the way to a realm's first key.
async fn create_offline(name: &str, realm: &str, config: &Path, output: &Output) -> Result<(), Failure> {
    let client = ClientName::from_short(name).map_err(Failure::cannot_run)?;
    let realm = RealmName::parse(realm).map_err(Failure::cannot_run)?;
    let config = Config::read(config).map_err(Failure::cannot_run)?;
    telemetry::init(config.log.format, "warn");
    if !config.realms.contains_key(&realm) {
        return Err(Failure::cannot_run(format!(
            "realm `{realm}` is not in the configuration"
        )));
    }
    let authority = launch::open(&config).await.map_err(Failure::cannot_run)?;
    let new = authority
        .create_operator_api_key(&realm, client)
        .await
        .map_err(Failure::cannot_run)?;
    authority.close().await.map_err(Failure::cannot_run)?;
    let record = json!({ "id": new.record.id, "client": new.record.client, "realm": new.record.realm });
    print_made(new.secret.expose(), Some(&record), output)
}

fn print_made(secret: &str, api_key: Option<&Value>, output: &Output) -> Result<(), Failure> {
    let document = json!({ "secret": secret, "api_key": api_key });
    output.print(&document, || {
        format!("{secret}\nThis is shown once: keep it now.")
    })
}

async fn list(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let mut client = connection.api_keys().await?;
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_api_keys(ListApiKeysRequest {
                page_size: 500,
                page_token,
            })
            .await?
            .into_inner();
        keys.extend(page.api_keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let document = json!({ "api_keys": keys.iter().map(json::api_key).collect::<Vec<_>>() });
    output.print(&document, || match keys.is_empty() {
        true => "no API keys".to_owned(),
        false => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            columns(["ID", "STATUS", "CLIENT", "CREATED", "ENDS"], &rows)
        }
    })
}

fn row(key: &v1::ApiKey) -> [String; 5] {
    let end = key.revoke_time.as_ref().or(key.expire_time.as_ref());
    [
        key.id.clone(),
        json::enum_name(key.status().as_str_name(), "API_KEY_STATUS_"),
        key.client.clone(),
        json::time(key.create_time.as_ref()).unwrap_or_default(),
        json::time(end).unwrap_or_else(|| "never".to_owned()),
    ]
}
