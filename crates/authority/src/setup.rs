//! Opening an authority: what must be there before the first request.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use tessera_core::{
    ApiKeyId, AuditAction, AuditRecord, Clock, KeyStatus, Realm, RealmName, SigningKey, Timestamp,
    audit::Actor, limits::TOKEN_BYTES_MAX,
};
use tessera_policy::Policy;
use tessera_store::{PageRequest, Store, StoreError, StoreExt};
use tessera_token::{KeyError, NoEntropy, ServerKeys, SigningKeyPair};
use tokio::sync::watch as signal;

use crate::{
    Authority, Unavailable,
    apply::realm_unknown,
    disabled::DisabledClients,
    keys::KeySet,
    propagation::{StalenessBound, Subscribers},
    reload::PolicyHistory,
    replays::ReplayCoalescer,
    restored::RollbackDetection,
    revoke::publish_key,
    verified::VerifiedTokens,
};

/// What an authority is made of.
pub struct Options {
    /// Where its state is.
    pub store: Arc<dyn Store>,
    /// What decides.
    pub policy: Policy,
    /// Where it is read from again; none: it is built in.
    pub policy_directory: Option<PathBuf>,
    /// The realms it serves; each must be in the policy's catalogue.
    pub realms: Vec<Realm>,
    /// Its own secret.
    pub server_keys: ServerKeys,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The longest access token that is issued, in bytes, within
    /// [`TOKEN_BYTES_MIN`](tessera_core::limits::TOKEN_BYTES_MIN) and
    /// [`TOKEN_BYTES_MAX`](tessera_core::limits::TOKEN_BYTES_MAX).
    pub token_bytes_max: usize,
    /// How many verified tokens are kept, about 1.5 KiB each.
    pub verified_tokens_max: u64,
    /// How long a watcher's full queue may stand still before its subscriber is ended.
    pub watch_stall_max: Duration,
    /// How long a required subscriber may go on answering without hearing of revocations; every revocation
    /// that waits for subscribers may wait so long.
    pub staleness_bound_max: Duration,
}

impl Options {
    /// Ten seconds.
    pub const WATCH_STALL_MAX: Duration = Duration::from_secs(10);
    /// What [`Options::staleness_bound_max`] is by default.
    pub const STALENESS_BOUND_MAX: Duration = Duration::from_secs(60);
}

