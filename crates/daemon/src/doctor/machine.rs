//! Checks of the machine: disk space, files, time, sockets and root certificates.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
};
use tessera_core::{Clock, SystemClock, Timestamp};

use super::finding::Finding;
use crate::{
    config::{Config, SinkConfig},
    surroundings::{check_clock, check_place},
    witness::witness,
};

/// Files that the server reserves for the store, the policy and the admin socket.
const FILES_RESERVED: u64 = 192;
/// With less space than this, the authority will soon stop.
const ROOM_MIN: u64 = 256 * 1024 * 1024;
/// A file may be ahead of the clock by this much: another machine wrote it.
const AHEAD_MAX: Duration = Duration::from_secs(60);

pub(super) fn check_data_place(config: &Config) -> Option<Finding> {
    let error = check_place(config).err()?;
    Some(Finding::fail(
        "data directory",
        error,
        "give the data a directory of its own: [store] path",
    ))
}

/// Space and inodes of the file system with the data. A start needs as much additional space as the rows take.
pub(super) fn check_disk(config: &Config) -> Finding {
    let path = existing(&config.store.path);
    let disk = match statvfs(&path) {
        Ok(disk) => disk,
        Err(error) => {
            let message = format!(
                "the file system of `{}` can't be looked at: {error}",
                path.display()
            );
            return Finding::warn("disk", message, "look at the disk");
        }
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let rows = size_of(&config.store.path.join("rows"));
    let needed = rows.saturating_add(ROOM_MIN);
    let message = format!("{} MiB are free, and the rows take {} MiB", mib(free), mib(rows));
    if free < needed {
        let todo = format!(
            "make room for {} MiB: a start opens a copy of the rows",
            mib(needed)
        );
        return Finding::fail("disk", message, todo);
    }
    // Some file systems have no such number, and say 0.
    if disk.f_files > 0 && disk.f_favail < 1000 {
        let message = format!("{} inodes are free", disk.f_favail);
        return Finding::fail(
            "disk",
            message,
            "remove files that nothing needs from that file system",
        );
    }
    Finding::ok("disk", message)
}

/// The directory, or its nearest existing parent.
fn existing(path: &Path) -> PathBuf {
    let mut ancestors = path.ancestors();
    let found = ancestors.find(|path| path.exists());
    found
        .filter(|path| *path != Path::new(""))
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// Bytes of all files in a directory and its subdirectories.
pub(super) fn size_of(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

pub(super) fn check_files(config: &Config) -> Finding {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = u64::from(config.server.connections_max.number()).saturating_add(FILES_RESERVED);
    if most < wanted {
        let message = format!("{most} files may be open, and connections_max takes {wanted}");
        return Finding::warn(
            "open files",
            message,
            format!("LimitNOFILE={wanted} or ulimit -n, or a lower connections_max"),
        );
    }
    Finding::ok(
        "open files",
        format!(
            "enough for {} connections",
            config.server.connections_max.number()
        ),
    )
}

/// Compares the clock with the last written time.
pub(super) fn check_time(config: &Config) -> Finding {
    if let Err(error) = check_clock() {
        return Finding::fail("clock", error, "set the clock");
    }
    let mut files = vec![config.store.path.join("seal")];
    files.extend(witness(config).map(|witness| witness.path().to_owned()));
    let now = SystemClock.now();
    for file in files {
        let written = fs::metadata(&file).and_then(|found| found.modified());
        let Some(written) = written
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        else {
            continue;
        };
        let seconds = i64::try_from(written.as_secs()).unwrap_or(i64::MAX);
        let ahead = seconds.saturating_sub(now.as_seconds());
        if ahead > i64::try_from(AHEAD_MAX.as_secs()).unwrap_or(0) {
            let message = format!("`{}` was written {ahead} s ahead of the clock", file.display());
            return Finding::warn(
                "clock",
                message,
                "set the clock before the authority is started: see Clocks",
            );
        }
    }
    Finding::ok("clock", format!("it is {}", Timestamp::to_rfc3339(now)))
}

/// Whether the sockets are free; `is_served`: whether an authority of this configuration answers.
pub(super) fn check_sockets(config: &Config, is_served: bool) -> Vec<Finding> {
    let server = &config.server;
    let sockets = [
        Some(("listen", server.listen)),
        server.admin_listen.map(|at| ("admin_listen", at)),
    ];
    let sockets = sockets.into_iter().flatten();
    sockets
        .map(|(name, address)| check_socket(name, address, is_served))
        .collect()
}

fn check_socket(name: &str, address: SocketAddr, is_served: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("sockets", format!("{name} {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_served => {
            Finding::ok("sockets", format!("{name} {address} is served"))
        }
        Err(error) => {
            let todo = match error.kind() {
                io::ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0 for all",
                io::ErrorKind::PermissionDenied => {
                    "choose a port above 1023, or give the service CAP_NET_BIND_SERVICE"
                }
                _ => "stop what listens there, or choose another address",
            };
            let message = format!("{name} {address} can't be used: {error}");
            Finding::fail("sockets", message, todo)
        }
    }
}

/// The root certificates of this machine, if anything is sent over HTTPS.
pub(super) fn check_roots(config: &Config) -> Option<Finding> {
    let is_https = |sink: &SinkConfig| matches!(sink, SinkConfig::Http { url, .. } if url.0.scheme_str() == Some("https"));
    if !config.audit.sinks.values().any(is_https) {
        return None;
    }
    let roots = rustls_native_certs::load_native_certs().certs.len();
    Some(if roots == 0 {
        let todo = "install ca-certificates, or set SSL_CERT_FILE";
        Finding::fail(
            "TLS roots",
            "the system trusts no certificate authority: audit sinks of https can't be reached",
            todo,
        )
    } else {
        Finding::ok(
            "TLS roots",
            format!("{roots} certificate authorities are trusted"),
        )
    })
}
