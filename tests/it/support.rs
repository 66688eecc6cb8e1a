//! Running the binary, and calling the authority.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::Value;
use tessera_proto::v1::{
    self, IntrospectRequest, IntrospectResponse, IssueRequest, IssueResponse, RefreshRequest,
    RefreshResponse, RevokeRequest, RevokeResponse, policy_service_client::PolicyServiceClient,
    revocation_service_client::RevocationServiceClient, revoke_request::Target,
    token_service_client::TokenServiceClient,
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The workspace's directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary: `TESSERA_BIN`, or the one beside this test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("TESSERA_BIN") {
        Some(path) => path.into(),
        None => binaries().join("tessera"),
    })
}

/// The directory with the binary and the example services, built now so that none is outdated. One build for all:
/// shared dependencies would be built twice otherwise.
pub fn binaries() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // target/<profile>/deps/it-…
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap().to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        // Cargo's variables about this test's package must not reach the other build: some build scripts read them, and
        // their dependents would be built again each time.
        for (name, _) in std::env::vars() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"]
                .iter()
                .any(|start| name.starts_with(start))
            {
                cargo.env_remove(name);
            }
        }
        cargo.args([
            "build",
            "--quiet",
            "--bins",
            "-p",
            "tessera-cli",
            "-p",
            "tessera-examples",
        ]);
        if profile.file_name().is_some_and(|name| name == "release") {
            cargo.arg("--release");
        }
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        let built = cargo.current_dir(root()).status().unwrap();
        assert!(built.success(), "tessera does not build");
        profile
    })
}

/// An example service, killed when it is dropped.
pub struct Service {
    child: Child,
    /// The variable with its address, and the value.
    pub place: (String, String),
}

impl Service {
    /// Starts it with these variables; it prints an `export` line when it listens.
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binaries().join(name))
            .env("LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        printed.read_line(&mut line).unwrap();
        let exported = line.trim().strip_prefix("export ").expect("an export line");
        let (variable, value) = exported.split_once('=').unwrap();
        let place = (variable.to_owned(), value.to_owned());
        Self { child, place }
    }
}

impl Service {
    /// A signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running authority, killed when it is dropped.
pub struct Authority {
    child: Child,
    /// The line that `--print-json` printed; null for `tessera serve`.
    pub ready: Value,
    pub address: String,
}

impl Authority {
    /// `tessera dev` with free ports and further arguments.
    pub fn dev(arguments: &[&str]) -> Self {
        Self::start_dev(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `tessera dev` on a data directory.
    pub fn dev_on(data: &Path) -> Self {
        Self::dev(&["--data-dir", data.to_str().unwrap()])
    }

    /// The same, or its output instead of a start.
    pub fn start_dev(arguments: &[&str]) -> Result<Self, String> {
        Self::start_dev_with(arguments, &[])
    }

    /// The same, with these variables.
    pub fn start_dev_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self, String> {
        let mut command = Command::new(binary());
        command.envs(variables.iter().copied());
        command.args([
            "dev",
            "--print-json",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            let output = child.wait_with_output().unwrap();
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        // Its log is discarded, but must not fill the pipe.
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["grpc"].as_str().unwrap().to_owned();
        Ok(Self {
            child,
            ready,
            address,
        })
    }

    /// An authority that another part started.
    pub fn adopt(child: Child, address: String) -> Self {
        Self {
            child,
            ready: Value::Null,
            address,
        }
    }

    pub fn api_key(&self, realm: &str) -> String {
        self.ready["realms"][realm]["api_key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn client(&self, realm: &str) -> Client {
        self.with_key(&self.api_key(realm)).await
    }

    pub async fn with_key(&self, api_key: &str) -> Client {
        Client::connect(&self.address, api_key).await
    }

    /// Runs `tessera` against this authority.
    pub fn tessera(&self, realm: &str) -> Command {
        let mut command = tessera();
        command.env("TESSERA_ADDR", &self.address);
        if !realm.is_empty() {
            command.env("TESSERA_API_KEY", self.api_key(realm));
        }
        command
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Pauses it: it keeps its connections, and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        // The signal is sent, and each thread stops when it receives it.
        while !self.is_paused() {
            assert!(Instant::now() < deadline, "it does not pause");
            std::thread::yield_now();
        }
    }

    fn is_paused(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.into_iter().all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
            // A thread that has ended meanwhile has no such file.
            stat.is_err() || stat.unwrap().rsplit_once(") ").unwrap().1.starts_with('T')
        })
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, without this test's environment.
pub fn tessera() -> Command {
    let mut command = Command::new(binary());
    for variable in [
        "TESSERA_ADDR",
        "TESSERA_API_KEY",
        "TESSERA_CA",
        "TESSERA_SERVER_KEY",
        "TESSERA_BACKUP_KEY",
        "TESSERA_SERVER_KEY_FILE",
        "TESSERA_SEALING_KEY",
        "TESSERA_PKCS11_PIN",
        "TESSERA_PKCS11_PIN_FILE",
        "TESSERA_ADMIN_ADDR",
        "NOTIFY_SOCKET",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// The JSON that a command printed; it must have succeeded.
pub fn json(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends an API key with each call.
#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

/// A client with an API key.
#[derive(Clone)]
pub struct Client {
    pub channel: InterceptedService<Channel, Bearer>,
}

impl Client {
    pub async fn connect(address: &str, api_key: &str) -> Self {
        let channel = Endpoint::from_shared(address.to_owned()).unwrap().connect_lazy();
        Self {
            channel: InterceptedService::new(channel, Bearer(api_key.to_owned())),
        }
    }

    /// A client of an authority with TLS, whose certificate a certificate authority signed.
    pub fn over_tls(address: &str, api_key: &str, ca: &str) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        Self {
            channel: InterceptedService::new(channel, Bearer(api_key.to_owned())),
        }
    }

    pub fn tokens(&self) -> TokenServiceClient<InterceptedService<Channel, Bearer>> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub fn revocations(&self) -> RevocationServiceClient<InterceptedService<Channel, Bearer>> {
        RevocationServiceClient::new(self.channel.clone())
    }

    pub fn policies(&self) -> PolicyServiceClient<InterceptedService<Channel, Bearer>> {
        PolicyServiceClient::new(self.channel.clone())
    }

    pub async fn issue(&self, request: IssueRequest) -> Result<IssueResponse, Status> {
        self.tokens()
            .issue(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub async fn refresh(&self, refresh_token: &str) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest {
            refresh_token: refresh_token.to_owned(),
            ..RefreshRequest::default()
        };
        self.tokens()
            .refresh(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub async fn introspect(&self, token: &str) -> IntrospectResponse {
        let request = IntrospectRequest {
            token: token.to_owned(),
            ..IntrospectRequest::default()
        };
        self.tokens().introspect(request).await.unwrap().into_inner()
    }

    pub async fn revoke(&self, target: Target) -> Result<RevokeResponse, Status> {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        self.tokens()
            .revoke(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

pub fn viewer(subject: &str) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        roles: vec!["role:viewer".to_owned()],
        ..IssueRequest::default()
    }
}

pub fn access(tokens: Option<&v1::TokenSet>) -> String {
    tokens.unwrap().access_token.clone()
}

pub fn refresh(tokens: Option<&v1::TokenSet>) -> String {
    tokens.unwrap().refresh_token.clone()
}

/// The reason of a refusal.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"))
        .reason
}

/// Waits for something that must happen soon.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// Copies a directory as it is now.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
