//! Two nodes over one PostgreSQL, with the real binary.

use std::{fs, io::Write, path::Path};

use serde_json::Value;
use tessera_proto::v1::{
    AwaitPropagationRequest, CreateApiKeyRequest, GetStatusRequest, IssueRequest,
    api_key_service_client::ApiKeyServiceClient, policy_service_client::PolicyServiceClient,
    revoke_request::Target,
};

use crate::{
    log::Log,
    postgres_server::Server,
    serving::{free_port, start},
    support::{
        Authority, Client, access, copy_directory, json, reason, refresh, soon, stderr, tessera, viewer,
    },
};

mod loss;

/// A node: its directory, and its address.
pub(crate) struct Node {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: String,
    pub(crate) admin: String,
}

impl Node {
    pub(crate) fn at(directory: tempfile::TempDir) -> Self {
        let (port, config) = (free_port(), directory.path().join("tessera.toml"));
        let text = fs::read_to_string(&config).unwrap();
        let listen = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
        let admin = free_port();
        let text = text
            .replace(listen, &format!("listen = \"127.0.0.1:{port}\""))
            .replace(
                "admin_listen = \"127.0.0.1:7601\"",
                &format!("admin_listen = \"127.0.0.1:{admin}\""),
            );
        fs::write(&config, text).unwrap();
        Self {
            directory,
            address: format!("http://127.0.0.1:{port}"),
            admin: format!("http://127.0.0.1:{admin}"),
        }
    }

    pub(crate) fn serve(&self) -> Authority {
        self.serve_with("info", std::io::sink())
    }

    /// The same with a filter of the log, which goes to `into`.
    pub(crate) fn serve_with(&self, filter: &str, into: impl Write + Send + 'static) -> Authority {
        let config = self.directory.path().join("tessera.toml");
        start(&config, &self.address, into, |command| {
            command.env("RUST_LOG", filter);
        })
    }

    pub(crate) async fn client(&self, api_key: &str) -> Client {
        Client::connect(&self.address, api_key).await
    }
}

/// Two nodes of one authority, and the API key of its first client.
pub(crate) fn two_nodes(server: &Server) -> (Node, Node, String) {
    let first = tempfile::tempdir().unwrap();
    let made = json(
        tessera()
            .arg("init")
            .arg(first.path())
            .args(["--postgres", &server.url()]),
    );
    let api_key = made["api_keys"]["production"].as_str().unwrap().to_owned();
    let_the_operator_issue(first.path());
    let second = tempfile::tempdir().unwrap();
    copy_directory(first.path(), second.path());
    (Node::at(first), Node::at(second), api_key)
}

/// A token request for a reader of the starter policy.
pub(crate) fn reader(subject: &str) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        roles: vec!["role:reader".to_owned()],
        ..IssueRequest::default()
    }
}

/// Lets the operator issue for others, too.
pub(crate) fn let_the_operator_issue(directory: &Path) {
    // The tests of the starter policy forbid it.
    fs::remove_dir_all(directory.join("policies/tests")).unwrap();
    let path = directory.join("policies/policy.csv");
    let text = fs::read_to_string(&path).unwrap();
    let more = "p, role:operator, *, tessera/subjects/*, issue, allow\np, role:operator, *, tessera/roles/*, assert, allow\n";
    fs::write(path, text + "\n" + more).unwrap();
}

/// The status of a node, which includes the other one.
pub(crate) fn status(node: &Node) -> Value {
    let output = tessera()
        .args(["status", "--json", "--admin-addr", &node.admin])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) async fn policy_in_force(client: &Client) -> String {
    let mut policies = PolicyServiceClient::new(client.channel.clone());
    let status = policies.get_status(GetStatusRequest::default()).await.unwrap();
    status.into_inner().policy_revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn two_nodes_are_one_authority() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let (serving, _other) = (one.serve(), two.serve());
    let (here, there) = (one.client(&api_key).await, two.client(&api_key).await);
    for number in 0..20 {
        let issued = here.issue(reader(&format!("user:{number}"))).await.unwrap();
        let token = access(issued.tokens.as_ref());
        assert!(there.introspect(&token).await.active, "issued at the other node");
        // No node contradicts an answer of another one.
        here.revoke(Target::Subject(format!("user:{number}")))
            .await
            .unwrap();
        assert!(
            !there.introspect(&token).await.active,
            "revoked at the other node"
        );
        let again = there.refresh(&refresh(issued.tokens.as_ref())).await;
        assert!(again.is_err());
    }
    // The key that one node made signs at once, and the other node knows it.
    let rotated = tessera()
        .env("TESSERA_ADDR", &two.address)
        .env("TESSERA_API_KEY", &api_key)
        .args(["key", "rotate", "--at-once", "--yes"])
        .output()
        .unwrap();
    assert!(rotated.status.success(), "{}", stderr(&rotated));
    let issued = there.issue(reader("user:ann")).await.unwrap();
    assert!(here.introspect(&access(issued.tokens.as_ref())).await.active);
    let issued_here = here.issue(reader("user:ann")).await.unwrap();
    assert!(
        there
            .introspect(&access(issued_here.tokens.as_ref()))
            .await
            .active
    );
    // A call that waits for all verifiers waits for those of both nodes.
    let revoked = here
        .revoke(Target::Subject("user:none".to_owned()))
        .await
        .unwrap();
    let asked = AwaitPropagationRequest {
        cursor: revoked.cursor,
    };
    soon("propagation", here.revocations().await_propagation(asked))
        .await
        .unwrap();
    let seen = status(&two);
    assert_eq!(seen["other_nodes"][0]["answers"], true, "{seen}");
    // One node is lost: the other continues with its sessions.
    serving.kill();
    let refreshed = there
        .refresh(&refresh(issued_here.tokens.as_ref()))
        .await
        .unwrap();
    assert!(there.introspect(&access(refreshed.tokens.as_ref())).await.active);
}

