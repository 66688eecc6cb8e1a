//! Records appended to a file, durable before they count as delivered.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tessera_store::AuditEntry;

use super::format::lines;
use crate::config::SinkFormat;

/// A file that others may rename: a new file with its name is then opened.
pub(super) struct FileSink {
    path: Arc<Path>,
    format: SinkFormat,
    open: Option<Arc<File>>,
}

impl FileSink {
    pub(super) fn new(path: PathBuf, format: SinkFormat) -> Self {
        Self {
            path: path.into(),
            format,
            open: None,
        }
    }

    pub(super) async fn deliver(&mut self, entries: &[AuditEntry]) -> io::Result<()> {
        let bytes = lines(entries, self.format)?;
        let (path, before) = (Arc::clone(&self.path), self.open.take());
        let written = tokio::task::spawn_blocking(move || append(&path, before, &bytes)).await;
        self.open = Some(written.map_err(io::Error::other)??);
        Ok(())
    }
}

fn append(path: &Path, before: Option<Arc<File>>, bytes: &[u8]) -> io::Result<Arc<File>> {
    let file = match before.filter(|file| is_at(file, path)) {
        Some(file) => file,
        None => Arc::new(open(path).map_err(|error| with_path(path, &error))?),
    };
    write(&file, bytes).map_err(|error| with_path(path, &error))?;
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != [b'\n'] {
        // A process ended while it wrote: the next record is not the rest of that line.
        (&file).write_all(b"\n")?;
    }
    Ok(file)
}

/// All of the lines, or none.
fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let len = file.metadata()?.len();
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .inspect_err(|_| drop(file.set_len(len)))
}

/// Whether the path still names the file.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |data: fs::Metadata| (data.dev(), data.ino());
    let (open, named) = (file.metadata().map(place), fs::metadata(path).map(place));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
