//! Checks of the data: which server key it needs, whether it is the latest state, and when it was backed up. A running
//! authority is queried. For a stopped one, a copy is opened, so that nothing changes.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use serde_json::Value;
use tessera_core::{Clock, KeyStatus, Seconds, SystemClock, Timestamp};
use tessera_store::{Reads, Store, StoreError};
use tessera_store_sled::SledStore;
use tessera_token::ServerKeys;

use super::{finding::Finding, machine::size_of};
use crate::{
    blocking::blocking,
    config::Config,
    data_directory::{has_data, is_in_use, store_options},
    database,
    launch::seen_of,
    unfinished::left_beside,
    witness::{Witness, witness},
};

/// Larger ones are not copied.
const ROWS_MAX: u64 = 512 * 1024 * 1024;
/// How old the last backup may be.
const BACKUP_AGE_MAX: Seconds = Seconds::days(2);
const DAMAGED: &str = "restore a backup: see Restoring";

/// Findings from `/status` of the running authority.
pub(super) fn check_running(keys: Option<&ServerKeys>, status: &Value) -> Vec<Finding> {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    let served = text("/server_key/id").unwrap_or_default();
    let see = "see `tessera serverkey status` and the log";
    let key = match keys {
        Some(keys) if keys.current().id() == served => {
            Finding::ok("server key", format!("{served} is in use"))
        }
        Some(_) => {
            let message = format!("the authority uses {served}, which is not the key of this configuration");
            Finding::warn("server key", message, see)
        }
        None => {
            let message =
                format!("the authority uses {served}, which can't be compared with the configuration");
            Finding::warn("server key", message, see)
        }
    };
    let at = text("/backup/last_at").and_then(Timestamp::parse_rfc3339);
    let mut found = vec![key, backup(at)];
    found.extend(failing_sinks(status));
    found
}

/// The sinks that accept nothing, as the running authority reports them.
fn failing_sinks(status: &Value) -> Vec<Finding> {
    let items = status["attention"].as_array().map_or(&[][..], Vec::as_slice);
    let of_sinks = items.iter().filter(|item| item["code"] == "audit_sink_failing");
    let finding = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        Finding::warn("audit sink", text("message"), text("todo"))
    };
    of_sinks.map(finding).collect()
}

/// Findings from the data of a stopped authority.
pub(super) async fn check_stopped(config: &Config, keys: Option<&ServerKeys>) -> Vec<Finding> {
    if config.store.is_shared() {
        return in_database(config, keys).await;
    }
    let data = &config.store.path;
    if !has_data(data) {
        if let Err(error) = seen_of(data, witness(config).as_ref()).await {
            return vec![Finding::fail("data", error, DAMAGED)];
        }
        let message = format!(
            "there is no data at `{}` yet: the first start makes it",
            data.display()
        );
        return vec![Finding::ok("data", message)];
    }
    if is_in_use(data) {
        let message =
            "another process has the data open, and answers on no admin socket of this configuration";
        return vec![Finding::warn(
            "data",
            message,
            "set `admin_listen`, or stop that process",
        )];
    }
    let bytes = size_of(&data.join("rows"));
    if bytes > ROWS_MAX {
        let message = format!(
            "the rows take {} MiB: they are not opened for this",
            bytes / (1024 * 1024)
        );
        return vec![Finding::warn("data", message, "a start checks all of them")];
    }
    match opened(config, keys).await {
        Ok(mut found) => {
            found.extend(left_beside(data).map(|left| {
                let message = format!("`{}` is of a restore or a copy", left.display());
                Finding::warn("data", message, "remove it, unless one is under way")
            }));
            found
        }
        Err(problem) => vec![Finding::fail("data", problem, DAMAGED)],
    }
}

/// Findings from the database. Other nodes may be serving it; nothing in it is changed except the record that this node
/// was present.
async fn in_database(config: &Config, keys: Option<&ServerKeys>) -> Vec<Finding> {
    let todo = "see docs/postgres.md";
    let options = match database::options(config) {
        Ok(options) => options,
        Err(error) => return vec![Finding::fail("data", error, todo)],
    };
    match database::open_as_it_is(options).await {
        Ok(store) => {
            let found = look(config, keys, store.as_ref()).await;
            drop(store.close().await);
            found.unwrap_or_else(|error| vec![Finding::fail("data", error, todo)])
        }
        Err(error) => vec![Finding::fail("data", error, todo)],
    }
}

