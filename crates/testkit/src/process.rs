//! An authority that is served, and its settings.

use std::{path::PathBuf, sync::Arc};

use tessera_authority::Authority;
use tessera_core::{OnPolicyLoss, RealmLimits};
use tessera_daemon::{RunError, RunOptions};
use tessera_policy::{Catalogue, Policy};
use tessera_server::Listeners;
use tessera_store::MemoryStore;
use tessera_token::ServerKey;
use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    clock::TestClock,
    serving::{self, Parts},
};

/// The settings of a builder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) policy_directory: Option<PathBuf>,
    pub(crate) client: String,
    pub(crate) roles: Vec<String>,
    pub(crate) clock: TestClock,
    pub(crate) listen: String,
}

/// The state that survives when an authority is killed: its disk.
pub(crate) struct Disk {
    store: Arc<MemoryStore>,
    server_key: ServerKey,
}

/// An authority that is served.
pub(crate) struct Served {
    pub(crate) authority: Arc<Authority>,
    pub(crate) audience: String,
    pub(crate) address: String,
    pub(crate) process: Process,
}

/// A running authority, and how to stop it.
pub(crate) struct Process {
    /// `None` once it was asked to stop.
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), RunError>>,
    /// A separate runtime, so that everything it does can be ended abruptly. `None` once it has ended.
    runtime: Option<Runtime>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            server_key: ServerKey::generate().expect("random numbers"),
        }
    }
}

impl Process {
    fn runtime() -> Runtime {
        let mut builder = runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        runtime.expect("a thread")
    }

    /// Ends it immediately, and waits until nothing of it runs.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take();
        let ending = tokio::task::spawn_blocking(|| drop(runtime));
        ending.await.expect("dropping a runtime does not panic");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait for it, which an async task may not do.
            runtime.shutdown_background();
        }
    }
}

impl Settings {
    /// Serves the data on `disk`.
    pub(crate) async fn serve(&self, disk: &Disk) -> Served {
        let policy = match &self.policy_directory {
            None => Policy::from_files(Policy::default_files()),
            Some(directory) => Policy::load(directory),
        };
        let policy = serving::good(policy);
        let audience = audience(policy.catalogue());
        let server_key =
            ServerKey::parse(&disk.server_key.to_paserk()).expect("a server key is written as one");
        let options = serving::options(Parts {
            store: Arc::clone(&disk.store) as _,
            policy,
            policy_directory: self.policy_directory.clone(),
            server_key,
            clock: self.clock.shared(),
            limits: RealmLimits::default(),
            on_policy_loss: OnPolicyLoss::Narrow,
        });
        let runtime = Process::runtime();
        let (stop, stopped) = oneshot::channel::<()>();
        let listen = self.listen.clone();
        let opened = runtime.spawn(async move { serving::open(options, &listen).await });
        let (authority, public) = opened.await.expect("the authority opens");
        let address = public.local_addr().expect("a bound socket has an address");
        let listeners = Listeners { public, admin: None };
        let options = RunOptions {
            policy_watch: false,
            ..RunOptions::default()
        };
        let serving = runtime.spawn(tessera_daemon::run(
            listeners,
            Arc::clone(&authority),
            options,
            async {
                // A dropped sender means the same.
                let _ = stopped.await;
            },
        ));
        Served {
            authority,
            audience,
            address: format!("http://{address}"),
            process: Process {
                stop: Some(stop),
                serving,
                runtime: Some(runtime),
            },
        }
    }
}

/// `api`, or the first if there is none of that name.
fn audience(catalogue: &Catalogue) -> String {
    let names = catalogue.audiences().iter().map(ToString::to_string);
    let names: Vec<_> = names.collect();
    let api = names.iter().find(|&name| name == "api");
    api.or(names.first()).cloned().unwrap_or_default()
}
