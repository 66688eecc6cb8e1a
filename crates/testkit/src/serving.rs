//! The common parts of all test authorities.

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use tessera_authority::{ApiKeyTerms, Authority, KeyRotation, Options};
use tessera_client::ApiKey;
use tessera_core::{
    ClientName, Clock, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, limits::TOKEN_BYTES_DEFAULT,
};
use tessera_policy::{Policy, PolicyError};
use tessera_store::Store;
use tessera_token::{ServerKey, ServerKeys};
use tokio::net::TcpListener;

use crate::waiting::{LOOK_INTERVAL, soon};

/// The parts that differ.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Policy,
    pub(crate) policy_directory: Option<PathBuf>,
    pub(crate) server_key: ServerKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: RealmLimits,
    pub(crate) on_policy_loss: OnPolicyLoss,
}

/// The options of an authority with these parts, and each realm that its policy has.
pub(crate) fn options(parts: Parts) -> Options {
    let catalogue = parts.policy.catalogue();
    let realms = RealmKind::ALL.map(|kind| Realm {
        name: RealmName::parse(kind.as_str()).expect("each kind is a name"),
        kind,
        issuer: format!("https://auth.example.org/{kind}"),
        limits: parts.limits.clone(),
        on_policy_loss: parts.on_policy_loss,
    });
    let realms = realms
        .into_iter()
        .filter(|realm| catalogue.has_realm(&realm.name));
    Options {
        realms: realms.collect(),
        store: parts.store,
        policy: parts.policy,
        policy_directory: parts.policy_directory,
        server_keys: Arc::new(ServerKeys::new(parts.server_key, Vec::new())),
        key_rotation: KeyRotation::default(),
        clock: parts.clock,
        token_bytes_max: TOKEN_BYTES_DEFAULT,
        verified_tokens_max: 1000,
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: Options::STALENESS_BOUND_MAX,
    }
}

/// A policy that was loaded; panics with all its errors.
pub(crate) fn good(policy: Result<Policy, PolicyError>) -> Policy {
    policy.unwrap_or_else(|error| panic!("the policy is refused:\n{error}"))
}

/// Opens an authority, and the socket on which it will be served.
pub(crate) async fn open(options: Options, listen: &str) -> (Arc<Authority>, TcpListener) {
    let authority = Authority::open(options).await;
    let authority = authority.unwrap_or_else(|error| panic!("the authority does not open: {error}"));
    (authority, soon(listen, bind(listen)).await)
}

/// The previous user of the address may not have released it yet.
async fn bind(listen: &str) -> TcpListener {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => return listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::time::sleep(LOOK_INTERVAL).await,
            Err(error) => panic!("{listen} can't be listened at: {error}"),
        }
    }
}

/// A new API key, as an operator makes it.
pub(crate) async fn new_api_key(authority: &Authority, realm: &RealmName, client: ClientName) -> ApiKey {
    let created = authority
        .credentials()
        .create_operator_api_key(realm, client, ApiKeyTerms::default())
        .await;
    let created = created.unwrap_or_else(|error| panic!("no API key: {error}"));
    ApiKey::parse(created.secret.expose()).expect("an API key that was just made")
}
