//! `tessera restore`: prepares a data directory that was restored from a copy for serving.

use serde_json::{Map, Value, json};
use tessera_authority::Restored;
use tessera_core::{ApiKey, KeyId};
use tessera_daemon::{Config, restore, telemetry};

use crate::{
    arguments::{Output, Restore},
    failure::Failure,
    output::table,
};

pub(crate) async fn run(arguments: &Restore, output: &Output) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    telemetry::init(config.log.format, "warn");
    let api_keys = if arguments.revoke_api_keys {
        ", and revokes all API keys"
    } else {
        ""
    };
    arguments.consent.ask(&format!(
        "This ends every session and token of every realm in the copy, replaces all signing keys{api_keys}."
    ))?;
    let restored = restore::restore_copy(&config, arguments.revoke_api_keys).await?;
    let document = Value::Object(document(&restored, arguments.revoke_api_keys));
    output.print(&document, || text(&restored, arguments.revoke_api_keys))
}

/// The result, for a program.
pub(super) fn document(restored: &Restored, are_revoked: bool) -> Map<String, Value> {
    let signing_keys = ids(restored.signing_keys.iter().map(|key| &key.id));
    let api_keys: Vec<_> = restored.api_keys.iter().map(api_key).collect();
    let members = [
        ("sessions_ended", Value::Object(sessions(restored))),
        ("signing_keys_revoked", json!(signing_keys)),
        ("api_keys", json!(api_keys)),
        ("api_keys_revoked", json!(are_revoked)),
    ];
    members
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn sessions(restored: &Restored) -> Map<String, Value> {
    let counts = restored.sessions.iter();
    counts
        .map(|(realm, count)| (realm.to_string(), Value::from(*count)))
        .collect()
}

fn ids<'a>(ids: impl Iterator<Item = &'a KeyId>) -> Vec<String> {
    ids.map(ToString::to_string).collect()
}

fn api_key(key: &ApiKey) -> Value {
    json!({
        "id": key.id.to_string(),
        "realm": key.realm.to_string(),
        "client": key.client.to_string(),
        "create_time": key.created_at.to_string(),
    })
}

/// The same for people.
pub(super) fn text(restored: &Restored, are_revoked: bool) -> String {
    let counts: Vec<_> = restored
        .sessions
        .iter()
        .map(|(realm, count)| (realm.as_str(), format!("{count} sessions ended")))
        .collect();
    let api_keys: String = restored
        .api_keys
        .iter()
        .map(|key| {
            format!(
                "  {}  {}  {}  made {}\n",
                key.id, key.realm, key.client, key.created_at
            )
        })
        .collect();
    let about_api_keys = match (restored.api_keys.is_empty(), are_revoked) {
        (true, _) => "no API key of the copy works",
        (false, true) => "API keys of the copy, revoked:",
        (false, false) => {
            "API keys of the copy that work: revoke again those that were revoked since then, or all with --revoke-api-keys"
        }
    };
    format!(
        "{}{} signing keys revoked and replaced\nthe revocation log starts again; every earlier token is refused\n{about_api_keys}\n{api_keys}",
        table(&counts),
        restored.signing_keys.len(),
    )
}
