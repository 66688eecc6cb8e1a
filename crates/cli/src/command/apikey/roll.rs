//! `tessera apikey roll`.

use serde_json::json;
use tessera_proto::v1::RollApiKeyRequest;

use super::id::{known, lost};
use crate::{
    arguments::{Connection, Output, RollApiKey},
    command::duration::duration,
    failure::Failure,
    json,
};

pub(super) async fn run(roll: RollApiKey, connection: &Connection, output: &Output) -> Result<(), Failure> {
    output.check_field(&["secret", "api_key", "previous"])?;
    let request = RollApiKeyRequest {
        id: known(roll.id)?,
        overlap: Some(duration(roll.overlap)),
        ttl: roll.expires.map(duration),
        allow_from: roll.allow_from.iter().map(ToString::to_string).collect(),
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
    output.print_once(&document, &lost(document.get("api_key")), || {
        format!(
            "{}\nThis is shown once. The old key works until {until}.",
            rolled.secret
        )
    })
}
