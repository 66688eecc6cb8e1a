//! Opens files beneath a directory, safely with links. A link may lead to anything that the process can read, such as
//! the server key, so nothing outside the directory is ever opened.
//!
//! Each step of a path starts from the descriptor of the previous directory, and no step follows a link automatically:
//! links are read, and their targets are walked. So a replacement during the walk can change where it ends, but never
//! leads it outside.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat},
    io::Errno,
};

/// How many links one path may follow, as in Linux.
const LINKS_MAX: usize = 40;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A file may be replaced by a pipe before it is opened: opening never waits.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Why a path was not opened.
#[derive(Debug)]
pub(super) enum Refused {
    /// A link in the path leads out of the directory, or could: it is absolute.
    Leaves,
    /// It exists, but is of another kind.
    Kind(&'static str),
    Io(io::Error),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A directory, by its descriptor.
pub(super) struct Directory(OwnedFd);

/// The end of a walk.
enum Found {
    Directory(OwnedFd),
    File(OwnedFd),
}

impl Directory {
    /// Opens the directory itself, whose path may have links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a regular file beneath the directory.
    pub(super) fn file(&self, path: &str) -> Result<File, Refused> {
        match self.walk(path)? {
            Found::File(file) => Ok(File::from(file)),
            Found::Directory(_) => Err(Refused::Kind("it is not a regular file")),
        }
    }

    /// The names in a directory beneath it; `.` is the directory itself.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, Refused> {
        let Found::Directory(directory) = self.walk(path)? else {
            return Err(Refused::Kind("it is not a directory"));
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    fn walk(&self, path: &str) -> Result<Found, Refused> {
        let mut walk = Walk {
            root: &self.0,
            directories: Vec::new(),
            steps: Vec::new(),
            links: 0,
        };
        walk.push(OsStr::new(path))?;
        walk.run()
    }
}

/// A walk from a directory.
struct Walk<'a> {
    root: &'a OwnedFd,
    /// The directories from below the root to the current one.
    directories: Vec<OwnedFd>,
    /// The remaining steps, the next one last.
    steps: Vec<OsString>,
    links: usize,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Found, Refused> {
        while let Some(step) = self.steps.pop() {
            if step == ".." {
                self.directories.pop().ok_or(Refused::Leaves)?;
                continue;
            }
            let here = self.directories.last().unwrap_or(self.root);
            let kind = FileType::from_raw_mode(statat(here, &step, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            match kind {
                FileType::Symlink => {
                    let target = readlinkat(here, &step, Vec::new())?;
                    self.follow(OsStr::from_bytes(target.to_bytes()))?;
                }
                FileType::Directory => {
                    let directory = openat(here, &step, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())?;
                    self.directories.push(directory);
                }
                FileType::RegularFile if self.steps.is_empty() => return open_file(here, &step),
                FileType::RegularFile => return Err(Errno::NOTDIR.into()),
                _ => return Err(Refused::Kind("it is not a regular file")),
            }
        }
        let here = match self.directories.pop() {
            Some(directory) => directory,
            None => openat(self.root, ".", DIRECTORY, Mode::empty())?,
        };
        Ok(Found::Directory(here))
    }

    fn follow(&mut self, target: &OsStr) -> Result<(), Refused> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        self.push(target)
    }

    /// Puts a path before the remaining steps.
    fn push(&mut self, path: &OsStr) -> Result<(), Refused> {
        for component in Path::new(path).components().rev() {
            match component {
                Component::Normal(name) => self.steps.push(name.to_owned()),
                Component::ParentDir => self.steps.push("..".into()),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return Err(Refused::Leaves),
            }
        }
        Ok(())
    }
}

/// Opens a file that was a regular one a moment ago, and checks again what was opened.
fn open_file(directory: &OwnedFd, name: &OsStr) -> Result<Found, Refused> {
    let file = openat(directory, name, FILE, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Refused::Kind("it is not a regular file"));
    }
    Ok(Found::File(file))
}
