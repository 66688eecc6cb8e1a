//! `ApiKeyService` from the wire and back.

use prost_types::Duration as WireDuration;
use tessera_authority::{ApiKeyTerms, CreateApiKey, ListApiKeys, RevokeRequest, RevokeTarget, RollApiKey};
use tessera_core::{
    AddressRange, ApiKey, ApiKeyId, ApiKeyStatus, ClientName, RealmName, Timestamp, api_key::ALLOW_FROM_MAX,
};
use tessera_proto::v1;

use super::{
    revoke::revoke_one,
    time::{seconds, timestamp},
};
use crate::{error::ApiError, fields::Fields};

pub(crate) fn api_key_id(text: &str) -> Result<ApiKeyId, ApiError> {
    let mut fields = Fields::default();
    let id = fields.required("id", text, ApiKeyId::parse);
    fields.finish(id)
}

pub(crate) fn create_api_key(wire: &v1::CreateApiKeyRequest) -> Result<CreateApiKey, ApiError> {
    let mut fields = Fields::default();
    let client = fields.required("name", &wire.name, ClientName::from_short);
    let realm = fields.optional("realm", &wire.realm, RealmName::parse);
    let terms = terms(&mut fields, wire.ttl.as_ref(), &wire.allow_from);
    fields.finish(client.map(|client| CreateApiKey { client, realm, terms }))
}

pub(crate) fn roll_api_key(wire: &v1::RollApiKeyRequest) -> Result<RollApiKey, ApiError> {
    let mut fields = Fields::default();
    let id = fields.required("id", &wire.id, ApiKeyId::parse);
    let overlap = seconds(&mut fields, "overlap", wire.overlap.as_ref());
    let terms = terms(&mut fields, wire.ttl.as_ref(), &wire.allow_from);
    fields.finish(id.map(|id| RollApiKey { id, overlap, terms }))
}

fn terms(fields: &mut Fields, ttl: Option<&WireDuration>, allow_from: &[String]) -> ApiKeyTerms {
    let ttl = seconds(fields, "ttl", ttl);
    if allow_from.len() > ALLOW_FROM_MAX {
        let many = allow_from.len();
        let problem = format!("has {many} entries; at most {ALLOW_FROM_MAX} are allowed");
        fields.reject("allow_from", problem);
        return ApiKeyTerms::default();
    }
    let mut ranges = Vec::new();
    for (index, text) in allow_from.iter().enumerate() {
        match text.parse::<AddressRange>() {
            Ok(range) => ranges.push(range),
            Err(error) => fields.reject(format!("allow_from[{index}]"), error),
        }
    }
    ApiKeyTerms {
        ttl,
        allow_from: ranges,
    }
}

/// A request to revoke an API key.
pub(crate) fn revoke_api_key(wire: &v1::RevokeApiKeyRequest) -> Result<RevokeRequest, ApiError> {
    let target = RevokeTarget::ApiKey(api_key_id(&wire.id)?);
    Ok(RevokeRequest {
        validate_only: wire.validate_only,
        with_made_keys: wire.with_made_keys,
        ..revoke_one(target, &wire.reason)?
    })
}

/// The name of a client.
pub(crate) fn client_name(text: &str) -> Result<ClientName, ApiError> {
    let mut fields = Fields::default();
    let client = fields.required("name", text, ClientName::from_short);
    fields.finish(client)
}

pub(crate) fn list_api_keys(wire: v1::ListApiKeysRequest) -> Result<ListApiKeys, ApiError> {
    let mut fields = Fields::default();
    let page_size = fields.page_size(wire.page_size);
    let unused_for = seconds(&mut fields, "unused_for", wire.unused_for.as_ref());
    let ends_within = seconds(&mut fields, "ends_within", wire.ends_within.as_ref());
    fields.finish(Some(ListApiKeys {
        page_size,
        page_token: wire.page_token,
        unused_for,
        ends_within,
    }))
}

pub(crate) fn api_key(key: &ApiKey, now: Timestamp) -> v1::ApiKey {
    let status = match key.status(now) {
        ApiKeyStatus::Active => v1::ApiKeyStatus::Active,
        ApiKeyStatus::Rolled => v1::ApiKeyStatus::Rolled,
        ApiKeyStatus::Expired => v1::ApiKeyStatus::Expired,
        ApiKeyStatus::Revoked => v1::ApiKeyStatus::Revoked,
    };
    v1::ApiKey {
        id: key.id.to_string(),
        client: key.client.to_string(),
        realm: key.realm.to_string(),
        status: status.into(),
        create_time: Some(timestamp(key.created_at)),
        expire_time: key.expires_at.map(timestamp),
        revoke_time: key.revoked_at.map(timestamp),
        last_use_time: key.last_used_on.map(timestamp),
        allow_from: key.allow_from.iter().map(ToString::to_string).collect(),
        successor_id: text(key.successor.as_ref()),
        made_with_id: text(key.made_with.as_ref()),
        made_by: text(key.made_by.as_ref()),
        replaces_id: text(key.replaces.as_ref()),
    }
}

fn text(name: Option<&impl ToString>) -> String {
    name.map_or_else(String::new, ToString::to_string)
}
