//! The witness: a file outside the data directory that tells whether the directory is the latest one.
//!
//! Nothing inside a directory can tell that all of it is older than what was served. So a small file beside the server
//! key, which is kept apart from the data, names the log and the last group of writes that were seen. It is written
//! regularly, and always after the data is durable: it is never ahead of its directory. A directory that is behind it,
//! or has another log, was restored from a copy.

use std::{
    ffi::OsString,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use tessera_core::{LogId, read_small_text};
use tessera_store::Store;

use crate::{config::Config, server_key::server_key_in_environment};

/// How often it is written while the authority serves.
const INTERVAL: Duration = Duration::from_secs(1);
const TITLE: &str = "tessera witness 1";

/// The location of a witness.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    path: PathBuf,
    /// The witnesses beside earlier server keys: a key that replaced them has none at first.
    earlier: Vec<PathBuf>,
}

/// Its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The log, and where it is stored: a log that was copied to a database counts its groups from the beginning there.
    log: String,
    group: u64,
}

impl Seen {
    pub(crate) fn of(store: &dyn Store) -> Option<Self> {
        let group = store.health().group?;
        Some(Self::new(store.is_shared(), store.log().id(), group))
    }

    /// Whether this is older than what was seen, or of another log.
    pub(crate) fn is_older_or_other(&self, seen: &Self) -> bool {
        self.log != seen.log || self.group < seen.group
    }

    /// A group of a log, in a database or in a directory.
    pub(crate) fn new(is_shared: bool, log: LogId, group: u64) -> Self {
        let mut log: String = log.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        if is_shared {
            log.push_str(" postgres");
        }
        Self { log, group }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let title = lines.next()?;
        let log = lines.next()?.strip_prefix("log ")?;
        let group = lines.next()?.strip_prefix("group ")?.parse().ok()?;
        (title == TITLE).then(|| Self {
            log: log.to_owned(),
            group,
        })
    }
}

