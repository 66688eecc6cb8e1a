//! The servers, running and connected.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tempfile::TempDir;
use tessera_client::{ApiKey, Connection};
use tokio::process::Command;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    arguments::Run,
    failure::Failure,
    process::{self, Process},
};

/// The measured realm, one of those that `tessera dev` serves.
pub(crate) const REALM: &str = "production";

/// The measured server's directory.
const DATA: &str = "data";

/// What all nodes have in their directories: without the same server key, one could not read the others' signing keys.
const KEYS: [&str; 2] = ["server.key", "dev-api-keys.json"];

/// Without it, a server refuses calls that are as fast as the measured ones.
const NO_RATE_LIMITS: &str = "--no-rate-limits";

/// How many bytes a stream and a connection hold before their reader reads anything (RFC 9113 §6.9.2).
pub(crate) const NARROW_WINDOW: u32 = 65_535;

/// The measured server, and those that it is compared with.
pub(crate) struct Stage {
    pub(crate) tessera: Target,
    /// Another `tessera` for the comparison.
    pub(crate) other: Option<Other>,
    pub(crate) echo: Target,
    /// The programs, for more of the same.
    programs: Programs,
    connections: u16,
    /// Removed at the end, after the server that keeps its data there has ended.
    directory: TempDir,
}

struct Programs {
    tessera: PathBuf,
    own: PathBuf,
}

/// Another `tessera` than the measured one, such as the previous release.
pub(crate) struct Other {
    pub(crate) target: Target,
    /// Its output of `--version`.
    pub(crate) version: String,
    /// What it does not support.
    pub(crate) remarks: Vec<String>,
}

