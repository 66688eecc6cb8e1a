//! Third-party clients against the HTTP endpoints, as their registries provide them; `docs/peers.md` says how to run
//! these tests.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    peers::{Peers, run},
    support::{Authority, Service, binary, root, stderr},
};

/// The authority, the example service, and a host that serves both at one address, as the video company's clients
/// expect.
struct Company {
    authority: Authority,
    _videos: Service,
    host: Host,
    secure_host: Host,
    /// The certificate of the host that speaks TLS.
    certificate: TempDir,
}

impl Company {
    fn open(peers: &Peers, arguments: &[&str]) -> Self {
        let authority = Authority::dev(arguments);
        let api_key = authority.api_key("production");
        let reach = [
            ("TESSERA_ADDR", &*authority.address),
            ("TESSERA_API_KEY", &api_key),
        ];
        let videos = Service::start("videos", &reach);
        let certificate = certificate();
        let script = || {
            let mut script = peers.python();
            script
                .arg("tests/peers/video_company/host.py")
                .env("AUTHORITY", &authority.address)
                .env("VIDEOS", &videos.place.1);
            script
        };
        let host = Host::start(&mut script());
        let secure_host = Host::start(
            script()
                .env("CERTIFICATE", certificate.path().join("host.crt"))
                .env("PRIVATE_KEY", certificate.path().join("host.pem")),
        );
        Self {
            authority,
            _videos: videos,
            host,
            secure_host,
            certificate,
        }
    }

    /// The key of a client to which the policy grants nothing.
    fn key_without_scopes(&self) -> String {
        let mut command = self.authority.tessera("production");
        let made = command
            .args(["apikey", "create", "nobody", "--json"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    }
}

/// A process that prints its port, killed when it is dropped.
struct Host {
    child: Child,
    port: String,
}

impl Host {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        printed.read_line(&mut port).unwrap();
        let port = port.trim().to_owned();
        assert!(!port.is_empty(), "the host did not start");
        Self { child, port }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificate() -> TempDir {
    let directory = TempDir::new().unwrap();
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(directory.path().join("host.crt"), made.cert.pem()).unwrap();
    fs::write(
        directory.path().join("host.pem"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    directory
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_video_companys_python_client_works_unmodified() {
    let Some(peers) = Peers::installed() else { return };
    let company = Company::open(&peers, &["--access-ttl", "12s"]);
    let mut script = peers.python();
    script
        .arg("tests/peers/video_company/client.py")
        .env("HOST", format!("http://127.0.0.1:{}", company.host.port))
        .env("API_KEY", company.authority.api_key("production"))
        .env("SANDBOX_API_KEY", company.authority.api_key("sandbox"))
        .env("TESSERA", binary())
        .env("TESSERA_ADDR", &company.authority.address)
        .env("TESSERA_API_KEY", company.authority.api_key("production"));
    run(&mut script, "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_video_companys_node_clients_and_uploader_work_unmodified() {
    let Some(peers) = Peers::installed() else { return };
    let company = Company::open(&peers, &[]);
    let mut script = peers.node();
    script
        .arg("tests/peers/video_company/clients.mjs")
        .env("HOST", format!("http://127.0.0.1:{}", company.host.port))
        .env("SECURE_HOST", format!("localhost:{}", company.secure_host.port))
        .env("NODE_EXTRA_CA_CERTS", company.certificate.path().join("host.crt"))
        .env("API_KEY", company.authority.api_key("production"))
        .env("NO_SCOPES_API_KEY", company.key_without_scopes());
    run(&mut script, "");
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn oauth_libraries_work_unmodified() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let mut script = peers.python();
    script
        .arg("tests/peers/oauth_clients.py")
        .env("TESSERA_ADDR", &authority.address)
        .env("TESSERA_API_KEY", authority.api_key("production"));
    run(&mut script, "");
}

/// The block of `docs/http.md` in a language.
fn example(language: &str) -> String {
    let page = fs::read_to_string(root().join("docs/http.md")).unwrap();
    let block = page.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

#[test]
#[ignore = "needs peers: docs/peers.md"]
fn the_examples_of_the_page_about_http_run() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let reach = [
        ("A", authority.address.clone()),
        ("K", authority.api_key("production")),
    ];
    let python = format!(
        "import os\naddress, api_key = os.environ['A'], os.environ['K']\n{}",
        example("python")
    );
    let mut script = peers.python();
    script
        .arg("-")
        .env("AUTHLIB_INSECURE_TRANSPORT", "1")
        .envs(reach.clone());
    assert_eq!(run(&mut script, &python), "videos:read\n");
    let node = format!(
        "const [address, apiKey] = [process.env.A, process.env.K];\n{}",
        example("js")
    );
    let mut script = peers.node();
    script.args(["--input-type=module", "-"]).envs(reach);
    assert_eq!(run(&mut script, &node), "videos:read\n");
}

/// Its check that valid requests are accepted is left out: a wrong API key has the right form, and the video company's
/// clients expect 400 for it.
/// and the video company's clients expect 400 for it.
#[test]
#[ignore = "needs peers: docs/peers.md"]
fn schemathesis_finds_nothing() {
    let Some(peers) = Peers::installed() else { return };
    let authority = Authority::dev(&[]);
    let key = format!("Authorization: Bearer {}", authority.api_key("production"));
    let nobody = "Authorization: Bearer tsk_production_no".to_owned();
    let directory = TempDir::new().unwrap();
    for header in [key, nobody] {
        let mut schemathesis = peers.tool("schemathesis");
        schemathesis
            .current_dir(directory.path())
            .args([
                "run",
                "--max-examples",
                "30",
                "--exclude-checks",
                "positive_data_acceptance",
            ])
            .args(["--header", &header])
            .arg(format!("{}/openapi.json", authority.address));
        run(&mut schemathesis, "");
    }
}
