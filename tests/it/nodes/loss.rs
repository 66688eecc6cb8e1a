//! Services with all three SDKs, which know the addresses of two nodes, and lose one of them.
//!
//! Each service is started with both addresses, the first one first. It prints these lines of JSON: the address of its
//! verifier once this is ready; that it accepts two tokens, which it reads in a line; the address of its verifier, and
//! its number of snapshots, when it refuses the second token; and at last the sessions and generations of its source's
//! tokens, with the log's messages about the move. All the time it must accept the first token and those of its source,
//! or it ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tessera_client::{
    ApiKey, Client as SdkClient, ClientOptions, Connection, Decision, DenyReason, Mode, TokenRequest,
    TokenSource, Verifier, VerifierOptions,
};
use tokio::sync::mpsc;

use super::{Node, Server, Target, reader, two_nodes};
use crate::{
    peers::Peers,
    sdk::{built_typescript, installed_python},
    support::{Authority, PATIENCE, access, soon},
};

/// The staleness bound of all verifiers here.
const BOUND: Duration = Duration::from_secs(4);

/// A running service, from outside.
struct Service {
    language: &'static str,
    /// Its output.
    lines: mpsc::UnboundedReceiver<Value>,
    /// Its input.
    says: Box<dyn FnMut(String)>,
    process: Option<Child>,
}