/// An authority can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A realm is configured and not in the catalogue.
    #[error(
        "realm `{realm}` is not in the policy's catalogue.toml: add it under [realms], or take it out of the configuration"
    )]
    RealmUnknown {
        /// The realm.
        realm: RealmName,
    },
    /// No realm is configured.
    #[error("no realm is configured")]
    NoRealm,
    /// The stored signing keys do not open with the server key.
    #[error(
        "the signing keys in the data directory were sealed by another server key: configure the key that made this directory, or name it among the previous keys"
    )]
    WrongServerKey(#[source] KeyError),
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random numbers.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl Authority {
    /// Opens an authority: makes the signing keys that are missing, and says in the log which policy is in
    /// force.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub async fn open(options: Options) -> Result<Arc<Self>, SetupError> {
        let Options {
            store,
            policy,
            policy_directory,
            realms,
            server_keys,
            clock,
            token_bytes_max,
            verified_tokens_max,
            watch_stall_max,
            staleness_bound_max,
        } = options;
        if realms.is_empty() {
            return Err(SetupError::NoRealm);
        }
        let realms: BTreeMap<_, _> = realms
            .into_iter()
            .map(|realm| (realm.name.clone(), Arc::new(realm)))
            .collect();
        if let Some(unknown) = realm_unknown(&policy, &realms) {
            return Err(SetupError::RealmUnknown {
                realm: unknown.clone(),
            });
        }
        let subscribers = Subscribers::new(store.staleness_bounds().await?);
        // Before the first commit, which is a sign of life.
        let (now, settled) = (clock.now(), clock.settled());
        let mut records = store.signing_keys().await?;
        // Before anything is written: a wrong server key must not leave new signing keys behind.
        KeySet::open(records.clone(), &realms, &server_keys).map_err(SetupError::WrongServerKey)?;
        let noted = store.transact(move |tx| {
            tx.times().note_start(now, settled);
            Ok(())
        });
        noted.await?;
        for realm in realms.values() {
            if !has_active_key(&records, &realm.name) {
                records.push(make_key(store.as_ref(), realm, &server_keys, clock.now()).await?);
            }
        }
        let keys = KeySet::open(records, &realms, &server_keys).map_err(SetupError::WrongServerKey)?;
        let authority = Arc::new(Self {
            disabled: DisabledClients::read(store.as_ref()).await?,
            store,
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            policy_directory,
            policy_history: PolicyHistory::new(clock.now()),
            policy_changes: Arc::default(),
            heavy: crate::heavy::Heavy::new(),
            realms,
            server_keys,
            keys: ArcSwap::from_pointee(keys),
            // Longer ones nobody would read.
            token_bytes_max: token_bytes_max.min(TOKEN_BYTES_MAX),
            verified: VerifiedTokens::new(verified_tokens_max),
            watch_stall_max,
            staleness_bound_max: StalenessBound(staleness_bound_max),
            subscribers,
            replays: ReplayCoalescer::default(),
            key_changes: tokio::sync::Mutex::default(),
            clock,
            draining: signal::Sender::new(false),
            rollback: RollbackDetection::default(),
            purges: AtomicU64::default(),
        });
        authority.start_policy().await?;
        authority.note_start().await?;
        Ok(authority)
    }

    /// Reconciles live sessions with a policy that was changed while the authority was stopped, or whose
    /// application a crash cut off.
    async fn start_policy(&self) -> Result<(), StoreError> {
        self.announce(&Actor::Operator).await?;
        if self.store.reconciled_policy().await?.as_ref() != Some(self.policy().revision()) {
            let impact = self.reconcile(&Actor::Operator).await?.total();
            if impact.narrowed + impact.ended > 0 {
                tracing::info!(
                    narrowed = impact.narrowed,
                    ended = impact.ended,
                    "live sessions are updated to the policy"
                );
            }
        }
        self.policy_history.reconciled();
        Ok(())
    }

    /// Whether a realm has an API key that works, of any client.
    ///
    /// # Errors
    /// Fails where the store can't be read.
    pub async fn has_working_api_key(&self, realm: &RealmName) -> Result<bool, Unavailable> {
        let mut after: Option<ApiKeyId> = None;
        loop {
            let page = self
                .store
                .api_keys(realm, PageRequest { after, limit: 100 })
                .await?;
            if page.items.iter().any(|key| key.works(self.clock.now())) {
                return Ok(true);
            }
            after = page.next;
            if after.is_none() {
                return Ok(false);
            }
        }
    }
}

fn has_active_key(records: &[SigningKey], realm: &RealmName) -> bool {
    records
        .iter()
        .any(|key| key.realm == *realm && key.status == KeyStatus::Active)
}

async fn make_key(
    store: &dyn Store,
    realm: &Realm,
    server_keys: &ServerKeys,
    now: Timestamp,
) -> Result<SigningKey, SetupError> {
    let pair = SigningKeyPair::generate()?;
    let record = pair
        .to_record(&realm.name, server_keys, now)
        .map_err(SetupError::WrongServerKey)?;
    let audit = by_operator(
        realm,
        now,
        AuditAction::SigningKeyCreated {
            key: record.id.clone(),
        },
    );
    let until = now.plus(realm.limits.access_ttl_max);
    let stored = record.clone();
    store
        .transact(move |tx| {
            tx.audit(&audit)?;
            publish_key(tx, &stored, now, until)
        })
        .await?;
    Ok(record)
}

fn by_operator(realm: &Realm, now: Timestamp, action: AuditAction) -> AuditRecord {
    AuditRecord {
        at: now,
        realm: realm.name.clone(),
        actor: Actor::Operator,
        request: None,
        action,
    }
}
