//! The reports of two nodes to each other: their subscribers, evictions, and the sinks that one of them delivers to.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use serde_json::Value;
use tessera_proto::v1::{
    Ack, AwaitPropagationRequest, AwaitPropagationResponse, EvictSubscriberRequest, IssueResponse,
    ListSubscribersRequest, Ping, Subscriber, WatchRequest, WatchResponse, WatchStart,
    revoke_request::Target, watch_request::Message, watch_response, watch_start::From,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    log::Log,
    nodes::{Node, policy_in_force, reader, status, two_nodes},
    postgres_server::Server,
    support::{Client, access, json, reason, refresh, soon, stderr, tessera},
};

/// A required subscriber, which acknowledges on request.
struct Verifier {
    say: mpsc::Sender<WatchRequest>,
    hear: Streaming<WatchResponse>,
}

impl Verifier {
    async fn begin(client: &Client, name: &str) -> Self {
        let (say, requests) = mpsc::channel(8);
        let start = Message::Start(WatchStart {
            from: Some(From::Latest(true)),
            subscriber: name.to_owned(),
            required: true,
            staleness_bound: Some(Duration::from_secs(2).try_into().unwrap()),
            ..WatchStart::default()
        });
        let start = WatchRequest { message: Some(start) };
        say.send(start).await.unwrap();
        let watching = client.revocations().watch(ReceiverStream::new(requests)).await;
        let mut verifier = Self {
            say,
            hear: watching.unwrap().into_inner(),
        };
        verifier.checkpoint().await.unwrap();
        verifier
    }

    /// The next checkpoint, as a cursor, or the end of the stream.
    async fn checkpoint(&mut self) -> Result<String, tonic::Status> {
        loop {
            let next = soon("a message", self.hear.message()).await?.unwrap();
            if let Some(watch_response::Message::Checkpoint(checkpoint)) = next.message {
                return Ok(checkpoint.through);
            }
        }
    }

    async fn acknowledge(&self, cursor: &str) {
        let ack = Message::Ack(Ack {
            cursor: cursor.to_owned(),
        });
        self.say.send(WatchRequest { message: Some(ack) }).await.unwrap();
    }
}

async fn listed(client: &Client) -> Vec<Subscriber> {
    let listed = client
        .revocations()
        .list_subscribers(ListSubscribersRequest {})
        .await;
    listed.unwrap().into_inner().subscribers
}

