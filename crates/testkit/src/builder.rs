//! How a test's authority is set up.

use std::{path::PathBuf, sync::Arc};

use tessera_authority::{Authority, Options};
use tessera_core::{OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName};
use tessera_policy::{Catalogue, Policy};
use tessera_server::{Listeners, ServeError, ServeOptions, serve};
use tessera_store::MemoryStore;
use tessera_token::{ServerKey, ServerKeys};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{TestAuthority, TestClock};

/// Sets up a [`TestAuthority`].
#[derive(Clone, Debug)]
pub struct TestAuthorityBuilder {
    policy_folder: Option<PathBuf>,
    pub(crate) client: String,
    pub(crate) roles: Vec<String>,
    clock: TestClock,
    listen: String,
}

/// An authority that is served, and how to stop it.
pub(crate) struct Served {
    pub(crate) authority: Arc<Authority>,
    pub(crate) audience: String,
    pub(crate) address: String,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

impl TestAuthorityBuilder {
    pub(crate) fn new() -> Self {
        Self {
            policy_folder: None,
            client: "client:dev".to_owned(),
            roles: vec!["role:editor".to_owned()],
            clock: TestClock::new(),
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    /// The policy in this folder instead of that of `tessera dev`; it has the realm `production`. `client`
    /// is who the kit calls as: policy must let it issue for subjects, assert `roles`, watch, and revoke, as
    /// far as the test needs.
    #[must_use]
    pub fn with_policy(mut self, folder: impl Into<PathBuf>, client: &str, roles: &[&str]) -> Self {
        self.policy_folder = Some(folder.into());
        self.client = client.to_owned();
        self.roles = roles.iter().map(|&role| role.to_owned()).collect();
        self
    }

    /// A clock that something else has too: another authority, perhaps.
    #[must_use]
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock = clock;
        self
    }

    /// The address to listen at, such as `127.0.0.1:7600`, instead of a free one.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Panics where the policy is refused, or the address can't be listened at.
    pub async fn start(self) -> TestAuthority {
        let served = self.serve().await;
        let clock = self.clock.clone();
        TestAuthority::of(self, served, clock).await
    }

    async fn serve(&self) -> Served {
        let policy = match &self.policy_folder {
            None => Policy::from_files(Policy::default_files()),
            Some(folder) => Policy::load(folder),
        };
        let policy = policy.unwrap_or_else(|error| panic!("the policy is refused:\n{error}"));
        let audience = audience(policy.catalogue());
        let realms = RealmKind::ALL.map(realm).into_iter();
        let realms = realms.filter(|realm| policy.catalogue().has_realm(&realm.name));
        let authority = Authority::open(Options {
            store: Arc::new(MemoryStore::new()),
            realms: realms.collect(),
            policy,
            policy_folder: self.policy_folder.clone(),
            server_keys: ServerKeys::new(ServerKey::generate().expect("random numbers"), Vec::new()),
            clock: self.clock.shared(),
            verified_tokens_max: 1000,
            watch_stall_max: Options::WATCH_STALL_MAX,
        });
        let authority = authority.await.expect("an authority on an empty store opens");
        let public = TcpListener::bind(&self.listen)
            .await
            .unwrap_or_else(|error| panic!("{} can't be listened at: {error}", self.listen));
        let address = public.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let listeners = Listeners { public, admin: None };
        let options = ServeOptions {
            policy_watch: false,
            ..ServeOptions::default()
        };
        let serving = tokio::spawn(serve(listeners, Arc::clone(&authority), options, async {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Served {
            authority,
            audience,
            address: format!("http://{address}"),
            stop,
            serving,
        }
    }
}

/// `api`, or the first where there is none of that name.
fn audience(catalogue: &Catalogue) -> String {
    let names = catalogue.audiences().iter().map(ToString::to_string);
    let names: Vec<_> = names.collect();
    let api = names.iter().find(|&name| name == "api");
    api.or(names.first()).cloned().unwrap_or_default()
}

fn realm(kind: RealmKind) -> Realm {
    Realm {
        name: RealmName::parse(kind.as_str()).expect("each kind is a name"),
        kind,
        issuer: format!("https://auth.example.org/{kind}"),
        limits: RealmLimits::default(),
        on_policy_loss: OnPolicyLoss::Narrow,
    }
}
