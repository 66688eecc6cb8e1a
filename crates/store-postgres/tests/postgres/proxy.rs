//! A connection that breaks on request.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// When the next connection is cut.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    Never = 0,
    /// Before an event reaches the server.
    BeforeTheEvent = 1,
    /// After the server has committed, before the client is told.
    AfterTheCommit = 2,
}

/// Between clients and a server.
pub(crate) struct Proxy {
    directory: TempDir,
    cut: Arc<AtomicU8>,
    is_shut: watch::Sender<bool>,
}

/// What a proxy does with a client's words.
#[derive(Clone, Copy)]
enum Words {
    Pass,
    /// After this word it passes nothing on, and closes nothing.
    SilentAfter(&'static str),
    /// `LISTEN` fails.
    WithoutListen,
}

impl Proxy {
    /// Before the server that listens at `socket`.
    pub(crate) fn before(socket: PathBuf) -> Self {
        Self::new(socket, Words::Pass)
    }

    /// The same, which passes nothing on after a client sends `word`, and closes nothing.
    pub(crate) fn silent_after(socket: PathBuf, word: &'static str) -> Self {
        Self::new(socket, Words::SilentAfter(word))
    }

    /// The same, whose clients can't listen, as behind a pooler.
    pub(crate) fn without_listen(socket: PathBuf) -> Self {
        Self::new(socket, Words::WithoutListen)
    }

    fn new(socket: PathBuf, words: Words) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(".s.PGSQL.5432");
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let of_tasks = Arc::clone(&cut);
        let is_shut = watch::Sender::new(false);
        let shut = is_shut.subscribe();
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *shut.borrow() {
                    continue;
                }
                // Without a server the client's connection ends, too.
                let Ok(server) = UnixStream::connect(&socket).await else {
                    continue;
                };
                let (cut, mut shut) = (Arc::clone(&of_tasks), shut.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, server, words, cut) => {}
                        _ = shut.wait_for(|is_shut| *is_shut) => {}
                    }
                });
            }
        });
        Self {
            directory,
            cut,
            is_shut,
        }
    }

    /// Ends all connections and refuses new ones, or takes them again.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.send_replace(is_shut);
    }

    /// The clients' connection string.
    pub(crate) fn url(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.host())
    }

    /// The directory of its socket, which is the host for clients.
    pub(crate) fn host(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// Cuts the next connection to which `cut` applies, once.
    pub(crate) fn cutter(&self, cut: Cut) -> impl Fn() + Send + 'static {
        let armed = Arc::clone(&self.cut);
        move || armed.store(cut as u8, Ordering::SeqCst)
    }

    /// Whether it has cut the requested connection.
    pub(crate) fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Never as u8
    }
}

async fn pass(client: UnixStream, server: UnixStream, words: Words, cut: Arc<AtomicU8>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A text in every event of the tests, and PostgreSQL's answer to a commit.
    let requests = copy(
        from_client,
        to_server,
        (Cut::BeforeTheEvent, b"asked for"),
        words,
        Arc::clone(&cut),
    );
    let answers = copy(
        from_server,
        to_client,
        (Cut::AfterTheCommit, b"COMMIT\0"),
        Words::Pass,
        cut,
    );
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (when, needle): (Cut, &[u8]),
    words: Words,
    cut: Arc<AtomicU8>,
) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let bytes = &mut buffer[..length];
        match words {
            Words::SilentAfter(word) if position(bytes, word.as_bytes()).is_some() => {
                std::future::pending::<()>().await;
            }
            Words::WithoutListen => {
                if let Some(at) = position(bytes, LISTEN) {
                    // No statement begins with it.
                    bytes[at] = b'X';
                }
            }
            Words::Pass | Words::SilentAfter(_) => {}
        }
        let is_it = position(bytes, needle).is_some();
        let (armed, never) = (when as u8, Cut::Never as u8);
        if is_it
            && cut
                .compare_exchange(armed, never, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

const LISTEN: &[u8] = b"LISTEN ";

/// Where these words are.
fn position(bytes: &[u8], words: &[u8]) -> Option<usize> {
    bytes.windows(words.len()).position(|window| window == words)
}
