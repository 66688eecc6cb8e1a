//! Secrets in the files that the authority reads besides its policy: keys, certificates, the configuration, the
//! environment. The output of a start contains nothing of them, and the stored data nothing of a credential.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tessera_proto::v1::{
    RollApiKeyRequest, api_key_service_client::ApiKeyServiceClient, revoke_request::Target,
};

use crate::{
    log::Log,
    serving::Place,
    support::{Client, access, refresh, tessera, viewer},
};

const CANARY: &str = "canary";
const PASS_PHRASES: &str = "canary pass phrase, x\n[canary]\ncanary = \"x\"\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5canary!!\n-----END PRIVATE KEY-----\n";

/// The output of `command`, which must end by itself.
fn said(command: &mut Command) -> String {
    let output = command
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn serve(config: &Path) -> Command {
    let mut command = tessera();
    command.args(["serve", "--config"]).arg(config);
    command
}

fn tls(certificate: &str, private_key: &str, client_ca: &str) -> String {
    let certificate = certificate.replace('\\', "/");
    format!("[server.tls]\ncertificate = \"{certificate}\"\nprivate_key = \"{private_key}\"\n{client_ca}\n")
}

#[test]
fn a_start_says_nothing_of_what_is_in_a_file_that_it_can_t_use() {
    let ours = rcgen_pair();
    let cases = [
        ("a broken private key", tls("good.crt", "bad.key", ""), None),
        (
            "a certificate that is none",
            tls("secret.txt", "good.key", ""),
            None,
        ),
        (
            "a private key that is none",
            tls("good.crt", "secret.txt", ""),
            None,
        ),
        (
            "a client CA that is none",
            tls("good.crt", "good.key", "client_ca = \"secret.txt\""),
            None,
        ),
        (
            "a server key that is none",
            String::new(),
            Some(("file = \"server.key\"", "file = \"secret.txt\"")),
        ),
        (
            "a server key that is cut off",
            String::new(),
            Some(("file = \"server.key\"", "file = \"cut.key\"")),
        ),
        (
            "an earlier server key that is none",
            String::new(),
            Some(("previous = []", "previous = [\"secret.txt\"]")),
        ),
    ];
    for (what, section, edit) in cases {
        let place = Place::with(&section);
        for (name, text) in [
            ("secret.txt", PASS_PHRASES),
            ("bad.key", KEY),
            ("cut.key", "k4.local.canary00"),
            ("good.crt", &ours.0),
            ("good.key", &ours.1),
        ] {
            fs::write(place.path(name), text).unwrap();
        }
        if let Some((from, to)) = edit {
            place.edit("tessera.toml", from, to);
        }
        let said = said(&mut serve(&place.config()));
        assert!(!said.contains(CANARY), "{what}: {said}");
        assert!(said.contains("error: "), "{what}: {said}");
    }
}

/// A certificate and its key.
fn rcgen_pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_file_that_is_no_configuration_is_not_shown() {
    let place = Place::new();
    for secret in [
        PASS_PHRASES,
        KEY,
        "tsk_production_canary0123456789abcdef\n",
        "root:$6$canary:1::\n",
    ] {
        fs::write(place.config(), secret).unwrap();
        for command in [
            &["serve"][..],
            &["apikey", "create", "dev", "--realm", "production"],
        ] {
            let said = said(tessera().args(command).arg("--config").arg(place.config()));
            assert!(!said.contains(CANARY), "{said}");
            assert!(said.contains("line 1"), "{said}");
        }
    }
    // The environment, too.
    let place = Place::new();
    let said = said(serve(&place.config()).env("TESSERA_SERVER_KEY", CANARY));
    assert!(
        said.contains("TESSERA_SERVER_KEY") && !said.contains(CANARY),
        "{said}"
    );
}

/// All bytes that are kept below a directory.
fn kept(directory: &Path, into: &mut Vec<u8>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            kept(&path, into);
        } else {
            into.extend(fs::read(path).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_the_log_or_in_what_is_kept() {
    let place = Place::new();
    let made = place.first_key("production");
    let key = made["secret"].as_str().unwrap().to_owned();
    let log = Log::default();
    let authority = place.serve_with("trace", log.clone());
    let client = Client::connect(&place.address, &key).await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    let first = refresh(issued.tokens.as_ref());
    let refreshed = client.refresh(&first).await.unwrap();
    let (token, second) = (
        access(refreshed.tokens.as_ref()),
        refresh(refreshed.tokens.as_ref()),
    );
    assert!(client.introspect(&token).await.active);
    client.revoke(Target::Token(token.clone())).await.unwrap();
    let roll = RollApiKeyRequest {
        // The public part of the key comes first.
        id: key.rsplit('_').next().unwrap()[..16].to_owned(),
        ..RollApiKeyRequest::default()
    };
    let rolled = ApiKeyServiceClient::new(client.channel.clone())
        .roll_api_key(roll)
        .await;
    let successor = rolled.unwrap().into_inner().secret;
    // A forged key, which is refused.
    let forged = format!("{key}x");
    let _ = Client::connect(&place.address, &forged)
        .await
        .refresh(&second)
        .await;
    let server_key = fs::read_to_string(place.path("server.key")).unwrap();
    assert!(authority.stop().success());

    // The secret part of each: after a version and a purpose, before the id of a key.
    let part = |secret: &str| {
        let body = secret.trim().split('.').nth(2).unwrap_or(secret.trim());
        body[body.len() - 24..].to_owned()
    };
    let secrets =
        [&key, &successor, &forged, &first, &second, &token, &server_key].map(|secret| part(secret));
    let mut data = Vec::new();
    kept(&place.path("data"), &mut data);
    let log = log.bytes();
    assert!(data.len() > 1000 && log.len() > 1000);
    for secret in secrets {
        for (what, bytes) in [("the data directory", &data), ("the log", &log)] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {what}");
        }
    }
}