/// A node remembers for some seconds which keys it accepted, for calls that read them again as they commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_key_that_one_node_ends_makes_nothing_at_another() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    for node in [&one, &two] {
        let path = node.directory.path().join("policies/policy.csv");
        let rules = fs::read_to_string(&path).unwrap();
        fs::write(path, rules + "g, client:worker, role:operator, *\n").unwrap();
    }
    let (_serving, _other) = (one.serve(), two.serve());
    let here = one.client(&api_key).await;
    let mut keys = ApiKeyServiceClient::new(here.channel.clone());
    for _ in 0..5 {
        let request = CreateApiKeyRequest {
            name: "worker".to_owned(),
            ..CreateApiKeyRequest::default()
        };
        let made = keys.create_api_key(request).await.unwrap().into_inner();
        let there = two.client(&made.secret).await;
        let issued = there.issue(reader("user:ann")).await.unwrap();
        let issued = there.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
        let id = made.api_key.unwrap().id;
        here.revoke(Target::ApiKeyId(id)).await.unwrap();
        let spent = there.refresh(&refresh(issued.tokens.as_ref())).await;
        let unknown = IssueRequest {
            scopes: vec!["unknown:read".to_owned()],
            ..reader("user:ann")
        };
        for refused in [
            spent.map(drop),
            there.refresh("tsr_nothing").await.map(drop),
            there.issue(unknown).await.map(drop),
            there.issue(reader("user:ann")).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
            assert_eq!(reason(&refused), "CLIENT_AUTH_FAILED");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn one_policy_is_in_force_whoever_proposes_it() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let log = Log::default();
    let (_one, _two) = (one.serve(), two.serve_with("info", log.clone()));
    let (here, there) = (one.client(&api_key).await, two.client(&api_key).await);
    let before = policy_in_force(&here).await;
    let policy = one.directory.path().join("policies/policy.csv");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("{text}\n# changed\n")).unwrap();
    let follows = async |client: &Client, expected: &dyn Fn(&str) -> bool| loop {
        let found = policy_in_force(client).await;
        if expected(&found) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let changed = soon("the change", follows(&here, &|found| found != before)).await;
    soon("the other node", follows(&there, &|found| found == changed)).await;
    // Files that arrive late at the other node revert nothing.
    let late = two.directory.path().join("policies/policy.csv");
    fs::write(&late, format!("{text}\n# another\n")).unwrap();
    let another = soon("the change", follows(&there, &|found| found != changed)).await;
    soon("the other node", follows(&here, &|found| found == another)).await;
    let said = log.len();
    fs::write(&late, &text).unwrap();
    log.says(said, "the policy directory has a policy that was replaced")
        .await;
    assert_eq!(policy_in_force(&there).await, another);
    assert_eq!(policy_in_force(&here).await, another);
}

/// A node that can't use the policy in force, because the policy lacks a realm that the node serves, answers nothing,
/// and gives the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_node_that_cannot_use_the_policy_in_force_is_not_ready() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let config = one.directory.path().join("tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    let sandbox = text.split("[realms.sandbox]").nth(1).unwrap();
    fs::write(&config, text.replace(&format!("[realms.sandbox]{sandbox}"), "")).unwrap();
    let (_one, _two) = (one.serve(), two.serve());
    assert_eq!(status(&two)["ready"], true);
    let catalogue = one.directory.path().join("policies/catalogue.toml");
    let text = fs::read_to_string(&catalogue).unwrap();
    let realm = text.lines().find(|line| line.starts_with("sandbox = ")).unwrap();
    fs::write(&catalogue, text.replace(realm, "")).unwrap();
    let not_ready = async {
        while status(&two)["ready"] == true {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    soon("the change", not_ready).await;
    let why = status(&two)["why_not_ready"].clone();
    assert!(why.as_str().unwrap().contains("followed"), "{why}");
    assert_eq!(status(&one)["ready"], true);
    // The command line skips it.
    for (addresses, works) in [
        (two.address.clone(), false),
        (format!("{},{}", two.address, one.address), true),
    ] {
        let mut issue = tessera();
        issue.args(["token", "issue", "--subject", "user:ann", "--role", "role:reader"]);
        issue.args(["--addr", &addresses]);
        let issued = issue.env("TESSERA_API_KEY", &api_key).output().unwrap();
        assert_eq!(issued.status.success(), works, "{addresses}: {}", stderr(&issued));
    }
}

fn copy(from: &Path, to: &Path) -> Value {
    json(
        tessera()
            .args(["store", "copy", "--from"])
            .arg(from)
            .arg("--to")
            .arg(to),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn an_installation_moves_into_a_database_and_back() {
    let server = Server::start("");
    let place = tempfile::tempdir().unwrap();
    let made = json(tessera().arg("init").arg(place.path()));
    let api_key = made["api_keys"]["production"].as_str().unwrap().to_owned();
    let_the_operator_issue(place.path());
    let first = Node::at(place);
    let serving = first.serve();
    let issued = first
        .client(&api_key)
        .await
        .issue(reader("user:ann"))
        .await
        .unwrap();
    assert!(serving.stop().success());
    let config = first.directory.path().join("tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    let with_database = first.directory.path().join("database.toml");
    let section = format!("[store.postgres]\nurl = \"{}\"\n\n[policy]", server.url());
    let moved = text
        .replace("path = \"data\"", "engine = \"postgres\"")
        .replace("[policy]", &section);
    fs::write(&with_database, moved).unwrap();
    let copied = copy(&config, &with_database);
    assert!(copied["records"].as_u64().unwrap() > 3, "{copied}");
    let serving = start(&with_database, &first.address, std::io::sink(), |_| ());
    let client = first.client(&api_key).await;
    assert!(client.introspect(&access(issued.tokens.as_ref())).await.active);
    let back = first.directory.path().join("back.toml");
    fs::write(&back, text.replace("path = \"data\"", "path = \"data-again\"")).unwrap();
    let served = tessera()
        .args(["store", "copy", "--from"])
        .arg(&with_database)
        .arg("--to")
        .arg(&back)
        .output()
        .unwrap();
    assert!(!served.status.success());
    assert!(stderr(&served).contains("stop all nodes"), "{}", stderr(&served));
    assert!(!first.directory.path().join("data-again").exists());
    let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
    assert!(serving.stop().success());
    // The copied store is now an older state.
    let again = tessera()
        .args(["store", "copy", "--from"])
        .arg(&config)
        .arg("--to")
        .arg(&with_database)
        .output()
        .unwrap();
    assert!(
        !again.status.success() && stderr(&again).contains("is older than what was served last"),
        "{}",
        stderr(&again)
    );
    copy(&with_database, &back);
    // The witness of the database belongs to the same log.
    let serving = start(&back, &first.address, std::io::sink(), |command| {
        command.env("RUST_LOG", "info");
    });
    let client = first.client(&api_key).await;
    assert!(client.introspect(&access(refreshed.tokens.as_ref())).await.active);
    assert!(client.refresh(&refresh(refreshed.tokens.as_ref())).await.is_ok());
    assert!(serving.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn an_authority_for_trying_out_keeps_its_data_in_a_database() {
    let server = Server::start("");
    let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = |place: &Path| {
        let place = place.to_str().unwrap().to_owned();
        [
            "--data-dir".to_owned(),
            place,
            "--postgres".to_owned(),
            server.url(),
        ]
    };
    let start = |place: &Path| {
        let flags = flags(place);
        Authority::start_dev(&flags.each_ref().map(String::as_str))
    };
    let dev = start(place.path()).unwrap();
    let client = Client::connect(&dev.address, &dev.api_key("production")).await;
    let issued = client.issue(viewer("user:ann")).await.unwrap();
    drop(client);
    assert!(dev.stop().success());
    let told = start(other.path()).err().unwrap();
    assert!(told.contains("sealed by another server key"), "{told}");
    let again = start(place.path()).unwrap();
    let client = Client::connect(&again.address, &again.api_key("production")).await;
    client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
}

/// A password in the URL is refused before it is written to a file.
#[test]
fn no_password_is_written_into_a_configuration() {
    let place = tempfile::tempdir().unwrap();
    let url = "postgresql://tessera:canary-7f3a@127.0.0.1:1/tessera";
    let output = tessera()
        .arg("init")
        .arg(place.path())
        .args(["--postgres", url])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("--postgres-password-file"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("canary"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
