//! API keys in an operator's use, with the binary.

use std::process::Command;

use serde_json::Value;

use crate::{
    serving::{Place, serve},
    support::{Client, json, stderr, tessera, viewer},
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

#[tokio::test(flavor = "multi_thread")]
async fn keys_to_look_at_are_listed() {
    let place = Place::new();
    let key = place.first_key("production");
    let _authority = serve(&place.config(), &place.address);
    let create = ["apikey", "create", "shop", "--expires", "7d"];
    let made = json(with_key(&place, &key).args(create));
    let id = &made["api_key"]["id"];
    let expiring = list(&place, &key, &["--expiring", "14d"]);
    assert_eq!(expiring.iter().map(|key| &key["id"]).collect::<Vec<_>>(), [id]);
    assert!(list(&place, &key, &["--expiring", "6d"]).is_empty());
    assert!(list(&place, &key, &["--stale", "90d"]).is_empty());
    let stale = list(&place, &key, &["--stale", "0s", "--expiring", "14d"]);
    assert_eq!(stale.iter().map(|key| &key["id"]).collect::<Vec<_>>(), [id]);
    let shown = json(with_key(&place, &key).args(["apikey", "show", id.as_str().unwrap()]));
    assert_eq!(shown["api_key"]["made_with_id"], key["api_key"]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_realm_whose_kind_was_changed_say_so() {
    let place = Place::new();
    let (key, other) = (place.first_key("production"), place.first_key("production"));
    let (before, after) = ("kind = \"production\"", "kind = \"sandbox\"");
    place.edit("tessera.toml", before, after);
    let authority = serve(&place.config(), &place.address);
    let output = with_key(&place, &key).args(["apikey", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = "this API key was made when the realm `production` was a production realm, and it is a sandbox realm now: \
        make a new key, or change `kind` back";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    // A wrong key learns nothing.
    let mut wrong = other["secret"].as_str().unwrap().to_owned();
    let last = if wrong.ends_with('0') { "1" } else { "0" };
    wrong.replace_range(wrong.len() - 1.., last);
    let refused = Client::connect(&place.address, &wrong).await;
    let status = refused.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(status.message(), "the API key is not accepted");
    assert!(authority.stop().success());
    // The refusal is in the audit trail.
    place.edit("tessera.toml", after, before);
    let _authority = serve(&place.config(), &place.address);
    let refused = json(with_key(&place, &key).args(["audit", "list", "--action", "credential_refused"]));
    assert_eq!(
        refused["records"][0]["api_key_id"], key["api_key"]["id"],
        "{refused}"
    );
}
