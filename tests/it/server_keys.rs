//! A server key is replaced by another one, with the binary.

use std::fs;

use serde_json::Value;

use crate::{
    serving::{Place, free_port, serve},
    support::{Authority, Client, access, json, refresh, soon, stderr, tessera, viewer},
};

fn status(place: &Place) -> Value {
    json(
        tessera()
            .args(["serverkey", "status", "--config"])
            .arg(place.config()),
    )
}

fn new_key(place: &Place, name: &str) -> String {
    let made = json(tessera().args(["serverkey", "new"]).arg(place.path(name)));
    made["id"].as_str().unwrap().to_owned()
}

fn start(place: &Place) -> Authority {
    serve(&place.config(), &place.address)
}

async fn until(place: &Place, what: &str, happened: impl Fn(&Value) -> bool) {
    soon(what, async {
        while !happened(&status(place)) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[test]
fn a_new_key_is_in_a_file_of_its_owner_and_is_not_printed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new.key");
    let run = || tessera().args(["serverkey", "new"]).arg(&file).output().unwrap();
    let made = run();
    assert!(made.status.success(), "{}", stderr(&made));
    let key = fs::read_to_string(&file).unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&made.stdout), stderr(&made));
    assert!(said.contains("k4.lid.") && !said.contains(key.trim()), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!run().status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_key_is_replaced_while_the_authority_serves() {
    let place = Place::new();
    let admin = format!("admin_listen = \"127.0.0.1:{}\"", free_port());
    place.edit("tessera.toml", "admin_listen = \"127.0.0.1:0\"", &admin);
    let made = place.first_key("production");
    let secret = made["secret"].as_str().unwrap();
    let authority = start(&place);
    let client = Client::connect(&place.address, secret).await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    let before = status(&place)["current"]["id"].as_str().unwrap().to_owned();

    // The previous key is not named: nothing changes, and the status reports it.
    let new = new_key(&place, "second.key");
    place.edit("tessera.toml", "file = \"server.key\"", "file = \"second.key\"");
    authority.signal("HUP");
    until(&place, "a refusal", |status| {
        status["last_change_refused"] == true
    })
    .await;
    assert_eq!(status(&place)["current"]["id"], before);
    client.issue(viewer("user:bob")).await.unwrap();

    place.edit("tessera.toml", "previous = []", "previous = [\"server.key\"]");
    authority.signal("HUP");
    until(&place, "the new key", |status| {
        status["current"]["id"] == new && status["last_change_refused"] == false
    })
    .await;
    let told = status(&place);
    assert_eq!(told["current"]["signing_keys"], 2);
    assert_eq!(
        (&told["previous"][0]["id"], &told["previous"][0]["signing_keys"]),
        (&before.into(), &0.into())
    );
    let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();

    // After a crash the directory starts, also with the new key alone, and so does its witness.
    authority.kill();
    place.edit("tessera.toml", "previous = [\"server.key\"]", "previous = []");
    assert!(place.path("second.key.witness").exists());
    fs::remove_file(place.path("server.key")).unwrap();
    let authority = start(&place);
    let client = Client::connect(&place.address, secret).await;
    assert!(client.introspect(&access(refreshed.tokens.as_ref())).await.active);
    client.refresh(&refresh(refreshed.tokens.as_ref())).await.unwrap();
    // A file that no longer has a key changes nothing.
    fs::write(place.path("second.key"), "k4.local.short").unwrap();
    authority.signal("HUP");
    until(&place, "a refusal", |status| {
        status["last_change_refused"] == true
    })
    .await;
    client.issue(viewer("user:ann")).await.unwrap();
}

/// The same after the files were replaced while the authority was stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_seals_anew_and_knows_the_last_state_by_the_key_before() {
    let place = Place::new();
    place.first_key("production");
    assert!(start(&place).stop().success());
    new_key(&place, "second.key");
    place.edit("tessera.toml", "file = \"server.key\"", "file = \"second.key\"");
    place.edit("tessera.toml", "previous = []", "previous = [\"server.key\"]");
    let copy = place.path("copy");
    crate::support::copy_directory(&place.path("data"), &copy);
    assert!(start(&place).stop().success());
    // The witness is beside the new key now; an older copy is detected.
    fs::remove_dir_all(place.path("data")).unwrap();
    crate::support::copy_directory(&copy, &place.path("data"));
    let refused = tessera()
        .args(["serve", "--config"])
        .arg(place.config())
        .output()
        .unwrap();
    assert!(
        stderr(&refused).contains("tessera restore"),
        "{}",
        stderr(&refused)
    );
}

/// A sealing key may move from a file into the environment: it is the same key.
#[test]
fn a_key_is_sealed_by_one_that_is_in_a_file_or_in_the_environment() {
    let place = Place::new();
    let sealing = place.path("sealing.key");
    let made = tessera()
        .args(["serverkey", "new-sealing-key"])
        .arg(&sealing)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let plain = fs::read_to_string(place.config()).unwrap();
    let configure = |section: &str| {
        fs::write(place.config(), format!("{plain}\n[keys.sealer]\n{section}\n")).unwrap();
    };
    configure("kind = \"file\"\npath = \"sealing.key\"");
    // The first start makes a key, and it is sealed.
    assert!(start(&place).stop().success());
    let sealed = fs::read_to_string(place.path("server.key")).unwrap();
    assert!(sealed.starts_with("tessera sealed server key 1\n"), "{sealed}");

    configure("kind = \"environment\"");
    let secret = fs::read_to_string(&sealing).unwrap();
    let other = "k4.local.cGFzc3dvcmQgY2FuYXJ5IHBhc3N3b3JkIGNhbmFyeSE";
    for (key, code, said) in [
        (secret.as_str(), 0, "can be served"),
        (
            "",
            1,
            "no sealing key: set TESSERA_SEALING_KEY in the environment",
        ),
        (
            "canary",
            1,
            "the sealing key in TESSERA_SEALING_KEY can't be used",
        ),
        (other, 1, "it is sealed with key k4.lid."),
    ] {
        let checked = tessera()
            .args(["config", "check", "--config"])
            .arg(place.config())
            .env("TESSERA_SEALING_KEY", key)
            .output()
            .unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&checked.stdout), stderr(&checked));
        assert_eq!(checked.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{said}: {told}");
        assert!(key.is_empty() || !told.contains(key.trim()), "{told}");
    }
}