/// Waits until the list of a node is as expected.
async fn until(client: &Client, what: &str, expected: impl Fn(&[Subscriber]) -> bool) -> Vec<Subscriber> {
    let looking = async {
        loop {
            let found = listed(client).await;
            if expected(&found) {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon(what, looking).await
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon(what, looking).await;
}

async fn propagated(client: &Client, cursor: &str) -> AwaitPropagationResponse {
    let asked = AwaitPropagationRequest {
        cursor: cursor.to_owned(),
    };
    let mut revocations = client.revocations();
    soon("propagation", revocations.await_propagation(asked))
        .await
        .unwrap()
        .into_inner()
}

fn node_list(node: &Node) -> Vec<Value> {
    let listed = json(tessera().args(["node", "list", "--admin-addr", &node.admin]));
    listed["nodes"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn each_node_answers_for_the_subscribers_of_all() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let (_one, serving_two) = (one.serve(), two.serve());
    let (here, there) = (one.client(&api_key).await, two.client(&api_key).await);
    let near = Verifier::begin(&here, "near").await;
    let mut far = Verifier::begin(&there, "far").await;
    let both = until(&here, "both are listed", |found| found.len() == 2).await;
    let names: BTreeSet<_> = both.iter().map(|one| one.node.as_str()).collect();
    assert_eq!(names.len(), 2, "{both:?}");
    assert!(
        both.iter().all(|one| one.connected && !one.failed_closed),
        "{both:?}"
    );
    // Subscribers that acknowledge are counted, at any node.
    let revoked = here
        .revoke(Target::Subject("user:none".to_owned()))
        .await
        .unwrap();
    near.acknowledge(&revoked.cursor).await;
    far.acknowledge(&revoked.cursor).await;
    assert_eq!(propagated(&here, &revoked.cursor).await.acknowledged, 2);
    assert_eq!(propagated(&there, &revoked.cursor).await.acknowledged, 2);
    eventually("the status has both", || {
        status(&one)["verifiers"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    eventually("each node has one", || {
        let nodes = node_list(&one);
        let is_well = |node: &Value| node["answers"] == true && node["verifiers"] == 1;
        nodes.len() == 2 && nodes.iter().all(is_well)
    })
    .await;
    // A subscriber that is evicted at one node is refused at the other.
    let evict = EvictSubscriberRequest {
        client: both[0].client.trim_start_matches("client:").to_owned(),
        name: "far".to_owned(),
    };
    let evicted = here
        .revocations()
        .evict_subscriber(evict)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(evicted.streams, 1);
    let end = async {
        loop {
            if let Err(end) = far.checkpoint().await {
                return end;
            }
        }
    };
    let end = soon("the end", end).await;
    assert!(reason(&end).contains("SUBSCRIBER_EVICTED"), "{end}");
    // It left, and is waited for until its bound has passed.
    let revoked = here
        .revoke(Target::Subject("user:none".to_owned()))
        .await
        .unwrap();
    near.acknowledge(&revoked.cursor).await;
    let after = propagated(&here, &revoked.cursor).await;
    assert_eq!((after.acknowledged, after.failed_closed), (1, 1));
    // A node that was stopped cleanly is reported so.
    assert!(serving_two.stop().success());
    eventually("the node has stopped", || {
        let is_stopped = |node: &Value| node["ended"] == true && node["answers"] == false;
        node_list(&one).iter().any(is_stopped)
    })
    .await;
}

/// While the database does not answer, the current state is not known. A call at that time is answered later, without a
/// retry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_ping_is_answered_once_it_can_be() {
    let server = Server::start("");
    let (one, _two, api_key) = two_nodes(&server);
    let log = Log::default();
    let _one = one.serve_with("debug", log.clone());
    let mut verifier = Verifier::begin(&one.client(&api_key).await, "patient").await;
    server.signal("STOP");
    let nonce = b"once".to_vec();
    let ping = Message::Ping(Ping { nonce: nonce.clone() });
    verifier
        .say
        .send(WatchRequest { message: Some(ping) })
        .await
        .unwrap();
    log.says(0, "a subscriber is not answered").await;
    server.signal("CONT");
    let answered = async {
        loop {
            let next = verifier.hear.message().await.unwrap().unwrap();
            if let Some(watch_response::Message::Checkpoint(checkpoint)) = next.message
                && checkpoint.nonce == nonce
            {
                return;
            }
        }
    };
    soon("the answer", answered).await;
}

/// Adds a sink that writes a file in the node's own directory.
fn add_sink(node: &Node) -> std::path::PathBuf {
    let config = node.directory.path().join("tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    let file = node.directory.path().join("archive.jsonl");
    let sink = format!(
        "\n[audit.sinks.archive]\nkind = \"file\"\npath = \"{}\"\n",
        file.display()
    );
    fs::write(&config, text + &sink).unwrap();
    file
}

/// The positions of the records in a file.
fn positions(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| record["position"].as_u64().unwrap())
        .collect()
}

/// Issues at a node, and waits until one of the files has the record of it.
async fn issued_is_delivered(client: &Client, files: &[&Path]) {
    let session = client.issue(reader("user:ann")).await.unwrap().session_id;
    let has_it = |file: &&Path| fs::read_to_string(file).unwrap_or_default().contains(&session);
    let looking = async {
        while !files.iter().any(has_it) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the record is delivered", looking).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn one_node_delivers_to_a_sink_and_another_goes_on() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let (first, second) = (add_sink(&one), add_sink(&two));
    let serving_one = one.serve();
    issued_is_delivered(&one.client(&api_key).await, &[&first]).await;
    let told = server.sql("SELECT convert_from(report, 'UTF8') FROM tessera.node");
    assert!(
        told.contains("archive"),
        "one that delivers has told others before: {told}"
    );
    let log = Log::default();
    let _two = two.serve_with("info", log.clone());
    log.says(0, "another node delivers to this sink").await;
    let there = two.client(&api_key).await;
    for _ in 0..5 {
        issued_is_delivered(&there, &[&first, &second]).await;
    }
    // On a slow machine the older node can be silent for so long that the other one must continue.
    if !log.text().contains("this node delivers to this sink") {
        assert_eq!(positions(&second), Vec::<u64>::new(), "the older one delivers");
        let by = status(&two)["audit_sinks"][0]["delivered_by"].clone();
        assert_eq!(by, status(&one)["node"], "{by}");
    }
    serving_one.kill();
    issued_is_delivered(&there, &[&second]).await;
    let all: BTreeSet<u64> = positions(&first).into_iter().chain(positions(&second)).collect();
    let last = all.last().copied().unwrap();
    assert_eq!(all, (1..=last).collect(), "each record is in one of both");
    assert_eq!(status(&two)["audit_sinks"][0]["delivered_by"], Value::Null);
}

/// Its node died meanwhile, and does not start again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn what_one_node_left_unreconciled_another_reconciles() {
    let server = Server::start("");
    let (one, two, api_key) = two_nodes(&server);
    let serving_one = one.serve();
    let here = one.client(&api_key).await;
    let before = policy_in_force(&here).await;
    let policy = one.directory.path().join("policies/policy.csv");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text + "\n# changed\n").unwrap();
    let reconciled = || {
        let found = "SELECT convert_from(body, 'UTF8') FROM tessera.setting WHERE name = 'policy_reconciled'";
        server.sql(found)
    };
    let until_reconciled = async |what: &str| {
        let looking = async {
            while reconciled() == before {
                sleep(Duration::from_millis(100)).await;
            }
        };
        soon(what, looking).await;
    };
    until_reconciled("the change").await;
    let in_force = reconciled();
    let _two = two.serve();
    serving_one.kill();
    server.sql(&format!(
        "UPDATE tessera.setting SET body = convert_to('{before}', 'UTF8') WHERE name = 'policy_reconciled'"
    ));
    until_reconciled("the other node goes on").await;
    assert_eq!(reconciled(), in_force);
    let said = async {
        while status(&two)["policy"]["reconciled"] != true {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the node says so", said).await;
}

/// Runs a command that must succeed.
fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
}

/// A node that serves, with a session and a backup of it.
struct Copied {
    node: Node,
    api_key: String,
    issued: IssueResponse,
}

impl Copied {
    async fn make(server: &Server) -> Self {
        let (node, _, api_key) = two_nodes(server);
        let (key, file) = (
            node.directory.path().join("backup.key"),
            node.directory.path().join("backup"),
        );
        done(tessera().args(["backup", "key", "new"]).arg(&key));
        let serving = node.serve();
        let issued = node
            .client(&api_key)
            .await
            .issue(reader("user:ann"))
            .await
            .unwrap();
        let mut create = tessera();
        create
            .args(["backup", "create"])
            .arg(&file)
            .arg("--key-file")
            .arg(&key);
        done(
            create
                .env("TESSERA_ADDR", &node.address)
                .env("TESSERA_API_KEY", &api_key),
        );
        assert!(serving.stop().success());
        Self {
            node,
            api_key,
            issued,
        }
    }

    /// A command with the configuration.
    fn tessera(&self, arguments: &[&str]) -> Command {
        let mut command = tessera();
        let directory = self.node.directory.path();
        command
            .current_dir(directory)
            .args(arguments)
            .args(["--config", "tessera.toml"]);
        command
    }

    fn restore(&self) -> Command {
        self.tessera(&["restore", "--yes"])
    }

    fn restore_backup(&self) -> Command {
        self.tessera(&["backup", "restore", "backup", "--key-file", "backup.key", "--yes"])
    }

    /// Serves, and checks that everything issued before has ended.
    async fn has_begun_anew(&self) {
        let serving = self.node.serve();
        let client = self.node.client(&self.api_key).await;
        assert!(
            !client
                .introspect(&access(self.issued.tokens.as_ref()))
                .await
                .active
        );
        let again = client.refresh(&refresh(self.issued.tokens.as_ref())).await;
        assert!(again.is_err());
        client.issue(reader("user:ann")).await.unwrap();
        assert!(serving.stop().success());
    }
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    stderr(&output)
}

/// What was revoked after a copy was made is valid in the copy: everything ends before any node serves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_database_that_was_restored_begins_anew() {
    let server = Server::start("");
    let copied = Copied::make(&server).await;
    let serving = copied.node.serve();
    let problem = refused(copied.restore());
    assert!(problem.contains("stop all nodes"), "{problem}");
    let client = copied.node.client(&copied.api_key).await;
    let token = access(copied.issued.tokens.as_ref());
    assert!(client.introspect(&token).await.active, "nothing was changed");
    assert!(serving.stop().success());
    // To Tessera it looks like a copy that PostgreSQL made.
    let log = "SELECT log_id FROM tessera.meta";
    let before = server.sql(log);
    done(&mut copied.restore());
    assert_ne!(server.sql(log), before, "the log is another");
    copied.has_begun_anew().await;
    // If it was interrupted, no node serves the schema until it is done.
    server.sql("INSERT INTO tessera.setting (name, body) VALUES ('restoring', '')");
    let problem = refused(copied.tessera(&["serve"]));
    assert!(problem.contains("run `tessera restore`"), "{problem}");
    done(&mut copied.restore());
    copied.has_begun_anew().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_backup_is_restored_into_an_empty_schema() {
    let server = Server::start("");
    let copied = Copied::make(&server).await;
    let problem = refused(copied.restore_backup());
    assert!(problem.contains("not empty"), "{problem}");
    server.sql("DROP SCHEMA tessera CASCADE");
    let file = copied.node.directory.path().join("backup");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let problem = refused(copied.restore_backup());
    assert!(
        problem.contains("cut off") || problem.contains("whole"),
        "{problem}"
    );
    fs::write(&file, whole).unwrap();
    done(&mut copied.restore_backup());
    copied.has_begun_anew().await;
}
