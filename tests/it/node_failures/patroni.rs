//! The same with Patroni and etcd, which decide by themselves which server is the primary: it is changed in order, the
//! server or its whole machine is lost with its disk, Patroni is frozen while its server runs on as a primary that was
//! replaced, and etcd is frozen, so that there is no primary.
//!
//! Patroni comes with the peers (`.ci/peers`), and etcd is Debian's (`apt-get install etcd-server`). The long form:
//! `TESSERA_PATRONI_FAILURES=30 cargo test -p tessera-proto --test it -- --ignored --nocapture with_patroni_and_etcd`.

use std::{
    env, fs,
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{Callers, GAPS, World, break_again, check, clocks, three_nodes};
use crate::{
    peers::Peers,
    postgres_server::{directory, is_root, programs},
    serving::free_port,
};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long the servers may take to have a primary and two standbys again.
const WHOLE_AGAIN_MAX: Duration = Duration::from_secs(90);
/// Patroni and the server of a machine, and their restart while the machine runs. All ends when the input is closed,
/// however the tests end.
const MACHINE: &str = r#"cd /
( while :; do
    if [ ! -e "$2/lost" ]; then "$1" "$2/patroni.yml" >>"$2/log" 2>&1 & echo $! >"$2/pid"; wait $!; fi
    sleep 0.2
done ) & loop=$!
read -r _
kill -KILL $loop $(cat "$2/pid") $(head -n 1 "$2/data/postmaster.pid")
until rm -rf "$2"; do sleep 0.2; done"#;
const ETCD: &str = r#"cd /
"$@" & etcd=$!
read -r _
kill -KILL $etcd"#;

/// A program of the server's user that can read the peers, which may be where only root can.
fn unprivileged_reader(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
    command.arg(program);
    command
}

/// A shell and its processes, which end with it.
struct Shell {
    child: Child,
    running: Option<ChildStdin>,
}

impl Shell {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut command = unprivileged_reader("sh");
        command.args(["-c", script, "sh"]).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let running = child.stdin.take();
        Self { child, running }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.running = None;
        let _ = self.child.wait();
    }
}

/// A machine with a server that Patroni leads.
struct Member {
    directory: PathBuf,
    port: u16,
    /// The port of Patroni's REST API.
    api: u16,
    _machine: Shell,
}

impl Member {
    fn start(name: &str, etcd: u16, patroni: &Path) -> Self {
        let (directory, port, api) = (directory(), free_port(), free_port());
        let text = fs::read_to_string("tests/peers/patroni.yml").unwrap();
        let text = text
            .replace("{name}", name)
            .replace("{directory}", directory.to_str().unwrap())
            .replace("{programs}", programs().to_str().unwrap())
            .replace("{etcd}", &etcd.to_string())
            .replace("{api}", &api.to_string())
            .replace("{port}", &port.to_string());
        fs::write(directory.join("patroni.yml"), text).unwrap();
        let machine = Shell::start(MACHINE, &[patroni.to_str().unwrap(), directory.to_str().unwrap()]);
        Self {
            directory,
            port,
            api,
            _machine: machine,
        }
    }

    /// Patroni's answer to a question about its server: whether that is so.
    fn is(&self, what: &str) -> bool {
        let url = format!("http://127.0.0.1:{}/{what}", self.api);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "1", "--output", "/dev/null"]);
        curl.arg(url).status().expect("curl runs").success()
    }

    fn signal_patroni(&self, signal: &str) {
        kill(signal, first_line(&self.directory.join("pid")));
    }

    fn kill_server(&self) {
        kill("KILL", first_line(&self.directory.join("data/postmaster.pid")));
    }

    fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.port.to_string(), "-c", statement]);
        let output = psql.output().expect("psql runs");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Nothing if the process has ended already.
fn kill(signal: &str, process: Option<String>) {
    if let Some(process) = process {
        let _ = Command::new("kill")
            .args([&format!("-{signal}"), &process])
            .stderr(Stdio::null())
            .status();
    }
}

struct Cluster {
    members: Vec<Member>,
    etcd: Etcd,
}

struct Etcd {
    directory: PathBuf,
    port: u16,
    shell: Shell,
}