impl Service {
    /// A program that follows the protocol at the head of this file.
    fn of(language: &'static str, command: &mut Command, nodes: &Nodes) -> Self {
        let mut child = command
            .env("TESSERA_ADDR", nodes.addresses())
            .env("TESSERA_API_KEY", &nodes.api_key)
            .env("BOUND", BOUND.as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (print, lines) = mpsc::unbounded_channel();
        let printed = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in printed.lines() {
                let _ = print.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let mut input = child.stdin.take().unwrap();
        Self {
            language,
            lines,
            says: Box::new(move |line| writeln!(input, "{line}").unwrap()),
            process: Some(child),
        }
    }

    /// The same in this process.
    fn of_rust(nodes: &Nodes) -> Self {
        let (print, lines) = mpsc::unbounded_channel();
        let (say, mut said) = mpsc::unbounded_channel();
        let connection =
            Connection::new(nodes.addresses(), ApiKey::parse(&nodes.api_key).unwrap()).in_order();
        tokio::spawn(async move { serve(&connection, &print, &mut said).await });
        Self {
            language: "Rust",
            lines,
            says: Box::new(move |line| say.send(line).unwrap()),
            process: None,
        }
    }

    async fn next(&mut self) -> Value {
        let line = soon(self.language, self.lines.recv()).await;
        line.unwrap_or_else(|| panic!("{} ended", self.language))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The service with the Rust SDK.
async fn serve(
    connection: &Connection,
    print: &mpsc::UnboundedSender<Value>,
    said: &mut mpsc::UnboundedReceiver<String>,
) {
    let tell = |line: Value| print.send(line).unwrap();
    let options = VerifierOptions::new(connection.clone(), "production", "api").unwrap();
    let verifier = Verifier::start(options.staleness_bound(BOUND)).unwrap();
    verifier.ready(PATIENCE).await.unwrap();
    tell(json!({"at": verifier.status().address}));
    let tokens = said.recv().await.unwrap();
    let (good, doomed) = tokens.split_once(' ').unwrap();
    let mut looks = Looks::new(connection, verifier.clone(), good.to_owned());
    looks
        .until("accepted", |_| verifier.verify(doomed, None).claims().is_some())
        .await;
    tell(json!({"accepts": true}));
    let is_revoked = || matches!(verifier.verify(doomed, None), Decision::Deny(DenyReason::Revoked));
    looks.until("refused", |_| is_revoked()).await;
    let status = verifier.status();
    tell(json!({"refused": true, "at": status.address, "snapshots": status.snapshots}));
    let count = looks.seen.len();
    looks.until("renewed", |seen| seen.len() >= count + 2).await;
    tell(json!({"renewed": looks.seen, "snapshots": verifier.status().snapshots}));
}

/// A valid token, and the tokens of a source.
struct Looks {
    verifier: Verifier,
    source: TokenSource,
    good: String,
    /// The sessions and generations of the source's tokens.
    seen: Vec<(String, u64)>,
}

impl Looks {
    fn new(connection: &Connection, verifier: Verifier, good: String) -> Self {
        let options = ClientOptions {
            deadline: Duration::from_secs(1),
            ..ClientOptions::default()
        };
        let request = TokenRequest {
            audience: "api".to_owned(),
            subject: "user:source".to_owned(),
            roles: vec!["role:reader".to_owned()],
            access_ttl: Some(Duration::from_secs(6)),
            ..TokenRequest::default()
        };
        let source = TokenSource::new(SdkClient::with_options(connection, options).unwrap(), request);
        Self {
            verifier,
            source,
            good,
            seen: Vec::new(),
        }
    }

    /// Waits until a condition holds; at each check all valid tokens must be accepted.
    async fn until(&mut self, what: &str, holds: impl Fn(&[(String, u64)]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.seen) {
            assert!(
                Instant::now() < deadline,
                "{what}: nothing happened: {:?}",
                self.verifier
            );
            let accepted = self.verifier.verify(&self.good, None);
            assert!(
                accepted.claims().is_some(),
                "{what}: {accepted:?} {:?}",
                self.verifier
            );
            let token = self.source.token().await.unwrap();
            let accepted = self
                .verifier
                .verify_with(token.expose(), None, Mode::FailClosed)
                .await;
            let Some(claims) = accepted.claims() else {
                panic!("{what}: {accepted:?} {:?}", self.verifier);
            };
            let of = (claims.session.to_string(), claims.generation);
            if self.seen.last() != Some(&of) {
                self.seen.push(of);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Two nodes, and the data of their clients.
struct Nodes {
    one: Node,
    two: Node,
    api_key: String,
}

impl Nodes {
    fn addresses(&self) -> String {
        format!("{},{}", self.one.address, self.two.address)
    }

    /// Loses node one in this way while all services run.
    async fn lose(&self, mut services: Vec<Service>, loses: impl FnOnce()) {
        let there = self.two.client(&self.api_key).await;
        let good = there.issue(reader("user:ann")).await.unwrap();
        let doomed = there.issue(reader("user:bob")).await.unwrap();
        let tokens = [&good, &doomed]
            .map(|issued| access(issued.tokens.as_ref()))
            .join(" ");
        for service in &mut services {
            assert_eq!(
                service.next().await["at"],
                self.one.address,
                "{}",
                service.language
            );
            (service.says)(tokens.clone());
            assert_eq!(service.next().await["accepts"], true, "{}", service.language);
        }
        loses();
        let lost_at = Instant::now();
        there
            .revoke(Target::SessionId(doomed.session_id.clone()))
            .await
            .unwrap();
        for service in &mut services {
            let refused = service.next().await;
            assert!(
                lost_at.elapsed() < BOUND,
                "{}: {:?}",
                service.language,
                lost_at.elapsed()
            );
            let expected = json!({"refused": true, "at": self.two.address, "snapshots": 1});
            assert_eq!(refused, expected, "{}", service.language);
        }
        for service in &mut services {
            let last = service.next().await;
            assert_eq!(last["snapshots"], 1, "{}: {last}", service.language);
            self.check_renewed(service.language, &last);
        }
    }

    /// One session whose every generation was seen once: nothing was rotated twice, and no client was signed out.
    fn check_renewed(&self, language: &str, last: &Value) {
        let renewed: Vec<(String, u64)> = serde_json::from_value(last["renewed"].clone()).unwrap();
        assert!(renewed.len() >= 3, "{language}: {last}");
        for (index, (session, generation)) in renewed.iter().enumerate() {
            assert_eq!(session, &renewed[0].0, "{language}: {last}");
            assert_eq!(*generation, renewed[0].1 + index as u64, "{language}: {last}");
        }
        // The log of the Rust SDK is tested with the crate.
        let moved = last["moved"].as_str();
        assert!(
            moved.is_none_or(|line| line.contains(&self.one.address) && line.contains(&self.two.address)),
            "{language}: {last}"
        );
        assert_eq!(moved.is_none(), language == "Rust", "{language}: {last}");
    }
}

/// All services, and the directories of their SDKs.
fn services(nodes: &Nodes, peers: &Peers) -> (Vec<Service>, [TempDir; 2]) {
    let (python, typescript) = (installed_python(peers), built_typescript(peers));
    let mut script = peers.python();
    script
        .arg("tests/peers/node_loss.py")
        .env("PYTHONPATH", python.path().join("installed"));
    let python_service = Service::of("Python", &mut script, nodes);
    let mut script = peers.node();
    script.arg("tests/peers/node_loss.mjs").env(
        "TESSERA_SDK",
        typescript.path().join("sdk/typescript/dist/src/index.js"),
    );
    let typescript_service = Service::of("TypeScript", &mut script, nodes);
    let all = vec![Service::of_rust(nodes), python_service, typescript_service];
    (all, [python, typescript])
}

fn nodes(server: &Server) -> (Nodes, [Authority; 2]) {
    let (one, two, api_key) = two_nodes(server);
    let serving = [one.serve(), two.serve()];
    (Nodes { one, two, api_key }, serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and peers: docs/peers.md"]
async fn services_go_on_at_the_other_node_when_theirs_is_killed() {
    let Some(peers) = Peers::installed() else { return };
    let server = Server::start("");
    let (nodes, [here, _there]) = nodes(&server);
    let (services, _sdks) = services(&nodes, &peers);
    nodes.lose(services, || here.kill()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and peers: docs/peers.md"]
async fn services_go_on_at_the_other_node_when_theirs_is_frozen() {
    let Some(peers) = Peers::installed() else { return };
    let server = Server::start("");
    let (nodes, [here, _there]) = nodes(&server);
    let (services, _sdks) = services(&nodes, &peers);
    nodes.lose(services, || here.pause()).await;
}