/// One server.
pub(crate) struct Target {
    pub(crate) process: Process,
    endpoint: Endpoint,
    url: String,
    channels: Vec<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl Stage {
    /// Starts the servers and connects to them.
    pub(crate) async fn set(arguments: &Run) -> Result<Self, Failure> {
        let program = env::current_exe().map_err(|error| Failure::at("finding this program", error))?;
        let binary = find_tessera(arguments.tessera.as_deref(), &program)?;
        let directory = directory(arguments.data_dir.as_deref(), &program)?;

        let mut flags = vec![NO_RATE_LIMITS];
        if let Some(url) = &arguments.postgres {
            flags.extend(["--postgres", url]);
        }
        let (tessera, authorization) = Target::start(
            &binary,
            &flags,
            &directory.path().join(DATA),
            arguments.connections,
        )
        .await?;
        let other = match &arguments.against {
            Some(binary) => Some(Other::start(binary, &directory.path().join("other"), arguments).await?),
            None => None,
        };

        let echo = Target::echo(&program, &[], &authorization, arguments.connections).await?;
        Ok(Self {
            tessera,
            other,
            echo,
            programs: Programs {
                tessera: binary,
                own: program,
            },
            connections: arguments.connections,
            directory,
        })
    }

    /// Starts another node of the authority, which reaches the database at `url`. Its directory has this name.
    pub(crate) async fn node(&self, name: &str, url: &str) -> Result<Target, Failure> {
        let (from, to) = (self.directory.path().join(DATA), self.directory.path().join(name));
        copy_keys(&from, &to).map_err(|error| Failure::at("making the directory of a node", error))?;
        let flags = [NO_RATE_LIMITS, "--postgres", url];
        let started = Target::start(&self.programs.tessera, &flags, &to, self.connections).await?;
        Ok(started.0)
    }

    /// Starts an echo server that rotates a row of the database before each echo.
    pub(crate) async fn rotating_echo(&self, url: &str) -> Result<Target, Failure> {
        let authorization = &self.tessera.authorization;
        let flags = ["--rotating", url];
        Target::echo(&self.programs.own, &flags, authorization, self.connections).await
    }

    /// A directory on the file system of the store.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the servers.
    pub(crate) async fn strike(&mut self) {
        self.tessera.process.kill().await;
        if let Some(other) = &mut self.other {
            other.target.process.kill().await;
        }
        self.echo.process.kill().await;
    }
}

impl Other {
    /// Starts it with the flags that it supports: an older one may not have every flag.
    async fn start(binary: &Path, data: &Path, arguments: &Run) -> Result<Self, Failure> {
        let mut remarks = Vec::new();
        let target = match Target::start(binary, &[NO_RATE_LIMITS], data, arguments.connections).await {
            Ok((target, _)) => target,
            Err(_) => {
                remarks.push(format!(
                    "the other tessera doesn't know `{NO_RATE_LIMITS}`: what it refuses for its rate limits fails"
                ));
                Target::start(binary, &[], data, arguments.connections).await?.0
            }
        };
        Ok(Self {
            target,
            version: version(binary).await?,
            remarks,
        })
    }
}

/// The output of `tessera --version`.
async fn version(binary: &Path) -> Result<String, Failure> {
    let what = format!("asking `{}` for its version", binary.display());
    let output = Command::new(binary).arg("--version").output().await;
    let output = output.map_err(|error| Failure::at(&what, error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("other").trim().to_owned())
}

impl Target {
    /// Starts a `tessera` without rate limits, and connects to it.
    pub(crate) async fn alone(binary: &Path, data: &Path, connections: u16) -> Result<Self, Failure> {
        Ok(Self::start(binary, &[NO_RATE_LIMITS], data, connections).await?.0)
    }

    /// Starts an echo server and connects to it.
    async fn echo(
        program: &Path,
        flags: &[&str],
        authorization: &MetadataValue<Ascii>,
        connections: u16,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        // This process holds it open, and closes it at its end.
        command.arg("echo-server").args(flags).stdin(Stdio::piped());
        let (process, ready) = process::start("the echo server", command).await?;
        Self::connect(process, &ready, authorization, connections).await
    }

    /// Starts a `tessera` and connects to it.
    async fn start(
        binary: &Path,
        flags: &[&str],
        data: &Path,
        connections: u16,
    ) -> Result<(Self, MetadataValue<Ascii>), Failure> {
        let mut command = Command::new(binary);
        let free_port = "127.0.0.1:0";
        command
            .args([
                "dev",
                "--print-json",
                "--listen",
                free_port,
                "--admin-listen",
                free_port,
            ])
            .args(flags)
            .arg("--data-dir")
            .arg(data)
            .stdin(Stdio::null());
        let (process, ready) = process::start("tessera", command).await?;
        let api_key = text(&ready, &["realms", REALM, "api_key"])?;
        let authorization = format!("Bearer {api_key}")
            .parse::<MetadataValue<Ascii>>()
            .map_err(|error| Failure::at("reading the API key", error))?;
        let target = Self::connect(process, &ready, &authorization, connections).await?;
        Ok((target, authorization))
    }

    async fn connect(
        process: Process,
        ready: &Value,
        authorization: &MetadataValue<Ascii>,
        connections: u16,
    ) -> Result<Self, Failure> {
        let url = text(ready, &["grpc"])?;
        let what = format!("connecting to {url}");
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| Failure::at(&what, error))?;
        let mut channels = Vec::new();
        for _ in 0..connections {
            let channel = endpoint.connect().await;
            channels.push(channel.map_err(|error| Failure::at(&what, error))?);
        }
        Ok(Self {
            process,
            endpoint,
            url,
            channels,
            authorization: authorization.clone(),
        })
    }

    /// A channel for each of `count` callers, in turns.
    pub(crate) fn channels_for(&self, count: u16) -> impl Iterator<Item = Channel> {
        self.channels.iter().cycle().take(usize::from(count)).cloned()
    }

    /// A channel for each of `count` callers alone.
    pub(crate) async fn own_channels_for(&self, count: u16) -> Result<Vec<Channel>, Failure> {
        new_channels(&self.endpoint, count).await
    }

    /// A channel for each of `count` callers alone, with HTTP/2's default windows and not the wider ones of the
    /// library.
    pub(crate) async fn narrow_channels_for(&self, count: u16) -> Result<Vec<Channel>, Failure> {
        let endpoint = self.endpoint.clone().initial_stream_window_size(NARROW_WINDOW);
        new_channels(&endpoint.initial_connection_window_size(NARROW_WINDOW), count).await
    }

    /// The client crate's connection to it.
    pub(crate) fn connection(&self) -> Result<Connection, Failure> {
        let what = "reading the API key";
        let header = self.authorization.to_str();
        let header = header.map_err(|error| Failure::at(what, error))?;
        let api_key = ApiKey::parse(header.trim_start_matches("Bearer "));
        let api_key = api_key.map_err(|error| Failure::at(what, error))?;
        Ok(Connection::new(&self.url, api_key))
    }

    /// The credential. The echo server is sent it too, so that it has as many bytes to read.
    pub(crate) fn authorization(&self) -> Authorization {
        Authorization(self.authorization.clone())
    }
}

fn copy_keys(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for name in KEYS {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

async fn new_channels(endpoint: &Endpoint, count: u16) -> Result<Vec<Channel>, Failure> {
    let mut channels = Vec::new();
    for _ in 0..count {
        let channel = endpoint.connect().await;
        channels.push(channel.map_err(|error| Failure::at("connecting", error))?);
    }
    Ok(channels)
}

/// Adds the credential to requests.
#[derive(Clone)]
pub(crate) struct Authorization(MetadataValue<Ascii>);

impl Authorization {
    /// The credential of a client with this API key.
    pub(crate) fn of(api_key: &str) -> Result<Self, Failure> {
        let value = format!("Bearer {api_key}").parse();
        value
            .map(Self)
            .map_err(|error| Failure::at("reading the API key", error))
    }

    pub(crate) fn on<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.0.clone());
        request
    }
}

pub(crate) fn find_tessera(named: Option<&Path>, program: &Path) -> Result<PathBuf, Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => program.with_file_name("tessera"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!(
        "there is no `{}`: build both with `cargo build --release -p tessera-cli -p tessera-bench`, or name it \
         with --tessera PATH",
        path.display(),
    )))
}

/// A temporary directory, by default beside this program and not in the system's temporary directory, which is in
/// memory on many machines.
pub(crate) fn directory(named: Option<&Path>, program: &Path) -> Result<TempDir, Failure> {
    let parent = named.or(program.parent()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix("tessera-bench-")
        .tempdir_in(parent)
        .map_err(|error| Failure::at(format!("making a directory in `{}`", parent.display()), error))
}

pub(crate) fn text(document: &Value, path: &[&str]) -> Result<String, Failure> {
    let value = path.iter().try_fold(document, |value, key| value.get(key));
    value
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("a server did not say its `{}`", path.join("."))))
}