impl Witness {
    /// The witness at a path.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            earlier: Vec::new(),
        }
    }

    /// The witness beside a server key.
    pub(crate) fn beside(key: &Path) -> Self {
        Self {
            path: path_beside(key),
            earlier: Vec::new(),
        }
    }

    /// The witness beside the current server key, which may have been written last beside an earlier one.
    pub(crate) fn beside_any(key: &Path, earlier: &[PathBuf]) -> Self {
        Self {
            path: path_beside(key),
            earlier: earlier.iter().map(|key| path_beside(key)).collect(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its content; `None` if there is no witness.
    ///
    /// # Errors
    /// Fails if it can't be read, or is not a witness.
    pub(crate) fn read(&self) -> io::Result<Option<Seen>> {
        let mut seen = read(&self.path)?;
        for path in &self.earlier {
            let Ok(Some(other)) = read(path) else { continue };
            let is_later = |seen: &Seen| seen.log == other.log && seen.group < other.group;
            if seen.as_ref().is_none_or(is_later) {
                seen = Some(other);
            }
        }
        Ok(seen)
    }

    /// Whether the store is older than what was seen, or is another.
    pub(crate) fn contradicts(seen: &Seen, store: &dyn Store) -> bool {
        Seen::of(store).is_some_and(|now| now.is_older_or_other(seen))
    }

    /// Records the durable state. The file appears completely or not at all.
    pub(crate) fn write(&self, store: &dyn Store) -> io::Result<()> {
        match Seen::of(store) {
            Some(seen) => self.write_seen(&seen, ".new"),
            None => Ok(()),
        }
    }

    /// Records what was seen, through a temporary file with that ending: no two writers may use the same one.
    pub(crate) fn write_seen(&self, seen: &Seen, ending: &str) -> io::Result<()> {
        let mut unfinished = OsString::from(&self.path);
        unfinished.push(ending);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)?;
        writeln!(file, "{TITLE}\nlog {}\ngroup {}", seen.log, seen.group)?;
        file.sync_data()?;
        fs::rename(&unfinished, &self.path)
    }

    /// Removes it: the next directory counts as the first.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for path in std::iter::once(&self.path).chain(&self.earlier) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes it regularly, until the store is dropped. A failure is logged once, and its end again: a full disk may
    /// have space later, and a key may be in a read-only location.
    pub(crate) async fn keep(self, store: Weak<dyn Store>) {
        let (mut written, mut fails) = (None, false);
        loop {
            let Some(store) = store.upgrade().filter(|store| !store.health().is_over()) else {
                return;
            };
            let group = store.health().group;
            if written == group {
                drop(store);
            } else {
                let witness = self.clone();
                let wrote = tokio::task::spawn_blocking(move || witness.write(store.as_ref())).await;
                if let Ok(wrote) = wrote {
                    self.tell(&wrote, fails);
                    fails = wrote.is_err();
                    written = if fails { written } else { group };
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Logs if it can no longer be written, or can be written again.
    fn tell(&self, wrote: &io::Result<()>, failed_before: bool) {
        let path = self.path.display();
        match wrote {
            Err(error) if !failed_before => {
                tracing::warn!(%path, %error, "no witness can be written: an older copy of the data directory that is restored may not be noticed");
            }
            Ok(()) if failed_before => tracing::info!(%path, "the witness is written again"),
            _ => {}
        }
    }

    /// Begins to keep it, in a separate task.
    pub(crate) fn start(self, store: &Arc<dyn Store>) {
        tokio::spawn(self.keep(Arc::downgrade(store)));
    }
}

/// The witness of `config`: at the configured path, or beside the key file, unless the key itself is in the
/// environment.
pub(crate) fn witness(config: &Config) -> Option<Witness> {
    if let Some(path) = &config.keys.witness {
        return Some(Witness::at(path));
    }
    server_key_in_environment()
        .is_none()
        .then(|| Witness::beside_any(&config.keys.file, &config.keys.previous))
}

fn path_beside(key: &Path) -> PathBuf {
    let mut path = OsString::from(key);
    path.push(".witness");
    path.into()
}

fn read(path: &Path) -> io::Result<Option<Seen>> {
    match read_small_text(path) {
        Ok(text) => match Seen::parse(&text) {
            Some(seen) => Ok(Some(seen)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no witness")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::{ClientName, RealmName};
    use tessera_store::{Changes, ClientChange};
    use tessera_store_sled::{SledOptions, SledStore};

    use super::*;

    /// A group of writes.
    async fn write_something(store: &dyn Store, client: &str) {
        let realm = RealmName::parse("production").unwrap();
        let client = ClientName::parse(client).unwrap();
        let write = store.write(Changes {
            clients: vec![ClientChange {
                realm,
                client,
                is_disabled: true,
            }],
            ..Changes::default()
        });
        write.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_again_after_it_could_not_be() {
        let directory = tempfile::tempdir().unwrap();
        let witness = Witness::beside(&directory.path().join("server.key"));
        let store = SledStore::open(&directory.path().join("data"), SledOptions::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let blocked = directory.path().join("server.key.witness.new");
        fs::create_dir(&blocked).unwrap();
        write_something(store.as_ref(), "client:one").await;
        witness.clone().start(&store);
        // Several times without success.
        tokio::time::sleep(INTERVAL * 5).await;
        assert_eq!(witness.read().unwrap(), None);
        fs::remove_dir(&blocked).unwrap();
        while witness.read().unwrap() != Seen::of(store.as_ref()) {
            tokio::time::sleep(INTERVAL).await;
        }
        store.close().await.unwrap();
    }

    #[test]
    fn the_last_one_counts_wherever_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (new, old) = (directory.path().join("new.key"), directory.path().join("old.key"));
        let seen = |log: &str, group| Seen {
            log: log.to_owned(),
            group,
        };
        let witness = Witness::beside_any(&new, std::slice::from_ref(&old));
        assert_eq!(witness.read().unwrap(), None);
        let write = |key: &Path, of: &Seen| Witness::beside(key).write_seen(of, ".new").unwrap();
        write(&old, &seen("0a", 7));
        assert_eq!(witness.read().unwrap(), Some(seen("0a", 7)));
        write(&new, &seen("0a", 6));
        assert_eq!(witness.read().unwrap(), Some(seen("0a", 7)));
        write(&new, &seen("0a", 8));
        assert_eq!(witness.read().unwrap(), Some(seen("0a", 8)));
        // A restored directory began another log.
        write(&new, &seen("0b", 1));
        assert_eq!(witness.read().unwrap(), Some(seen("0b", 1)));
        witness.remove().unwrap();
        assert_eq!(witness.read().unwrap(), None);
    }

    #[test]
    fn what_is_no_witness_is_not_taken_for_one() {
        let seen = Seen {
            log: "0a".to_owned(),
            group: 7,
        };
        assert_eq!(Seen::parse("tessera witness 1\nlog 0a\ngroup 7\n"), Some(seen));
        for text in [
            "",
            "tessera witness 2\nlog 0a\ngroup 7\n",
            "tessera witness 1\nlog 0a\ngroup x\n",
        ] {
            assert_eq!(Seen::parse(text), None, "{text}");
        }
    }
}
