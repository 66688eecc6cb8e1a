//! `tessera key …`.

use serde_json::{Value, json};
use tessera_proto::v1::{Activation, ListSigningKeysRequest, RotateSigningKeyRequest, SigningKey};

use crate::{
    arguments::{Connection, Key, Output},
    failure::Failure,
    json::{enum_name, time},
    output::columns,
    terminal::visible,
};

pub(crate) async fn run(command: Key, connection: &Connection, output: &Output) -> Result<(), Failure> {
    let mut client = connection.signing_keys().await?;
    match command {
        Key::List => {
            let listed = client.list_signing_keys(ListSigningKeysRequest {}).await?;
            let keys = listed.into_inner().keys;
            let document = json!({ "keys": keys.iter().map(described).collect::<Vec<_>>() });
            output.print(&document, || table(&keys))
        }
        Key::Rotate { at_once, consent } => {
            if at_once {
                consent.ask(
                    "The new key signs immediately. Verifiers that do not have it yet refuse its tokens until they do.",
                )?;
            }
            let activation = if at_once {
                Activation::AtOnce
            } else {
                Activation::WhenKnown
            };
            let request = RotateSigningKeyRequest {
                activation: activation.into(),
            };
            let rotated = client.rotate_signing_key(request).await?.into_inner();
            let Some(key) = rotated.key else {
                return Err(Failure::cannot_run("the authority answered without a key"));
            };
            output.print(&described(&key), || told(&key))
        }
    }
}

fn described(key: &SigningKey) -> Value {
    json!({
        "kid": key.kid,
        "realm": key.realm,
        "status": status(key),
        "publish_time": time(key.publish_time.as_ref()),
        "not_before": time(key.not_before.as_ref()),
        "not_after": time(key.not_after.as_ref()),
        "waits_for": key.waits_for,
    })
}

fn status(key: &SigningKey) -> String {
    enum_name(key.status().as_str_name(), "KEY_STATUS_")
}

fn table(keys: &[SigningKey]) -> String {
    let rows: Vec<_> = keys.iter().map(row).collect();
    columns(
        [
            "KEY",
            "STATUS",
            "PUBLISHED",
            "SIGNS FROM",
            "VERIFIES UNTIL",
            "WAITS FOR",
        ],
        &rows,
    )
}

fn row(key: &SigningKey) -> [String; 6] {
    let text = |time: Option<String>| time.unwrap_or_else(|| "-".to_owned());
    [
        key.kid.clone(),
        status(key),
        text(time(key.publish_time.as_ref())),
        text(time(key.not_before.as_ref())),
        text(time(key.not_after.as_ref())),
        visible(&key.waits_for.join(" ")).into_owned(),
    ]
}

fn told(key: &SigningKey) -> String {
    let from = time(key.not_before.as_ref()).unwrap_or_default();
    if status(key) == "active" {
        return format!("{} signs from now on", key.kid);
    }
    format!(
        "{} is published. It signs from {from} on, once every required verifier has it: see `tessera key list`",
        key.kid
    )
}
