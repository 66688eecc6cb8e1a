//! The policy watcher keeps the policy in force in step with its directory: on a change, on SIGHUP, and by checking
//! regularly, since not every file system reports changes (network mounts, a directory that is replaced as a whole).

use std::{path::Path, sync::Arc, time::Duration};

use notify::{
    Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tessera_authority::{Authority, Trigger};
use tessera_core::PolicyRevision;
use tessera_policy::{PolicyError, Sources};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use crate::ServiceManager;

/// A directory that changes is read once it has been quiet for this long: an editor, a checkout or a symlink swap
/// causes several events, and the first of them comes too early.
const QUIET: Duration = Duration::from_millis(100);
/// The longest time for which a directory that is never quiet is left unread.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the directory is checked without an event.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// SIGHUP, received from here on; unhandled, it would end the process.
pub(crate) fn hangup() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| tracing::error!(%error, "SIGHUP can't be received"))
        .ok()
}

/// Reloads the policy until it is dropped. If `watches` is false, only SIGHUP does it.
pub(crate) async fn keep(
    authority: Arc<Authority>,
    watches: bool,
    hangup: Option<Signal>,
    service_manager: ServiceManager,
) {
    match authority
        .policies()
        .policy_directory()
        .filter(|_| watches)
        .cloned()
    {
        Some(directory) => {
            let mut watcher = PolicyWatcher::new(&authority, &directory);
            tokio::join!(
                watcher.run(),
                reload_on_hangup(&authority, hangup, &service_manager)
            );
        }
        None => reload_on_hangup(&authority, hangup, &service_manager).await,
    }
}

/// Reloads at each SIGHUP.
async fn reload_on_hangup(
    authority: &Arc<Authority>,
    hangup: Option<Signal>,
    service_manager: &ServiceManager,
) {
    let Some(mut hangup) = hangup else { return };
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading the policy");
        service_manager.reloading();
        // The log, the metrics and the status say why it is refused.
        let reloaded = authority.policies().reload(Trigger::Signal).await;
        service_manager.ready(match reloaded {
            Ok(_) => "serving",
            Err(_) => "serving; the policy directory is refused, and the policy before it stays in force",
        });
    }
}

/// What the directory had when it was last read, and which policy was in force after that: a call may have put another
/// in force since, and then the same files are a change.
type Seen = (Result<PolicyRevision, PolicyError>, PolicyRevision);

struct PolicyWatcher<'a> {
    authority: &'a Arc<Authority>,
    directory: &'a Path,
    changed: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    seen: Option<Seen>,
}

impl<'a> PolicyWatcher<'a> {
    fn new(authority: &'a Arc<Authority>, directory: &'a Path) -> Self {
        let mut watcher = Self {
            authority,
            directory,
            changed: Arc::new(Notify::new()),
            watcher: None,
            seen: {
                let in_force = *authority.policy().revision();
                Some((Ok(in_force), in_force))
            },
        };
        watcher.watch_again();
        watcher
    }

    async fn run(&mut self) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.changed.notified() => self.wait_for_quiet().await,
                _ = looks.tick() => {}
            }
            self.look().await;
        }
    }

    async fn wait_for_quiet(&self) {
        let quiet = async { while tokio::time::timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        let _ = tokio::time::timeout(QUIET_WAIT_MAX, quiet).await;
    }

    /// Reloads if the directory differs from the last read: the same mistake is not reported repeatedly.
    async fn look(&mut self) {
        let directory = self.directory.to_owned();
        let read =
            tokio::task::spawn_blocking(move || Sources::read(&directory).map(|files| files.revision()));
        let Ok(seen) = read.await else { return };
        let seen = (seen, *self.authority.policy().revision());
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        self.seen = match self.authority.policies().reload(Trigger::Change).await {
            // The reload may have read something newer.
            Ok(applied) => Some((Ok(applied.policy), applied.policy)),
            // The files are not wrong: the next check tries again.
            Err(error) if error.is_passing() => None,
            Err(_) => Some(seen),
        };
        // The watched directory may have been replaced.
        self.watch_again();
    }

    fn watch_again(&mut self) {
        self.watcher = watch(self.directory, &self.changed)
            .inspect_err(|error| {
                tracing::warn!(%error, directory = %self.directory.display(), "the policy directory can't be watched: it is looked at every 10 s");
            })
            .ok();
    }
}

/// Watches the directory with its content, and its parent directory, in which it may be replaced.
fn watch(directory: &Path, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let tell = move |event: notify::Result<notify::Event>| {
        // Reading the directory is not a change of it.
        if event.map_or(true, |event| is_change(event.kind)) {
            changed.notify_one();
        }
    };
    // A link in the directory may lead anywhere, for example to the whole file system.
    let mut watcher = RecommendedWatcher::new(tell, Config::default().with_follow_symlinks(false))?;
    watcher.watch(&directory.canonicalize()?, RecursiveMode::Recursive)?;
    if let Some(around) = directory.parent().filter(|around| around.is_dir()) {
        watcher.watch(around, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests;