async fn opened(config: &Config, keys: Option<&ServerKeys>) -> Result<Vec<Finding>, String> {
    let (data, options) = (config.store.path.clone(), store_options(config));
    let copied = blocking(move || Copied::of(&data)).await;
    let copy = copied.map_err(|error| format!("the data can't be copied: {error}"))?;
    let path = copy.0.clone();
    let store = blocking(move || SledStore::open(&path, options)).await;
    // The error applies to the data as well as to the copy.
    let store = store.map_err(|error| {
        error.to_string().replace(
            &copy.0.display().to_string(),
            &config.store.path.display().to_string(),
        )
    })?;
    let found = look(config, keys, &store)
        .await
        .map_err(|error| error.to_string());
    drop(store.close().await);
    found
}

async fn look(
    config: &Config,
    keys: Option<&ServerKeys>,
    store: &dyn Store,
) -> Result<Vec<Finding>, StoreError> {
    let settings = store.read(Reads::default().settings()).await?.settings;
    let last = settings.and_then(|settings| settings.last_backup);
    let needed: Vec<_> = store
        .signing_keys()
        .await?
        .into_iter()
        .filter(|key| matches!(key.status, KeyStatus::Active | KeyStatus::Published))
        .map(|key| key.sealed_with)
        .collect();
    let mut found = vec![server_key(keys, &needed)];
    if let Some(witness) = witness(config) {
        found.push(last_state(&witness, store));
    }
    found.push(backup(last.map(|last| last.at)));
    Ok(found)
}

fn server_key(keys: Option<&ServerKeys>, needed: &[String]) -> Finding {
    let Some(keys) = keys else {
        return Finding::fail("server key", "there is none", "restore its file");
    };
    match needed.iter().find(|id| keys.by_id(id).is_none()) {
        Some(id) => Finding::fail(
            "server key",
            format!("signing keys are sealed by {id}, which is not configured"),
            "configure that key, or name it in [keys] previous",
        ),
        None => Finding::ok("server key", "it opens the signing keys of the data"),
    }
}

fn last_state(witness: &Witness, store: &dyn Store) -> Finding {
    let path = witness.path().display();
    match witness.read() {
        Err(error) => Finding::fail(
            "witness",
            format!("`{path}` can't be read: {error}"),
            "see When it refuses to start",
        ),
        Ok(None) => Finding::warn(
            "witness",
            format!("there is no `{path}`: nothing tells an older copy"),
            "start the authority once",
        ),
        Ok(Some(seen)) if Witness::contradicts(&seen, store) => Finding::fail(
            "witness",
            "the data is older than what was served last, or is of another authority",
            "`tessera restore`, or mount the right directory",
        ),
        Ok(Some(_)) => match writable(witness.path()) {
            Ok(()) => Finding::ok("witness", "the data is what was served last"),
            Err(error) => Finding::warn(
                "witness",
                format!("`{path}` can't be written: {error}"),
                "let the user that runs the authority write its directory: nothing tells an older copy from now on",
            ),
        },
    }
}

/// Whether the file can be replaced: the new one is first written beside it.
fn writable(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

fn backup(last: Option<Timestamp>) -> Finding {
    let todo = "`tessera backup create`, each day";
    match last {
        None => Finding::warn("backup", "none was made of this data yet", todo),
        Some(at) if at.plus(BACKUP_AGE_MAX) < SystemClock.now() => {
            Finding::warn("backup", format!("the last one is of {}", at.to_rfc3339()), todo)
        }
        Some(at) => Finding::ok("backup", format!("the last one is of {}", at.to_rfc3339())),
    }
}

/// A copy of the files that a start reads, readable for this user only, and removed when it is dropped.
struct Copied(PathBuf);

impl Copied {
    fn of(data: &Path) -> io::Result<Self> {
        let to = std::env::temp_dir().join(format!("tessera-doctor-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&to)?;
        let copy = Self(to);
        copy_into(data, &copy.0, &["audit"])?;
        Ok(copy)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // Any remaining files are in a directory of temporary files, and only readable for this user.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_into(from: &Path, to: &Path, without: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if without.iter().any(|other| *other == name) {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&target)?;
            copy_into(&entry.path(), &target, &[])?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
