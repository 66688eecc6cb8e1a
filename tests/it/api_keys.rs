//! API keys as an operator has them, with the binary.

use std::process::Command;

use serde_json::Value;

use crate::{
    serving::{Place, serve},
    support::{Client, json, tessera, viewer},
};

/// The command line with an API key of `place`.
fn with_key(place: &Place, api_key: &Value) -> Command {
    let mut command = tessera();
    command
        .env("TESSERA_ADDR", &place.address)
        .env("TESSERA_API_KEY", api_key["secret"].as_str().unwrap());
    command
}

/// The keys that `tessera apikey list` lists with these arguments.
fn list(place: &Place, api_key: &Value, arguments: &[&str]) -> Vec<Value> {
    let listed = json(with_key(place, api_key).args(["apikey", "list"]).args(arguments));
    listed["api_keys"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_is_not_forgotten_at_a_stop() {
    let place = Place::new();
    let (used, other) = (place.first_key("production"), place.first_key("production"));
    let authority = serve(&place.config(), &place.address);
    let client = Client::connect(&place.address, used["secret"].as_str().unwrap()).await;
    client.issue(viewer("user:ann")).await.unwrap();
    drop(client);
    assert!(authority.stop().success());
    let _authority = serve(&place.config(), &place.address);
    let listed = list(&place, &other, &[]);
    let key = listed
        .iter()
        .find(|key| key["id"] == used["api_key"]["id"])
        .unwrap();
    assert!(
        key["last_use_time"].as_str().unwrap().ends_with("T00:00:00Z"),
        "{key}"
    );
}
