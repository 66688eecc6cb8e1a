//! Third-party libraries and tools against Tessera; `docs/peers.md` says how to run these tests.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tessera_proto::v1::{
    IntrospectResponse, IssueRequest, ListKeysRequest, VerifyingKey, key_service_client::KeyServiceClient,
};

use crate::support::{Authority, access, copy_directory, refresh, root, stderr, stdout, viewer};

const SERVICES: [&str; 9] = [
    "ApiKeyService",
    "AuditService",
    "BackupService",
    "KeyService",
    "PolicyService",
    "RevocationService",
    "SessionService",
    "SigningKeyService",
    "TokenService",
];

/// The service that Envoy calls; the package is Envoy's.
const ENVOYS_SERVICE: &str = "envoy.service.auth.v3.Authorization";

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn pyseto_verifies_our_tokens() {
    let Some(peers) = Peers::installed() else { return };
    let case = Case::new().await;
    let seen = case.shown_to(peers.python().arg("tests/peers/pyseto_verify.py"));
    case.check(&seen);
    assert_eq!(seen["key_id"], case.key.kid);
    assert_eq!(seen["other_key"], "VerifyError");
    assert_eq!(seen["iat_ahead"], "accepted");
    assert_eq!(seen["nbf_ahead"], "VerifyError");
    let refused = json!({"claims": "VerifyError", "signature": "VerifyError", "footer": "VerifyError",
        "no_footer": "VerifyError", "refresh": "ValueError", "local": "ValueError"});
    assert_eq!(seen["forgeries"], refused);
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn npm_paseto_verifies_our_tokens() {
    let Some(peers) = Peers::installed() else { return };
    let case = Case::new().await;
    let seen = case.shown_to(peers.node().arg("tests/peers/paseto_verify.mjs"));
    case.check(&seen);
    let invalid = "ERR_PASETO_INVALID_TOKEN";
    assert_eq!(seen["other_key"], invalid);
    assert_eq!(seen["by_a_clock_on_time"], "accepted");
    assert_eq!(seen["by_a_late_clock"], "ERR_PASETO_CLAIM_VALIDATION");
    assert_eq!(seen["by_one_that_may_be_late"], "accepted");
    assert_eq!(seen["after_its_end"], "ERR_PASETO_CLAIM_VALIDATION");
    let refused = json!({"claims": invalid, "signature": invalid, "footer": invalid, "no_footer": invalid,
        "refresh": invalid, "local": invalid});
    assert_eq!(seen["forgeries"], refused);
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn a_python_client_does_the_main_job() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let stubs = peers.stubs();
    let mut script = peers.python();
    script
        .arg("tests/peers/main_job.py")
        .env("PYTHONPATH", stubs.path());
    script
        .env("TESSERA_ADDR", &authority.address)
        .env("TESSERA_API_KEY", authority.api_key("production"));
    run(&mut script, "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn python_sees_health_and_reflection() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let stubs = peers.stubs();
    let mut script = peers.python();
    script
        .arg("tests/peers/health_and_reflection.py")
        .env("PYTHONPATH", stubs.path());
    let seen = run(script.env("TESSERA_ADDR", &authority.address), "");
    let services: Vec<_> = seen.lines().collect();
    assert_eq!(services, SERVICES.map(|name| format!("tessera.v1.{name}")));
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn grpcurl_lists_and_calls_through_reflection() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let grpcurl = Grpcurl {
        peers: &peers,
        authority: &authority,
    };

    let listed = run(&mut grpcurl.command(&[], &["list"]), "");
    let ours = SERVICES.map(|name| format!("tessera.v1.{name}"));
    for name in ours.iter().map(String::as_str).chain([ENVOYS_SERVICE]) {
        assert!(listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    let described = run(&mut grpcurl.command(&[], &["describe", "google.rpc.Status"]), "");
    assert!(described.contains("int32 code = 1"), "{described}");
    // The call itself succeeds; whether a request may pass is in its answer.
    let closed = grpcurl.call(&format!("{ENVOYS_SERVICE}/Check"), &json!({}));
    assert_eq!(
        closed["deniedResponse"]["status"]["code"], "Forbidden",
        "{closed}"
    );
    let described = run(
        &mut grpcurl.command(&[], &["describe", "tessera.v1.TokenService.Issue"]),
        "",
    );
    assert!(
        described.contains("rpc Issue ( .tessera.v1.IssueRequest ) returns"),
        "{described}"
    );

    let keys = grpcurl.call("tessera.v1.KeyService/ListKeys", &json!({"realm": "production"}));
    assert_eq!(keys["keys"][0]["status"], "KEY_STATUS_ACTIVE");
    let asked = json!({"subject": "user:ann", "roles": ["role:viewer"], "accessTtl": "60s"});
    let issued = grpcurl.call("tessera.v1.TokenService/Issue", &asked);
    assert_eq!(issued["tokens"]["expiresIn"], 60);
    let said = json!({"token": issued["tokens"]["accessToken"]});
    let introspected = grpcurl.call("tessera.v1.TokenService/Introspect", &said);
    assert_eq!(introspected["sub"], "user:ann");
    assert_eq!(introspected["sessionId"], issued["sessionId"]);

    let refused = grpcurl.refusal(
        "tessera.v1.TokenService/Refresh",
        &json!({"refreshToken": "tsr_no"}),
    );
    assert!(refused.contains("Code: Unauthenticated"), "{refused}");
    assert!(
        refused.contains(r#""reason":"REFRESH_TOKEN_INVALID""#),
        "{refused}"
    );
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_protos_pass_buf_lint() {
    let Some(peers) = Peers::installed() else { return };
    run(peers.tool("buf").args(["lint", "proto"]), "");
}

/// Clients that were built with the baseline must work. An intended change of the contract replaces the baseline:
/// docs/releasing.md.
#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_protos_break_no_client_of_the_baseline() {
    let Some(peers) = Peers::installed() else { return };
    let breaking = ["breaking", "proto", "--against", "proto/baseline.binpb"];
    run(peers.tool("buf").args(breaking), "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_largest_errors_reach_their_callers() {
    let Some(peers) = Peers::installed() else { return };
    let directory = peers.scratch();
    copy_directory(&root().join("policies"), directory.path());
    let catalogue = directory.path().join("catalogue.toml");
    let known = fs::read_to_string(&catalogue).unwrap();
    let scopes = known.replace(
        "[scopes]\n",
        "[scopes]\n\"films/{id}:play\" = \"play one film\"\n",
    );
    fs::write(&catalogue, scopes).unwrap();
    let authority = Authority::dev(&["--policy", directory.path().to_str().unwrap()]);
    // Denied scopes, malformed ones, and malformed ones with characters that take nine bytes in a message.
    let denied = (0..100).map(|number| format!("films/{number:03}{}:play", "x".repeat(113)));
    let requests = json!([
        denied.collect::<Vec<_>>(),
        vec!["x".repeat(600); 100],
        vec!["語".repeat(200); 100],
    ]);
    let invalid = ["INVALID_ARGUMENT FIELD_INVALID"];
    let expected = json!([["PERMISSION_DENIED SCOPE_DENIED"], invalid, invalid]);
    let stubs = peers.stubs();
    let mut python = peers.python();
    python
        .arg("tests/peers/large_errors.py")
        .env("PYTHONPATH", stubs.path());
    let mut node = peers.node();
    node.arg("tests/peers/large_errors.mjs");
    for mut script in [python, node] {
        script
            .env("TESSERA_ADDR", &authority.address)
            .env("TESSERA_API_KEY", authority.api_key("production"));
        let seen: Value = serde_json::from_str(&run(&mut script, &requests.to_string())).unwrap();
        assert_eq!(seen, expected, "{:?}", script.get_program());
    }
}

/// The directory that `.ci/peers` fills.
pub struct Peers(PathBuf);

impl Peers {
    /// The peers, or `None` after printing how to get them. With TESSERA_PEERS=required they must be installed.
    pub fn installed() -> Option<Self> {
        let directory = env::var_os("TESSERA_PEERS_DIR").unwrap_or_else(|| "target/peers".into());
        let directory = root().join(directory);
        if directory.join("installed").exists() {
            return Some(Self(directory));
        }
        let advice = format!(
            "no peers in {}: run .ci/peers (docs/peers.md)",
            directory.display()
        );
        assert!(
            env::var_os("TESSERA_PEERS").is_none_or(|value| value != "required"),
            "{advice}"
        );
        // Not `eprintln!`, whose output is hidden for a test that passes.
        let _ = writeln!(io::stderr(), "nothing tested: {advice}");
        None
    }

    /// A program of the Python environment.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join("venv/bin").join(name));
        command.current_dir(root());
        command
    }

    pub fn python(&self) -> Command {
        let mut command = self.tool("python");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    pub fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.current_dir(root()).env("TESSERA_PEERS_DIR", &self.0);
        command
    }

    /// Their directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// A new directory, below which Node finds the installed modules.
    pub fn scratch(&self) -> TempDir {
        TempDir::new_in(&self.0).unwrap()
    }

    /// Python's code for our proto, as its own compiler generates it.
    fn stubs(&self) -> TempDir {
        let directory = TempDir::new().unwrap();
        let mut compiler = self.python();
        compiler.args(["-m", "grpc_tools.protoc", "-I", "proto"]);
        for kind in ["--python_out", "--grpc_python_out"] {
            compiler.arg(kind).arg(directory.path());
        }
        for entry in root().join("proto/tessera/v1").read_dir().unwrap() {
            compiler.arg(PathBuf::from("tessera/v1").join(entry.unwrap().file_name()));
        }
        run(&mut compiler, "");
        directory
    }
}

/// Runs a peer with an input, and returns its output; it must succeed.
pub fn run(command: &mut Command, input: &str) -> String {
    let output = finish(command, input);
    assert!(
        output.status.success(),
        "{:?}: {}{}",
        command.get_args(),
        stdout(&output),
        stderr(&output)
    );
    stdout(&output)
}

fn finish(command: &mut Command, input: &str) -> std::process::Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    // A peer that ends before it has read reports the reason itself.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A session's tokens, and what a verifier must find in them.
struct Case {
    access_token: String,
    refresh_token: String,
    key: VerifyingKey,
    other_key: VerifyingKey,
    said: IntrospectResponse,
}

impl Case {
    async fn new() -> Self {
        let authority = Authority::dev(&[]);
        let client = authority.client("production").await;
        let bound = IssueRequest {
            labels: vec!["stream:ls_42".to_owned()],
            ..viewer("user:ann")
        };
        let tokens = client.issue(bound).await.unwrap().tokens;
        let access_token = access(tokens.as_ref());
        let mut keys = KeyServiceClient::connect(authority.address.clone())
            .await
            .unwrap();
        let keys = keys
            .list_keys(ListKeysRequest::default())
            .await
            .unwrap()
            .into_inner()
            .keys;
        let of_realm = |realm: &str| keys.iter().find(|key| key.realm == realm).unwrap().clone();
        Self {
            said: client.introspect(&access_token).await,
            access_token,
            refresh_token: refresh(tokens.as_ref()),
            key: of_realm("production"),
            other_key: of_realm("sandbox"),
        }
    }

    /// A script's result for the token, and for texts that must not be accepted for it.
    fn shown_to(&self, script: &mut Command) -> Value {
        let case = json!({
            "token": self.access_token,
            "paserk": self.key.paserk,
            "other_paserk": self.other_key.paserk,
            "forgeries": self.forgeries(),
        });
        serde_json::from_str(&run(script, &case.to_string())).unwrap()
    }

    fn forgeries(&self) -> Value {
        let (unsigned, footer) = self.access_token.rsplit_once('.').unwrap();
        let claims = unsigned.rfind('.').unwrap() + 10;
        json!({
            "claims": changed(&self.access_token, claims),
            "signature": changed(&self.access_token, unsigned.len() - 10),
            "footer": changed(&self.access_token, self.access_token.len() - 10),
            "no_footer": unsigned,
            "refresh": self.refresh_token,
            "local": format!("v4.local.{}.{footer}", self.refresh_token.rsplit('.').nth(1).unwrap()),
        })
    }

    /// The claims are those of the introspection, and the footer is the key's id.
    fn check(&self, seen: &Value) {
        let said = &self.said;
        let mut claims = seen["claims"].clone();
        assert!(claims["rev"].is_u64(), "{claims}");
        for name in ["iat", "nbf", "exp", "rev"] {
            claims.as_object_mut().unwrap().remove(name).unwrap();
        }
        let expected = json!({
            "iss": said.iss, "sub": said.sub, "aud": said.aud, "jti": said.jti, "scope": said.scope,
            "roles": said.roles, "realm": said.realm, "client_id": said.client_id, "sid": said.session_id,
            "gen": said.generation, "pol": said.policy_revision, "labels": said.labels,
        });
        assert_eq!(claims, expected);
        assert_eq!(
            seen["times"],
            json!({"iat": said.iat, "nbf": said.nbf, "exp": said.exp})
        );
        assert_eq!(seen["footer"], json!({"kid": self.key.kid}).to_string());
    }
}

/// The text with another character at an index.
fn changed(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// grpcurl against an authority, with only the information from reflection.
struct Grpcurl<'a> {
    peers: &'a Peers,
    authority: &'a Authority,
}

impl Grpcurl<'_> {
    fn command(&self, options: &[&str], what: &[&str]) -> Command {
        let mut command = self.peers.tool("grpcurl");
        command.args(["-plaintext", "-max-time", "20"]).args(options);
        command
            .arg(self.authority.address.trim_start_matches("http://"))
            .args(what);
        command
    }

    /// A call with the API key from the environment and the request from standard input.
    fn calling(&self, method: &str) -> Command {
        let key = "authorization: Bearer ${TESSERA_API_KEY}";
        let mut command = self.command(&["-expand-headers", "-H", key, "-d", "@"], &[method]);
        command.env("TESSERA_API_KEY", self.authority.api_key("production"));
        command
    }

    fn call(&self, method: &str, request: &Value) -> Value {
        serde_json::from_str(&run(&mut self.calling(method), &request.to_string())).unwrap()
    }

    /// Its output for a refused call.
    fn refusal(&self, method: &str, request: &Value) -> String {
        let output = finish(&mut self.calling(method), &request.to_string());
        assert!(
            !output.status.success(),
            "{method} is not refused: {}",
            stdout(&output)
        );
        stderr(&output)
    }
}
