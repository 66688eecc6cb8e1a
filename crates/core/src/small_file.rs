//! Reading small files that a person named: configuration, keys, certificates, tokens.
//!
//! A wrong name must not cost memory (`/dev/zero`, a backup), and must not wait forever (a pipe without a writer).

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// The maximum size of such a file in bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The bytes of a file.
///
/// # Errors
/// Fails if it can't be read, is not a file, or has more than [`SMALL_FILE_BYTES_MAX`].
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return read_limited(path);
    }
    Err(no_file())
}

/// The text of a file.
///
/// # Errors
/// Fails if [`read_small`] does, or if it is not UTF-8.
pub fn read_small_text(path: &Path) -> io::Result<String> {
    text(read_small(path)?)
}

/// The text of a file or a pipe, for input that is read once and by name: `tessera … --config <(…)`.
///
/// # Errors
/// Fails if [`read_small_text`] does, except for pipes.
pub fn read_small_text_or_pipe(path: &Path) -> io::Result<String> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_fifo() {
        return text(read_limited(path)?);
    }
    Err(no_file())
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(SMALL_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > SMALL_FILE_BYTES_MAX {
        let message = "it is larger than 1 MiB: is it the right file?";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let size = usize::try_from(SMALL_FILE_BYTES_MAX).unwrap();
        fs::write(&path, "a".repeat(size)).unwrap();
        assert_eq!(read_small(&path).unwrap().len(), size);
        fs::write(&path, "a".repeat(size + 1)).unwrap();
        for read in [read_small_text, read_small_text_or_pipe] {
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
            for other in ["/dev/zero", "/dev/null", "/"] {
                let refused = read(Path::new(other)).unwrap_err();
                assert_eq!(refused.to_string(), "it is not a regular file", "{other}");
            }
            let missing = read(&directory.path().join("none")).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        }
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(
            read_small_text(&path).unwrap_err().to_string(),
            "it is not UTF-8 text"
        );
    }

    #[test]
    fn a_pipe_is_read_only_where_it_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(read_small_text(&path).is_err());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, "text")
        });
        assert_eq!(read_small_text_or_pipe(&path).unwrap(), "text");
        writer.join().unwrap().unwrap();
    }
}
