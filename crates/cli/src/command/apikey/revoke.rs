//! `tessera apikey revoke`.

use serde_json::json;
use tessera_proto::v1::RevokeApiKeyRequest;

use super::id::known;
use crate::{
    arguments::{Connection, Output, RevokeApiKey},
    confirm::Consent,
    failure::Failure,
    terminal::counted,
};

pub(super) async fn run(
    revoke: RevokeApiKey,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let request = RevokeApiKeyRequest {
        id: known(revoke.id)?,
        reason: revoke.reason,
        with_made_keys: revoke.with_made_keys,
        validate_only: revoke.validate_only,
    };
    if !request.validate_only && revoke.consent.is_to_be_asked() {
        ask(&request, &revoke.consent, connection).await?;
    }
    print_revoked(request, connection, output).await
}

/// Asks for confirmation if more than one key ends.
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

async fn print_revoked(
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
