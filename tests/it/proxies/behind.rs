//! A service behind a real proxy, with a configuration that the documents show.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    peers::Peers,
    support::{PATIENCE, root},
};

/// The command that starts a proxy with a configuration and a separate directory.
pub(crate) type Start = fn(&Peers, &Path, &Path) -> Command;

/// A service behind a proxy.
pub(crate) struct Behind {
    service: Service,
    proxy: Proxy,
}

impl Behind {
    /// Starts both; the proxy asks the authority at an address.
    pub(crate) fn start(peers: &Peers, authority: &str, config: &str, start: Start) -> Self {
        let service = Service::start();
        let port = authority.rsplit(':').next().unwrap().to_owned();
        let ports = [("7600", port), ("9000", service.address.port().to_string())];
        let proxy = Proxy::start(peers, config, &ports, start);
        Self { service, proxy }
    }

    /// A request through the proxy: its method and path, and headers.
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.service, self.proxy.address, line, headers)
    }
}

pub(crate) fn caddy(peers: &Peers, config: &Path, directory: &Path) -> Command {
    let mut caddy = peers.tool("caddy");
    caddy
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(config);
    // It writes to its user's directories otherwise.
    for directory_of in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        caddy.env(directory_of, directory);
    }
    caddy
}

pub(crate) fn traefik(peers: &Peers, config: &Path, directory: &Path) -> Command {
    let text = fs::read_to_string(config).unwrap();
    // The command is in the configuration, too.
    let command = text.split_once("# traefik ").unwrap().1;
    let command = command.lines().next().unwrap();
    let mut traefik = peers.tool("traefik");
    traefik.args(command.split(' ')).current_dir(directory);
    traefik
}

pub(crate) fn envoy(peers: &Peers, config: &Path, _: &Path) -> Command {
    let mut envoy = peers.tool("envoy");
    envoy.args(["--disable-hot-restart", "--concurrency", "1"]);
    envoy.args(["--log-level", "warn", "--config-path"]).arg(config);
    envoy
}

pub(crate) fn nginx(_: &Peers, config: &Path, directory: &Path) -> Command {
    let mut nginx = Command::new("nginx");
    // On Debian it is on the PATH of administrators only.
    let path = std::env::var("PATH").unwrap_or_default();
    nginx.env("PATH", format!("{path}:/usr/sbin"));
    nginx.arg("-c").arg(config).arg("-p").arg(directory).arg("-g");
    nginx.arg(format!(
        "daemon off; master_process off; error_log stderr; pid {};",
        directory.join("nginx.pid").display()
    ));
    nginx
}

/// A proxy, killed when it is dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    /// Starts it with a configuration of the documents, its ports replaced.
    fn start(peers: &Peers, config: &str, ports: &[(&str, String)], start: Start) -> Self {
        let directory = TempDir::new().unwrap();
        let address = free_address();
        let mut text = fs::read_to_string(root().join("docs/proxies").join(config)).unwrap();
        for (from, to) in ports.iter().chain(&[("8080", address.port().to_string())]) {
            assert!(text.contains(from), "{config}: {from}");
            text = text.replace(from, to);
        }
        let path = directory.path().join(config);
        fs::write(&path, text).unwrap();
        let mut command = start(peers, &path, directory.path());
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let started = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let mut proxy = Self {
            child: started.unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program())),
            address,
            directory,
        };
        proxy.wait_until_it_serves();
        proxy
    }

    /// A proxy may listen before it has read its configuration.
    fn wait_until_it_serves(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.serves() {
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap();
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", log());
            assert!(Instant::now() < deadline, "it does not serve: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the public route works.
    fn serves(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return false;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let request = b"GET /health HTTP/1.1\r\nhost: videos\r\nconnection: close\r\n\r\n";
        stream.write_all(request).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on which nothing listens now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A service that answers with the headers that it received.
struct Service {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&service.requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, requests) = (stream.unwrap(), Arc::clone(&requests));
                thread::spawn(move || echo(stream, &requests));
            }
        });
        service
    }
}

fn echo(mut stream: TcpStream, requests: &AtomicUsize) {
    let mut head = String::new();
    for line in BufReader::new(&mut stream).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        head += &format!("{line}\n");
    }
    if head.is_empty() {
        return;
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let length = head.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{head}");
    let _ = stream.write_all(answer.as_bytes());
}

/// The answer through the proxy.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    /// The head of the request as the service received it, if it did.
    body: String,
    pub(crate) reached: bool,
}

fn ask(service: &Service, proxy: SocketAddr, line: &str, headers: &[(&str, &str)]) -> Answer {
    let before = service.requests.load(Ordering::SeqCst);
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: 0\r\n");
    if headers.iter().all(|(name, _)| *name != "host") {
        request += "host: videos\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
        reached: service.requests.load(Ordering::SeqCst) > before,
    }
}

impl Answer {
    pub(crate) fn reached_as(&self, subject: &str, scopes: &str) {
        assert!(self.status == 200 && self.reached, "{self:?}");
        assert_eq!(self.seen("x-tessera-subject"), [subject]);
        assert_eq!(self.seen("x-tessera-scopes"), [scopes]);
        assert_eq!(self.seen("x-tessera-client"), ["client:dev"]);
        assert_eq!(self.seen("x-tessera-realm"), ["production"]);
    }

    pub(crate) fn refused(&self, status: u16, challenge: &str) {
        assert_eq!((self.status, self.reached), (status, false), "{self:?}");
        assert_eq!(values(&self.head, "www-authenticate"), [challenge]);
    }

    /// The values of a header that the service received.
    pub(crate) fn seen(&self, name: &str) -> Vec<&str> {
        values(&self.body, name)
    }
}

fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(called, _)| called.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}
