//! The id of an API key: as input, and in messages.

use serde_json::Value;
use tessera_core::ApiKeyId;

use crate::failure::Failure;

/// The id of a key, if it may be one. Often the name of a client is given instead.
pub(super) fn known(id: String) -> Result<String, Failure> {
    match ApiKeyId::parse(&id) {
        Ok(_) => Ok(id),
        Err(error) => Err(Failure::cannot_run(error).with_hint(
            "`tessera apikey list` shows the ids; `tessera revoke --client NAME --disable` ends all keys of a client",
        )),
    }
}

/// The remedy for a key whose secret was not read.
pub(super) fn lost(api_key: Option<&Value>) -> String {
    let id = api_key.and_then(|key| key.get("id")).and_then(Value::as_str);
    let id = id.unwrap_or("ID");
    format!(
        "the key {id} was made, but its secret is lost: revoke it with `tessera apikey revoke {id}`, and make another"
    )
}
