//! Three nodes with the real binary over three PostgreSQL servers, and all failures: the primary is lost with its disk,
//! frozen, cut off from its standbys, and replaced while one node still reads from it; waits are cancelled and sessions
//! ended; connections are cut after the server has committed and before the node is told; nodes are killed, frozen and
//! stopped. The clocks of the nodes are 3 s apart, and one node can't listen. Meanwhile clients of every verb call all
//! nodes, also two with the same token at once, verifiers watch each node, and a ledger outside records what was
//! acknowledged.
//!
//! The short form runs beside the other tests that need PostgreSQL; the long one:
//! `TESSERA_NODE_FAILURES=200 cargo test -p tessera-proto --test it -- --ignored --nocapture nothing_is_lost_by_many`.

use std::{
    env,
    fs::{self, File},
    io::{Write, stderr},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tessera_proto::v1::{IntrospectRequest, RefreshResponse, TokenSet, revoke_request::Target};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use self::verifiers::Verifiers;
use crate::{
    clocks,
    nodes::{Node, let_the_operator_issue, reader},
    postgres_proxy::{Cut, Proxy},
    postgres_servers::Servers,
    support::{Authority, Client, copy_directory, json, reason, tessera},
};

mod patroni;
mod verifiers;

const NODES: usize = 3;
/// The offset of each node's clock.
const CLOCKS: [&str; NODES] = ["+0", "+1.5", "-1.5"];
const CHAINS: u32 = 6;
/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long a client waits before it tries again.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a primary is unreachable before a standby replaces it: longer than a node answers without a heartbeat.
const FAILOVER_AFTER: Duration = Duration::from_secs(4);
/// The longest time without an acknowledgement after a failure.
const STALL_MAX: Duration = Duration::from_secs(60);

/// What was acknowledged, and what must not be.
#[derive(Default)]
struct Ledger {
    rotations: AtomicU64,
    /// The refresh tokens of sessions that were revoked.
    revoked: Mutex<Vec<String>>,
    not_answered: AtomicU64,
    restarts: AtomicU32,
    faults: Mutex<Vec<String>>,
}

impl Ledger {
    fn fault(&self, what: String) {
        let _ = writeln!(stderr(), "fault: {what}");
        self.faults.lock().push(what);
    }
}

/// A node and its process, which is started again whenever it has ended.
struct Supervised {
    node: Node,
    /// The variables of its process that set its clock.
    clock: Vec<(&'static str, String)>,
    process: Mutex<Option<Authority>>,
}

impl Supervised {
    fn start(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.node.directory.path().join("log"))
            .unwrap();
        let child = tessera()
            .args(["serve", "--config"])
            .arg(self.node.directory.path().join("tessera.toml"))
            .env("RUST_LOG", "info")
            .envs(self.clock.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock() = Some(Authority::adopt(child, self.node.address.clone()));
    }

    /// Returns whether it had ended.
    fn start_where_it_has_ended(&self) -> bool {
        let has_ended = self.process.lock().as_mut().is_none_or(Authority::has_ended);
        if has_ended {
            self.start();
        }
        has_ended
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &*self.process.lock() {
            process.signal(name);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.node.directory.path().join("log")).unwrap_or_default()
    }
}

/// The state that clients share.
struct World {
    nodes: Vec<Supervised>,
    clients: Vec<Client>,
    verifiers: Verifiers,
    /// Between the nodes and each server, in the order of [`Servers::NAMES`]; the last node has its own.
    proxies: Vec<Proxy>,
    proxies_of_last: Vec<Proxy>,
    ledger: Ledger,
    is_over: AtomicBool,
}

impl World {
    fn all_proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.iter().chain(&self.proxies_of_last)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// The answer; `None` if there is none, or if the call is refused for now.
    async fn asked<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Option<Result<T, Status>> {
        let answer = match timeout(ANSWER_MAX, call).await {
            Ok(Err(status)) if is_passing(&status) => None,
            Ok(answer) => Some(answer),
            Err(_) => None,
        };
        if answer.is_none() {
            self.ledger.not_answered.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        answer
    }
}

fn is_passing(status: &Status) -> bool {
    // tonic reports a broken connection as `Unknown` or `Cancelled`, and one that the node ends as `Internal`.
    let is_of_connection = status.code() == Code::Internal && std::error::Error::source(status).is_some();
    is_of_connection
        || matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Unknown | Code::Cancelled
        )
}

/// The next pseudo-random number.
fn next(number: &mut u32) -> usize {
    *number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
    (*number >> 8) as usize
}

/// Begins a session at any node.
async fn begin(world: &World, seed: &mut u32, subject: &str) -> Option<(String, TokenSet)> {
    while !world.is_over() {
        let client = &world.clients[next(seed) % NODES];
        match world.asked(client.issue(reader(subject))).await {
            Some(Ok(issued)) => return Some((issued.session_id, issued.tokens.unwrap())),
            Some(Err(status)) => world.ledger.fault(format!("Issue: {status}")),
            None => {}
        }
    }
    None
}

/// Rotates one session again and again, at any node. Only this client has its tokens, so none is ever refused.
async fn rotate(world: Arc<World>, number: u32) {
    let mut seed = number;
    let subject = format!("user:chain-{number}");
    let Some((_, tokens)) = begin(&world, &mut seed, &subject).await else {
        return;
    };
    let (mut token, mut generation) = (tokens.refresh_token, 1);
    // Whether the token was presented before, and may have been spent without an answer.
    let mut is_repeated = false;
    loop {
        let client = &world.clients[next(&mut seed) % NODES];
        match world.asked(client.refresh(&token)).await {
            Some(Ok(RefreshResponse {
                tokens: Some(tokens),
                generation: now,
                replayed,
                ..
            })) => {
                if replayed && !is_repeated {
                    world
                        .ledger
                        .fault(format!("{subject}: one call rotated {generation} twice"));
                }
                is_repeated = false;
                if now != generation + 1 {
                    world
                        .ledger
                        .fault(format!("{subject}: after {generation} comes {now}"));
                }
                (token, generation) = (tokens.refresh_token, now);
                world.ledger.rotations.fetch_add(1, Ordering::Relaxed);
                if world.is_over() {
                    return;
                }
            }
            Some(Ok(_)) => world.ledger.fault(format!("{subject}: no tokens")),
            Some(Err(status)) => {
                world.ledger.fault(format!("{subject}: {status}"));
                return;
            }
            None => is_repeated = true,
        }
    }
}

/// Presents each refresh token to two nodes at once. One of them rotates the session, and the other repeats its answer.
async fn present_twice(world: Arc<World>) {
    let mut seed = 5;
    let Some((_, tokens)) = begin(&world, &mut seed, "user:twice").await else {
        return;
    };
    let (mut token, mut generation, mut is_repeated) = (tokens.refresh_token, 1, false);
    while !world.is_over() {
        let first = next(&mut seed) % NODES;
        let (one, other) = (&world.clients[first], &world.clients[(first + 1) % NODES]);
        let (one, other) = tokio::join!(
            world.asked(one.refresh(&token)),
            world.asked(other.refresh(&token))
        );
        let has_both = one.is_some() && other.is_some();
        let mut answers = Vec::new();
        for answer in [one, other].into_iter().flatten() {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(status) => world.ledger.fault(format!("one of two calls: {status}")),
            }
        }
        let rotated = answers.iter().filter(|answer| !answer.replayed).count();
        if rotated > 1 || (rotated == 0 && has_both && !is_repeated) {
            let fault = format!("{rotated} of two calls rotated {generation}");
            world.ledger.fault(fault);
        }
        if let Some(answer) = answers.iter().find(|answer| answer.generation != generation + 1) {
            let fault = format!("of two calls after {generation}, one got {}", answer.generation);
            world.ledger.fault(fault);
        }
        is_repeated = answers.is_empty();
        if let Some(tokens) = answers.pop().and_then(|answer| answer.tokens) {
            (token, generation) = (tokens.refresh_token, generation + 1);
        }
    }
}

/// Ends sessions. After the answer, another node must report the end, or not answer.
async fn revoke(world: Arc<World>) {
    let mut seed = 77;
    let mut number = 0;
    while !world.is_over() {
        number += 1;
        let subject = format!("user:once-{number}");
        let Some((session, tokens)) = begin(&world, &mut seed, &subject).await else {
            return;
        };
        world.verifiers.accepted(&tokens.access_token);
        let here = next(&mut seed) % NODES;
        let revoked = world.clients[here].revoke(Target::SessionId(session));
        match world.asked(revoked).await {
            Some(Ok(_)) => {
                world.verifiers.must_refuse(&tokens.access_token);
                world.ledger.revoked.lock().push(tokens.refresh_token.clone());
            }
            Some(Err(status)) => {
                world.ledger.fault(format!("Revoke: {status}"));
                continue;
            }
            None => continue,
        }
        for there in 0..NODES {
            let introspected = introspect(&world.clients[there], &tokens.access_token);
            if let Some(Ok(true)) = world.asked(introspected).await {
                world.ledger.fault(format!(
                    "{subject} was revoked at node {here}, and is active at node {there}"
                ));
            }
        }
    }
}

async fn introspect(client: &Client, token: &str) -> Result<bool, Status> {
    let request = IntrospectRequest {
        token: token.to_owned(),
        ..IntrospectRequest::default()
    };
    Ok(client.tokens().introspect(request).await?.into_inner().active)
}

/// How many kinds of failures there are.
const KINDS: u32 = 10;

/// Causes the failure of a turn.
async fn break_something(world: &World, servers: &mut Servers, names: &std::path::Path, turn: u32) {
    let node = &world.nodes[(turn / KINDS) as usize % NODES];
    match turn % KINDS {
        0 => servers.fail_over(names),
        1 => node.signal("KILL"),
        2 => {
            // It is frozen for longer than it may answer without a heartbeat, and than the server lets it hold the
            // lock.
            node.signal("STOP");
            sleep(Duration::from_secs(5)).await;
            node.signal("CONT");
        }
        // Its sessions are ended; waits are cancelled; it is frozen; it is cut off from its standbys.
        quarter @ 3..=5 => servers.disturb(quarter - 3).await,
        6 => {
            servers.disturb(3).await;
            servers.fail_over(names);
        }
        7 => cut_commits(world).await,
        8 => leave_one_behind(world, servers, names).await,
        _ => node.signal("TERM"),
    }
}

/// The primary is cut off from its standbys, and from all nodes but the last one. A standby replaces it, while the last
/// node can still read what the old primary has.
async fn leave_one_behind(world: &World, servers: &mut Servers, names: &std::path::Path) {
    let primary = Servers::NAMES
        .iter()
        .position(|name| *name == servers.primary_name());
    let proxy = &world.proxies[primary.unwrap()];
    servers.cut_off_primary().await;
    proxy.shut(true);
    sleep(FAILOVER_AFTER).await;
    let old = servers.replace_primary(names);
    proxy.shut(false);
    let revoked = || world.ledger.revoked.lock().len();
    let before = revoked();
    let moved = async {
        while revoked() < before + 5 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(STALL_MAX, moved).await.expect("the others have moved");
    drop(old);
}

/// The server commits, and the node does not get the answer.
async fn cut_commits(world: &World) {
    for _ in 0..10 {
        let armed = world.all_proxies();
        armed.for_each(|proxy| proxy.cutter(Cut::AfterTheCommit)());
        let cut = async {
            while !world.all_proxies().any(Proxy::has_cut) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(STALL_MAX, cut).await.expect("something is committed");
    }
    world.all_proxies().for_each(|proxy| proxy.cutter(Cut::Never)());
}

/// Waits until clients get answers again, and starts nodes that have ended.
async fn recover(world: &World, turn: u32) {
    let before = world.ledger.rotations.load(Ordering::Relaxed);
    let began = Instant::now();
    while world.ledger.rotations.load(Ordering::Relaxed) < before + u64::from(CHAINS) {
        for node in &world.nodes {
            if node.start_where_it_has_ended() {
                world.ledger.restarts.fetch_add(1, Ordering::Relaxed);
            }
        }
        if began.elapsed() > STALL_MAX {
            let logs: Vec<_> = world.nodes.iter().map(Supervised::log).collect();
            panic!(
                "turn {turn}: nothing is acknowledged any more\n{}",
                logs.join("\n---\n")
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Three configured nodes, and the API key of their first client.
fn three_nodes(url: &str) -> (Vec<Node>, String) {
    let first = tempfile::tempdir().unwrap();
    let mut init = tessera();
    let made = json(init.arg("init").arg(first.path()).args(["--postgres", url]));
    let api_key = made["api_keys"]["production"].as_str().unwrap().to_owned();
    let_the_operator_issue(first.path());
    let config = first.path().join("tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text
        .replace(
            "[store.postgres]\n",
            "[store.postgres]\ndurability = \"quorum\"\n",
        )
        .replace("grace = \"10s\"", "grace = \"60s\"")
        .replace("grace_replays_max = 20", "grace_replays_max = 255");
    fs::write(&config, text).unwrap();
    let mut nodes = Vec::new();
    for _ in 1..NODES {
        let other = tempfile::tempdir().unwrap();
        copy_directory(first.path(), other.path());
        nodes.push(Node::at(other));
    }
    nodes.push(Node::at(first));
    (nodes, api_key)
}

/// Proxies before the servers, and how nodes connect through them.
fn proxied(names: &std::path::Path, proxy: fn(PathBuf) -> Proxy) -> (Vec<Proxy>, String) {
    let proxies = Servers::NAMES.map(|name| proxy(names.join(name).join(".s.PGSQL.5432")));
    let hosts = proxies.each_ref().map(Proxy::host).join(",");
    let url = format!("host={hosts} user=postgres dbname=postgres");
    (proxies.into(), url)
}

/// The nodes, not started yet, and all that calls them. The last one connects through proxies of its own.
async fn proxied_world(servers: &mut Servers, names: &std::path::Path, library: &std::path::Path) -> World {
    servers.url(names);
    let (proxies, url) = proxied(names, Proxy::before);
    let (proxies_of_last, url_of_last) = proxied(names, Proxy::without_listen);
    let (nodes, api_key) = three_nodes(&url);
    let config = nodes.last().unwrap().directory.path().join("tessera.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(&url), "{text}");
    fs::write(&config, text.replace(&url, &url_of_last)).unwrap();
    World {
        proxies,
        proxies_of_last,
        ..World::of(nodes, &api_key, library).await
    }
}

impl World {
    /// Nodes that connect without proxies.
    async fn of(nodes: Vec<Node>, api_key: &str, library: &std::path::Path) -> Self {
        let mut clients = Vec::new();
        for node in &nodes {
            clients.push(node.client(api_key).await);
        }
        let addresses: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
        let supervised = nodes.into_iter().zip(CLOCKS).map(|(node, offset)| Supervised {
            node,
            clock: vec![
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME", offset.to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ],
            process: Mutex::default(),
        });
        Self {
            nodes: supervised.collect(),
            clients,
            verifiers: Verifiers::start(&addresses, api_key),
            proxies: Vec::new(),
            proxies_of_last: Vec::new(),
            ledger: Ledger::default(),
            is_over: AtomicBool::default(),
        }
    }
}

/// All that call the nodes, until the end.
struct Callers(Vec<JoinHandle<()>>);

impl Callers {
    async fn start(world: &Arc<World>) -> Self {
        let mut callers = vec![
            tokio::spawn(revoke(Arc::clone(world))),
            tokio::spawn(present_twice(Arc::clone(world))),
            tokio::spawn(verifiers::ask(Arc::clone(world))),
        ];
        callers.extend((0..CHAINS).map(|number| tokio::spawn(rotate(Arc::clone(world), number))));
        recover(world, 0).await;
        Self(callers)
    }

    async fn finish(self, world: &World) {
        world.is_over.store(true, Ordering::Relaxed);
        for caller in self.0 {
            let finished = timeout(STALL_MAX, caller).await;
            finished.expect("clients are answered").unwrap();
        }
    }
}

/// Causes the failures of all turns, unless a fault is found first.
async fn break_again(world: &World, turns: u32, mut break_something: impl AsyncFnMut(u32)) {
    for turn in 0..turns {
        let rotations = world.ledger.rotations.load(Ordering::Relaxed);
        let _ = writeln!(stderr(), "turn {turn}: {rotations} rotations");
        break_something(turn).await;
        recover(world, turn).await;
        if !world.ledger.faults.lock().is_empty() {
            break;
        }
    }
}

async fn survive(turns: u32) {
    let Some(library) = clocks::library() else {
        return;
    };
    let names = tempfile::tempdir().unwrap();
    let mut servers = Servers::start();
    let world = Arc::new(proxied_world(&mut servers, names.path(), &library).await);
    let callers = Callers::start(&world).await;
    break_again(&world, turns, async |turn| {
        break_something(&world, &mut servers, names.path(), turn).await;
    })
    .await;
    callers.finish(&world).await;
    check(&world, &servers.primary().sql(GAPS)).await;
}

/// How many entries of the log are missing.
const GAPS: &str = "SELECT max(seq) - min(seq) + 1 - count(*) FROM tessera.event";

/// Compares the stored state with what was acknowledged, and prints how much that was.
async fn check(world: &World, gaps: &str) {
    let revoked = world.ledger.revoked.lock().clone();
    let mut seed = 1;
    for (number, token) in revoked.iter().enumerate() {
        let answer = loop {
            let client = &world.clients[next(&mut seed) % NODES];
            if let Some(answer) = world.asked(client.refresh(token)).await {
                break answer;
            }
        };
        match answer {
            Ok(_) => world.ledger.fault(format!("revoked session {number} goes on")),
            Err(status)
                if status.code() == Code::Unauthenticated || status.code() == Code::PermissionDenied => {}
            Err(status) => world
                .ledger
                .fault(format!("revoked session {number}: {}", reason(&status))),
        }
    }
    let ledger = &world.ledger;
    let _ = writeln!(
        stderr(),
        "{} rotations and {} revocations acknowledged, {} calls not answered, {} starts, {} good tokens accepted by verifiers",
        ledger.rotations.load(Ordering::Relaxed),
        revoked.len(),
        ledger.not_answered.load(Ordering::Relaxed),
        ledger.restarts.load(Ordering::Relaxed),
        world.verifiers.count_accepted(),
    );
    assert_eq!(gaps, "0", "the log has no gap");
    assert_eq!(ledger.faults.lock().clone(), Vec::<String>::new());
    assert!(!revoked.is_empty());
    assert!(
        world.verifiers.count_accepted() > 0,
        "verifiers have something to do"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn nothing_is_lost_whatever_breaks() {
    survive(KINDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: TESSERA_NODE_FAILURES=200, needs PostgreSQL"]
async fn nothing_is_lost_by_many_failures() {
    let turns = env::var("TESSERA_NODE_FAILURES")
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(turns) = turns {
        survive(turns).await;
    }
}
