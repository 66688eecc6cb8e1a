//! A way to the database that can be made longer: how much longer a call takes then says how many round trips it waits
//! for.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_postgres::config::{Config, Host, SslMode};

use crate::failure::Failure;

const BUFFER_BYTES: usize = 64 * 1024;
/// Read pieces that may wait for their time in one direction of one connection.
const PIECES_MAX: usize = 1024;

/// Passes connections on until it is dropped.
pub(crate) struct Proxy {
    directory: TempDir,
    config: Config,
    /// How long each answer is held back, in milliseconds.
    delay: Arc<AtomicU64>,
    passing: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

/// Where the database listens.
#[derive(Clone)]
enum Server {
    Socket(PathBuf),
    Address(String, u16),
}

impl Proxy {
    /// Before the first host of `url`. `None` if that host expects TLS, whose names would not match.
    pub(crate) fn before(url: &str) -> Result<Option<Self>, Failure> {
        let what = "making a way to the database";
        let config: Config = url.parse().map_err(|error| Failure::at(what, error))?;
        let Some(server) = server(&config).filter(|_| config.get_ssl_mode() != SslMode::Require) else {
            return Ok(None);
        };
        // In the system's temporary directory: the path of a socket has at most about a hundred bytes.
        let directory = tempfile::tempdir().map_err(|error| Failure::at(what, error))?;
        let socket = directory.path().join(".s.PGSQL.5432");
        let listener = UnixListener::bind(socket).map_err(|error| Failure::at(what, error))?;
        let delay = Arc::new(AtomicU64::new(0));
        let passing = tokio::spawn(pass_all(listener, server, Arc::clone(&delay)));
        Ok(Some(Self {
            directory,
            config,
            delay,
            passing,
        }))
    }

    /// The connection string of this way.
    pub(crate) fn url(&self) -> String {
        through(self.directory.path(), &self.config)
    }

    /// Holds each answer of the database back for this long from now on.
    pub(crate) fn hold_back(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.delay.store(millis, Ordering::Relaxed);
    }
}

fn server(config: &Config) -> Option<Server> {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    Some(match config.get_hosts().first()? {
        Host::Unix(directory) => Server::Socket(directory.join(format!(".s.PGSQL.{port}"))),
        Host::Tcp(name) => Server::Address(name.clone(), port),
    })
}

fn through(directory: &Path, config: &Config) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut url = format!("host={}", quoted(&directory.to_string_lossy()));
    let password = config.get_password().map(String::from_utf8_lossy);
    for (name, value) in [
        ("user", config.get_user()),
        ("dbname", config.get_dbname()),
        ("password", password.as_deref()),
    ] {
        if let Some(value) = value {
            url = format!("{url} {name}={}", quoted(value));
        }
    }
    url
}

async fn pass_all(listener: UnixListener, server: Server, delay: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, delay) = (server.clone(), Arc::clone(&delay));
        tokio::spawn(async move {
            // Without a server, the client's connection ends, too.
            match server {
                Server::Socket(path) => {
                    if let Ok(server) = UnixStream::connect(path).await {
                        pass(client, server, &delay).await;
                    }
                }
                Server::Address(name, port) => {
                    if let Ok(server) = TcpStream::connect((name, port)).await {
                        let _ = server.set_nodelay(true);
                        pass(client, server, &delay).await;
                    }
                }
            }
        });
    }
}

async fn pass(client: UnixStream, server: impl AsyncRead + AsyncWrite, delay: &AtomicU64) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let never = AtomicU64::new(0);
    tokio::select! {
        () = copy(from_client, to_server, &never) => {}
        () = copy(from_server, to_client, delay) => {}
    }
}

/// Each piece is held back by itself: an answer of several pieces is delayed once, as by a longer cable.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let (pieces, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let reading = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let at = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
            let piece = buffer.get(..length).unwrap_or_default().to_vec();
            if pieces.send((at, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some((at, piece)) = due.recv().await {
            if at > Instant::now() {
                sleep_until(at).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_has_the_same_user_and_password() {
        let config: Config = "postgresql://ann:it%27s@db1:5433/tokens".parse().unwrap();
        let url = through(Path::new("/run/way"), &config);
        let config: Config = url.parse().unwrap();
        assert_eq!(config.get_hosts(), [Host::Unix("/run/way".into())]);
        assert_eq!(config.get_user(), Some("ann"));
        assert_eq!(config.get_dbname(), Some("tokens"));
        assert_eq!(config.get_password(), Some(&b"it's"[..]));
    }

    #[tokio::test]
    async fn an_answer_of_several_pieces_is_held_back_once() {
        let directory = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = server.accept().await.unwrap();
            while connection.read_u8().await.is_ok() {
                for _ in 0..4 {
                    connection.write_u8(1).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let url = format!("host={} user=ann", directory.path().display());
        let proxy = Proxy::before(&url).unwrap().unwrap();
        let mut client = UnixStream::connect(proxy.directory.path().join(".s.PGSQL.5432"))
            .await
            .unwrap();
        for delay in [0, 200] {
            let delay = Duration::from_millis(delay);
            proxy.hold_back(delay);
            let began = Instant::now();
            client.write_u8(1).await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
            let took = began.elapsed();
            assert!(
                took >= delay && took < delay + Duration::from_millis(180),
                "{took:?}"
            );
        }
    }

    #[test]
    fn a_host_that_expects_tls_has_no_other_way() {
        let url = "host=db1 user=ann sslmode=require";
        assert!(Proxy::before(url).unwrap().is_none());
    }
}
