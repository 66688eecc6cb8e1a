//! The status from the authority's API: of the realm of an API key, without the admin socket. Values that the API does
//! not return are not in the document.

use serde_json::{Value, json};
use tessera_proto::v1::{
    GetStatusRequest, ListApiKeysRequest, ListSigningKeysRequest, ListSubscribersRequest, ReloadOutcome,
    SigningKey, Subscriber,
};

use crate::{
    arguments::Connection,
    failure::Failure,
    json::{enum_name, time},
};

/// Keys that end within this time should be rolled.
const KEYS_END_SOON: prost_types::Duration = prost_types::Duration {
    seconds: 7 * 86_400,
    nanos: 0,
};

pub(super) async fn document(connection: &Connection) -> Result<Value, Failure> {
    let mut policies = connection.policies().await?;
    let status = policies.get_status(GetStatusRequest {}).await?.into_inner();
    let mut keys = connection.signing_keys().await?;
    let keys = keys
        .list_signing_keys(ListSigningKeysRequest {})
        .await?
        .into_inner()
        .keys;
    let mut revocations = connection.revocations().await?;
    let subscribers = revocations.list_subscribers(ListSubscribersRequest {}).await?;
    let subscribers = subscribers.into_inner().subscribers;
    let ending = ending_keys(connection).await?;

    let realm = keys.first().map_or("", |key| key.realm.as_str());
    let is_refused = status.attempt_outcome() == ReloadOutcome::Refused;
    let mut attention = Vec::new();
    if is_refused {
        attention.push(
            json!({ "code": "policy_refused", "message": "the last change of policy was refused",
            "todo": "`tessera policy status` says why" }),
        );
    }
    if ending > 0 {
        attention.push(json!({ "code": "api_keys_ending",
            "message": format!("{ending} API keys of {realm} end within 7d and have no successor"),
            "todo": "`tessera apikey list --expiring 7d`, then `tessera apikey roll`" }));
    }
    attention.extend(subscribers.iter().filter_map(|state| behind(state, realm)));
    Ok(json!({
        "policy": { "revision": status.policy_revision, "last_change_refused": is_refused },
        "realms": [{
            "name": realm,
            "signing_keys": keys.iter().map(signing_key).collect::<Vec<_>>(),
            "api_keys_ending": { "7d": ending },
        }],
        "verifiers": subscribers.iter().map(|state| verifier(state, realm)).collect::<Vec<_>>(),
        "attention": attention,
    }))
}

/// How many API keys of the realm end soon.
async fn ending_keys(connection: &Connection) -> Result<usize, Failure> {
    let mut client = connection.api_keys().await?;
    let (mut ending, mut page_token) = (0, String::new());
    loop {
        let request = ListApiKeysRequest {
            page_token,
            ends_within: Some(KEYS_END_SOON),
            ..ListApiKeysRequest::default()
        };
        let listed = client.list_api_keys(request).await?.into_inner();
        ending += listed.api_keys.len();
        page_token = listed.next_page_token;
        if page_token.is_empty() {
            return Ok(ending);
        }
    }
}

fn signing_key(key: &SigningKey) -> Value {
    json!({
        "id": key.kid,
        "status": enum_name(key.status().as_str_name(), "KEY_STATUS_"),
        "not_before": time(key.not_before.as_ref()),
        "not_after": time(key.not_after.as_ref()),
    })
}

fn behind(state: &Subscriber, realm: &str) -> Option<Value> {
    let silent = seconds(state.silent_for.as_ref());
    let is_behind = state.events_behind > 0 && !state.failed_closed && silent > 10.0;
    is_behind.then(|| {
        let (name, client) = (&state.name, &state.client);
        json!({ "code": "verifier_behind",
            "message": format!("verifier {name} of {client} ({realm}) is {} events behind", state.events_behind),
            "todo": format!("look at it, or `tessera subscribers evict {client} {name}`") })
    })
}

fn verifier(state: &Subscriber, realm: &str) -> Value {
    json!({
        "realm": realm,
        "client": state.client,
        "name": state.name,
        "events_behind": state.events_behind,
        "silent_for_seconds": seconds(state.silent_for.as_ref()),
        "staleness_bound_seconds": seconds(state.staleness_bound.as_ref()),
        "connected": state.connected,
        "failed_closed": state.failed_closed,
        "node": (!state.node.is_empty()).then_some(&state.node),
    })
}

fn seconds(length: Option<&prost_types::Duration>) -> f64 {
    let length = length.copied().unwrap_or_default();
    std::time::Duration::try_from(length).map_or(0.0, |length| length.as_secs_f64())
}
