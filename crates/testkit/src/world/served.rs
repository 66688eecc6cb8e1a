//! One authority per test, with a store, limits and a clock that the test chooses.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderValue;
use tessera_authority::{Authority, Options};
use tessera_core::{
    ClientName, ManualClock, OnPolicyLoss, RealmLimits, RealmName, Timestamp, limits::TOKEN_BYTES_DEFAULT,
};
use tessera_daemon::{RunError, RunOptions};
use tessera_policy::Policy;
use tessera_proto::{
    upstream::envoy::service::auth::v3::authorization_client::AuthorizationClient,
    v1::key_service_client::KeyServiceClient,
};
use tessera_server::{HttpOptions, Limits, Listeners, ServeOptions};
use tessera_store::{MemoryStore, Store};
use tessera_token::ServerKey;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use super::{client::Client, policy::PolicyDirectory};
use crate::serving::{self, Parts};

/// The settings of a world.
pub struct Setup {
    /// The limits of each realm.
    pub limits: RealmLimits,
    /// The bounds of the server.
    pub server: Limits,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// The longest access token.
    pub token_bytes_max: usize,
    /// How long a watch may make no progress.
    pub watch_stall_max: Duration,
    /// What a change of policy does to sessions that lose scopes.
    pub on_policy_loss: OnPolicyLoss,
    /// Whether the policy directory is followed.
    pub policy_watch: bool,
    /// Whether proxies may call.
    pub proxies: bool,
    /// The server key.
    pub server_key: ServerKey,
    /// The first time that the clock shows.
    pub begins_at: Timestamp,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: RealmLimits::default(),
            server: Limits::default().without_rates(),
            store: Arc::new(MemoryStore::new()),
            token_bytes_max: TOKEN_BYTES_DEFAULT,
            watch_stall_max: Options::WATCH_STALL_MAX,
            on_policy_loss: OnPolicyLoss::Narrow,
            policy_watch: false,
            proxies: true,
            server_key: ServerKey::generate().expect("random numbers"),
            begins_at: Timestamp::from_seconds(1_795_000_000),
        }
    }
}

/// A served authority.
pub struct World {
    /// The clock, which stands still until it is moved.
    pub clock: Arc<ManualClock>,
    /// The served authority.
    pub authority: Arc<Authority>,
    /// The policy's directory.
    pub policy: PolicyDirectory,
    /// Its address.
    pub address: SocketAddr,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    /// Ends when the server has.
    pub serving: JoinHandle<Result<(), RunError>>,
}

impl World {
    /// A world as most tests need it.
    ///
    /// # Panics
    /// Panics if it can't be started.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A world with other settings.
    ///
    /// # Panics
    /// Panics if it can't be started.
    pub async fn with(setup: Setup) -> Self {
        Self::in_directory(setup, PolicyDirectory::new()).await
    }

    /// A world as most tests need it, on this store.
    ///
    /// # Panics
    /// Panics if it can't be started.
    pub async fn on(store: Arc<dyn Store>) -> Self {
        Self::with(Setup {
            store,
            ..Setup::default()
        })
        .await
    }

    /// A world with the policy of this directory.
    ///
    /// # Panics
    /// Panics if it can't be started, or if the policy is refused.
    pub async fn in_directory(setup: Setup, policy: PolicyDirectory) -> Self {
        let clock = Arc::new(ManualClock::new(setup.begins_at));
        let options = Options {
            token_bytes_max: setup.token_bytes_max,
            watch_stall_max: setup.watch_stall_max,
            ..serving::options(Parts {
                store: setup.store,
                policy: serving::good(Policy::load(policy.path())),
                policy_directory: Some(policy.path().to_owned()),
                server_key: setup.server_key,
                clock: Arc::clone(&clock) as _,
                limits: setup.limits,
                on_policy_loss: setup.on_policy_loss,
            })
        };
        let (authority, public) = serving::open(options, "127.0.0.1:0").await;
        let address = public.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel();
        let options = RunOptions {
            server: ServeOptions {
                limits: setup.server,
                http: HttpOptions {
                    cors_origins: vec![HeaderValue::from_static("https://app.example.org")],
                    proxies: setup.proxies,
                    public_url: Some("https://auth.example.org/tessera".to_owned()),
                },
                ..ServeOptions::default()
            },
            policy_watch: setup.policy_watch,
            ..RunOptions::default()
        };
        let listeners = Listeners { public, admin: None };
        let serving = tokio::spawn(tessera_daemon::run(
            listeners,
            authority.clone(),
            options,
            async {
                let _ = stopped.await;
            },
        ));
        // A small window, so that a client which does not read is noticed after kilobytes, not megabytes.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint
            .initial_stream_window_size(65_535)
            .connect()
            .await
            .expect("a server that listens");
        Self {
            clock,
            authority,
            policy,
            address,
            channel,
            stop: Some(stop),
            serving,
        }
    }

    /// A client with a new API key.
    ///
    /// # Panics
    /// Panics if one of them is not a valid name.
    pub async fn client(&self, realm_name: &str, name: &str) -> Client {
        let client = ClientName::from_short(name).expect("a name");
        let key = serving::new_api_key(&self.authority, &realm(realm_name), client).await;
        self.with_key(key.expose())
    }

    /// `client:app` and `client:admin` of the production realm, each with a new API key.
    ///
    /// # Panics
    /// As [`World::client`].
    pub async fn app_and_admin(&self) -> (Client, Client) {
        (
            self.client("production", "app").await,
            self.client("production", "admin").await,
        )
    }

    /// A caller with this API key; empty for none.
    #[must_use]
    pub fn with_key(&self, api_key: &str) -> Client {
        Client::new(self.channel(), api_key)
    }

    /// `KeyService`, which needs no credential.
    #[must_use]
    pub fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel())
    }

    /// Calls as Envoy does.
    #[must_use]
    pub fn authorization(&self) -> AuthorizationClient<Channel> {
        AuthorizationClient::new(self.channel())
    }

    /// The channel, without any credential.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Asks the server to stop.
    ///
    /// # Panics
    /// Panics if it was asked before.
    pub fn stop(&mut self) {
        let stop = self.stop.take().expect("a server that was not stopped");
        let _ = stop.send(());
    }
}

/// A name of a realm.
///
/// # Panics
/// Panics if it is not valid.
#[must_use]
pub fn realm(name: &str) -> RealmName {
    RealmName::parse(name).expect("a name")
}

/// A rate, in the form of limits.
#[must_use]
pub fn per_second(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}
