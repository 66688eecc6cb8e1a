//! `tessera status`, `top` and `doctor`.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use serde_json::Value;

use crate::{
    serving::{Place, free_port, serve},
    support::{Authority, stderr, stdout, tessera},
};

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

fn codes(document: &Value) -> Vec<&str> {
    let items = document["attention"].as_array().unwrap();
    items.iter().map(|item| item["code"].as_str().unwrap()).collect()
}

#[test]
fn the_status_says_what_needs_doing() {
    let authority = Authority::dev(&[]);
    let admin = authority.ready["admin"].as_str().unwrap();
    let status = |json: bool| {
        let mut command = tessera();
        command.args(["status", "--admin-addr", admin]);
        if json {
            command.arg("--json");
        }
        command.output().unwrap()
    };
    let told = status(true);
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    let document = document(&told);
    assert_eq!(document["ready"], true);
    assert_eq!(codes(&document), ["backup_due"]);
    assert_eq!(document["realms"].as_array().unwrap().len(), 2);
    assert_eq!(document["realms"][0]["signing_keys"][0]["status"], "active");
    let text = stdout(&status(false));
    for part in [
        "ready",
        "policy",
        "SIGNING KEY",
        "no required verifiers",
        "tessera backup create",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn without_the_admin_socket_the_authority_is_asked() {
    let authority = Authority::dev(&[]);
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let run = |realm: &str| {
        let mut command = authority.tessera(realm);
        command
            .args(["status", "--json", "--admin-addr", &nowhere])
            .output()
            .unwrap()
    };
    let told = run("production");
    // Who names a socket relies on it: what it would have said is missing.
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    let document = document(&told);
    assert_eq!(document["attention"][0]["code"], "admin_socket_silent");
    assert_eq!(document["realms"][0]["name"], "production");
    assert_eq!(document["realms"][0]["signing_keys"][0]["status"], "active");
    // Without a key the authority can't be asked.
    let refused = run("");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains(&nowhere), "{}", stderr(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_terminal_is_shown_once() {
    let authority = Authority::dev(&[]);
    let admin = authority.ready["admin"].as_str().unwrap();
    let client = authority.client("production").await;
    client.issue(crate::support::viewer("user:ann")).await.unwrap();
    let run = |arguments: &[&str]| {
        let mut command = tessera();
        command
            .args(["top"])
            .args(arguments)
            .env("TESSERA_ADMIN_ADDR", admin);
        command.output().unwrap()
    };
    let shown = run(&[]);
    assert!(
        shown.status.success() && !stdout(&shown).contains('\x1b'),
        "{}",
        stdout(&shown)
    );
    assert!(stdout(&shown).contains("Issue"), "{}", stdout(&shown));
    let document = document(&run(&["--json"]));
    assert_eq!(document["ready"], 1.0);
    assert_eq!(document["methods"][0]["rpc"], "Issue");
}

fn examined(place: &Place) -> (Option<i32>, Value) {
    let output = tessera()
        .args(["doctor", "--json", "--config"])
        .arg(place.config())
        .output()
        .unwrap();
    (output.status.code(), document(&output))
}

/// The messages of a check at a level.
fn found(document: &Value, level: &str, check: &str) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["level"] == level && finding["check"] == check);
    of.map(|finding| finding["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_installation_is_examined_without_being_changed() {
    let place = Place::new();
    let admin = format!("admin_listen = \"127.0.0.1:{}\"", free_port());
    place.edit("tessera.toml", "admin_listen = \"127.0.0.1:0\"", &admin);
    place.first_key("production");
    let before = fs::read(place.path("data/seal")).unwrap();
    let (code, document) = examined(&place);
    // There is no backup, and a witness only from the first start on.
    assert_eq!(code, Some(1), "{document:#}");
    assert_eq!(found(&document, "ok", "server key").len(), 2, "{document:#}");
    assert_eq!(
        found(&document, "warn", "backup"),
        ["none was made of this data yet"]
    );
    assert_eq!(fs::read(place.path("data/seal")).unwrap(), before);

    // A running authority is asked too.
    let authority = serve(&place.config(), &place.address);
    let (code, served) = examined(&place);
    assert_eq!(code, Some(1), "{served:#}");
    assert!(
        found(&served, "ok", "sockets")
            .iter()
            .all(|message| message.ends_with("is served")),
        "{served:#}"
    );
    assert!(
        found(&served, "ok", "server key")
            .iter()
            .any(|message| message.ends_with("is in use")),
        "{served:#}"
    );
    assert!(authority.stop().success());

    fs::set_permissions(place.path("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, open) = examined(&place);
    assert_eq!(found(&open, "warn", "server key").len(), 1, "{open:#}");
    // Another key does not open the data.
    fs::remove_file(place.path("server.key")).unwrap();
    let made = tessera()
        .args(["serverkey", "new"])
        .arg(place.path("server.key"))
        .output()
        .unwrap();
    assert!(made.status.success());
    let (code, other) = examined(&place);
    assert_eq!(code, Some(2), "{other:#}");
    assert!(
        found(&other, "fail", "server key")[0].contains("not configured"),
        "{other:#}"
    );
}

#[test]
fn what_a_start_would_refuse_is_a_failure() {
    let place = Place::new();
    place.edit("policies/policy.csv", "read, allow", "read, allwo");
    let (code, document) = examined(&place);
    assert_eq!(code, Some(2));
    assert_eq!(found(&document, "fail", "policy").len(), 1, "{document:#}");
    place.edit("tessera.toml", "cache_mib", "cash_mib");
    let (code, document) = examined(&place);
    assert_eq!(code, Some(2));
    assert!(
        found(&document, "fail", "configuration")[0].contains("cash_mib"),
        "{document:#}"
    );
}

#[test]
fn a_socket_that_is_taken_is_a_failure() {
    let place = Place::new();
    let port = place.address.rsplit_once(':').unwrap().1;
    let _taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let (code, document) = examined(&place);
    assert_eq!(code, Some(2), "{document:#}");
    assert_eq!(found(&document, "fail", "sockets").len(), 1, "{document:#}");
}
