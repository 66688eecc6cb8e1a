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
}

impl Proxy {
    /// Before the server that listens at `socket`.
    pub(crate) fn before(socket: PathBuf) -> Self {
        Self::new(socket, None)
    }

    /// The same, which passes nothing on after a client sends `word`, and closes nothing.
    pub(crate) fn silent_after(socket: PathBuf, word: &'static str) -> Self {
        Self::new(socket, Some(word))
    }

    fn new(socket: PathBuf, silent_after: Option<&'static str>) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(".s.PGSQL.5432");
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let of_tasks = Arc::clone(&cut);
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // Without a server the client's connection ends, too.
                let Ok(server) = UnixStream::connect(&socket).await else {
                    continue;
                };
                tokio::spawn(pass(client, server, silent_after, Arc::clone(&of_tasks)));
            }
        });
        Self { directory, cut }
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

async fn pass(
    client: UnixStream,
    server: UnixStream,
    silent_after: Option<&'static str>,
    cut: Arc<AtomicU8>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A text in every event of the tests, and PostgreSQL's answer to a commit.
    let requests = copy(
        from_client,
        to_server,
        (Cut::BeforeTheEvent, b"asked for"),
        silent_after,
        Arc::clone(&cut),
    );
    let answers = copy(
        from_server,
        to_client,
        (Cut::AfterTheCommit, b"COMMIT\0"),
        None,
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
    silent_after: Option<&'static str>,
    cut: Arc<AtomicU8>,
) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let bytes = &buffer[..length];
        let has = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        if silent_after.is_some_and(|word| has(word.as_bytes())) {
            std::future::pending::<()>().await;
        }
        let is_it = has(needle);
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