impl Etcd {
    /// `None` after printing how to get it. With `TESSERA_PEERS=required` it must be installed.
    fn start() -> Option<Self> {
        let is_there = Command::new("etcd").arg("--version").output().is_ok();
        let is_required = env::var_os("TESSERA_PEERS").is_some_and(|value| value == "required");
        assert!(is_there || !is_required, "no etcd: apt-get install etcd-server");
        if !is_there {
            let _ = writeln!(stderr(), "nothing tested: apt-get install etcd-server");
            return None;
        }
        let (directory, port) = (directory(), free_port());
        let [clients, peers] = [port, free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let shell = Shell::start(
            ETCD,
            &[
                "etcd",
                "--data-dir",
                directory.join("data").to_str().unwrap(),
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
                "--initial-cluster",
                &format!("default={peers}"),
            ],
        );
        Some(Self {
            directory,
            port,
            shell,
        })
    }

    fn signal(&self, signal: &str) {
        let shell = self.shell.child.id().to_string();
        let sent = Command::new("pkill")
            .args([&format!("-{signal}"), "-P", &shell])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "etcd runs");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Cluster {
    async fn start(etcd: Etcd, peers: &Peers) -> Self {
        let patroni = peers.directory().join("venv/bin/patroni");
        let members = NAMES.map(|name| Member::start(name, etcd.port, &patroni));
        let cluster = Self {
            members: members.into(),
            etcd,
        };
        cluster.is_whole().await;
        cluster
    }

    fn url(&self) -> String {
        let ports: Vec<_> = self
            .members
            .iter()
            .map(|member| member.port.to_string())
            .collect();
        let ports = ports.join(",");
        format!(
            "host=127.0.0.1,127.0.0.1,127.0.0.1 port={ports} user=postgres dbname=postgres sslmode=disable"
        )
    }

    /// Waits until there is a primary that two standbys follow, one of which has each commit.
    async fn is_whole(&self) {
        self.wait(|cluster| {
            let replicas = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'";
            let leader = cluster.leaders().next();
            leader.is_some_and(|leader| leader.sql(replicas) == "2")
        })
        .await;
    }

    /// Those that have the lock in etcd.
    fn leaders(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is("leader"))
    }

    async fn leader(&self) -> &Member {
        self.wait(|cluster| cluster.leaders().next().is_some()).await;
        self.leaders()
            .next()
            .expect("it is the leader since a moment ago")
    }

    async fn wait(&self, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            if began.elapsed() > WHOLE_AGAIN_MAX {
                let logs: Vec<_> = self.members.iter().map(Member::log).collect();
                panic!("the servers do not recover\n{}", logs.join("\n---\n"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until another one than `old` is the leader.
    async fn is_replaced(&self, old: &Member) {
        self.wait(|cluster| cluster.leaders().any(|leader| leader.port != old.port))
            .await;
    }
}

/// How many kinds of failures there are.
const KINDS: u32 = 6;

/// Causes the failure of a turn, and waits until the servers have recovered: with two failures at once, no quorum is left.
async fn break_something(world: &World, cluster: &Cluster, peers: &Peers, turn: u32) {
    let node = &world.nodes[(turn / KINDS) as usize % world.nodes.len()];
    let leader = cluster.leader().await;
    match turn % KINDS {
        0 => change_over(leader, peers),
        1 => leader.kill_server(),
        // The machine is lost with its disk, and another one takes its place.
        2 => {
            fs::write(leader.directory.join("lost"), "").unwrap();
            leader.signal_patroni("KILL");
            leader.kill_server();
            cluster.is_replaced(leader).await;
            fs::remove_dir_all(leader.directory.join("data")).unwrap();
            fs::remove_file(leader.directory.join("lost")).unwrap();
        }
        3 => {
            leader.signal_patroni("STOP");
            cluster.is_replaced(leader).await;
            super::recover(world, turn).await;
            leader.signal_patroni("CONT");
        }
        4 => {
            cluster.etcd.signal("STOP");
            cluster.wait(leader_is_demoted).await;
            cluster.etcd.signal("CONT");
        }
        _ => {
            node.signal("KILL");
            change_over(leader, peers);
        }
    }
    cluster.is_whole().await;
}

/// Whether no server takes writes any more.
fn leader_is_demoted(cluster: &Cluster) -> bool {
    let takes_writes = |member: &Member| member.sql("SELECT pg_is_in_recovery()") == "f";
    !cluster.members.iter().any(takes_writes)
}

/// Another server becomes the primary, in order.
fn change_over(leader: &Member, peers: &Peers) {
    let output = peers
        .tool("patronictl")
        .arg("-c")
        .arg(leader.directory.join("patroni.yml"))
        .args(["switchover", "--force"])
        .output()
        .expect("patronictl runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

async fn survive(turns: u32) {
    let (Some(library), Some(peers), Some(etcd)) = (clocks::library(), Peers::installed(), Etcd::start())
    else {
        return;
    };
    let cluster = Cluster::start(etcd, &peers).await;
    let (nodes, api_key) = three_nodes(&cluster.url());
    let world = Arc::new(World::of(nodes, &api_key, &library).await);
    let callers = Callers::start(&world).await;
    break_again(&world, turns, async |turn| {
        break_something(&world, &cluster, &peers, turn).await;
    })
    .await;
    callers.finish(&world).await;
    check(&world, &cluster.leader().await.sql(GAPS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL, etcd and peers"]
async fn nothing_is_lost_when_patroni_changes_the_primary() {
    survive(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: TESSERA_PATRONI_FAILURES=30, needs PostgreSQL, etcd and peers"]
async fn nothing_is_lost_with_patroni_and_etcd() {
    let turns = env::var("TESSERA_PATRONI_FAILURES").ok();
    if let Some(turns) = turns.and_then(|text| text.parse().ok()) {
        survive(turns).await;
    }
}
