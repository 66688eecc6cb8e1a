//! Opening an authority: what must be available before the first request.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tessera_core::{Clock, Realm, RealmName, SigningKey, Timestamp};
use tessera_policy::Policy;
use tessera_store::{Changes, Reads, SettingChange, Settings, Store, StoreError};
use tessera_token::ServerKeys;

use crate::{
    access::accepted::Access,
    audit::{sink::AuditSinks, trail::AuditTrail},
    authority::Authority,
    credential::credentials::Credentials,
    error::SetupError,
    following::Following,
    heavy::Heavy,
    issuance::issuer::Issuance,
    log::{
        fence::Fence,
        subscribers::{StalenessBound, Subscribers},
    },
    operation::{backup::Backups, purge::Purging, timekeeping::Timekeeping},
    others::OtherNodes,
    policy::{apply::realm_unknown, policies::Policies},
    refusal::Refusals,
    report::Report,
    session::sessions::Sessions,
    shared::{Shared, setting::setting},
    signing_key::{
        key_set::KeySet,
        lifecycle::{has_active_key, make_key},
        schedule::KeyRotation,
        server_key::{check_sealed, replaced, reseal},
        signing_keys::SigningKeys,
    },
    verified::VerifiedTokens,
    watch::watches::Watches,
};

/// The parts of an authority.
pub struct Options {
    /// The store of its state.
    pub store: Arc<dyn Store>,
    /// The policy that decides.
    pub policy: Policy,
    /// The directory from which the policy is read again; `None`: the policy is built in.
    pub policy_directory: Option<PathBuf>,
    /// The realms it serves; each must be in the policy's catalogue.
    pub realms: Vec<Realm>,
    /// Its own secret.
    pub server_keys: Arc<ServerKeys>,
    /// How signing keys replace each other.
    pub key_rotation: KeyRotation,
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
    /// The longest access token that is issued, in bytes, within
    /// [`TOKEN_BYTES_MIN`](tessera_core::limits::TOKEN_BYTES_MIN) and
    /// [`TOKEN_BYTES_MAX`](tessera_core::limits::TOKEN_BYTES_MAX).
    pub token_bytes_max: usize,
    /// How many verified tokens are kept, about 1.5 KiB each.
    pub verified_tokens_max: u64,
    /// How long a watcher's full queue may make no progress before its subscriber is ended.
    pub watch_stall_max: Duration,
    /// How long a required subscriber may keep answering without receiving revocations; every revocation that waits for
    /// subscribers may wait so long.
    pub staleness_bound_max: Duration,
}

impl Options {
    /// Ten seconds.
    pub const WATCH_STALL_MAX: Duration = Duration::from_secs(10);
    /// The default of [`Options::staleness_bound_max`].
    pub const STALENESS_BOUND_MAX: Duration = Duration::from_secs(60);
}

/// What the nouns are made of, besides what they share.
struct Given {
    settings: Settings,
    keys: KeySet,
    policy_directory: Option<PathBuf>,
    key_rotation: KeyRotation,
    token_bytes_max: usize,
    verified_tokens_max: u64,
    watch_stall_max: Duration,
    staleness_bound_max: Duration,
}

/// The realms by name, each of which the policy must know.
fn by_name(realms: Vec<Realm>, policy: &Policy) -> Result<BTreeMap<RealmName, Arc<Realm>>, SetupError> {
    if realms.is_empty() {
        return Err(SetupError::NoRealm);
    }
    let realms: BTreeMap<_, _> = realms
        .into_iter()
        .map(|realm| (realm.name.clone(), Arc::new(realm)))
        .collect();
    match realm_unknown(policy, &realms) {
        Some(unknown) => Err(SetupError::RealmUnknown {
            realm: unknown.clone(),
        }),
        None => Ok(realms),
    }
}

/// The settings that all nodes share, without those that each node keeps for itself.
async fn settings_at_start(store: &dyn Store) -> Result<Settings, StoreError> {
    let settings = store.read(Reads::default().settings()).await?.settings;
    let mut settings = settings.unwrap_or_default();
    if store.is_shared() {
        // Nodes that are gone still answer for their own verifiers.
        settings.staleness_bounds.clear();
    }
    Ok(settings)
}

impl Authority {
    /// Opens an authority: makes the signing keys that are missing, and records in the log which policy is in force.
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
            key_rotation,
            clock,
            token_bytes_max,
            verified_tokens_max,
            watch_stall_max,
            staleness_bound_max,
        } = options;
        let realms = by_name(realms, &policy)?;
        // What other nodes commit from here on is followed.
        store.catch_up().await?;
        let through = store.log().committed();
        let settings = settings_at_start(store.as_ref()).await?;
        let keys = keys_at_start(&store, &realms, &server_keys, clock.as_ref()).await?;
        let shared = Shared::new(store, clock, realms, policy, server_keys, through);
        let authority = Arc::new(Self::compose(
            shared,
            Given {
                settings,
                keys,
                policy_directory,
                key_rotation,
                token_bytes_max,
                verified_tokens_max,
                watch_stall_max,
                staleness_bound_max,
            },
        ));
        authority.policies.start().await?;
        authority.timekeeping.note_start().await?;
        authority.following.begin();
        Ok(authority)
    }

    /// The nouns, each with those that it needs.
    fn compose(shared: Arc<Shared>, given: Given) -> Self {
        let (store, clock) = (&shared.store, &shared.clock);
        let sinks = AuditSinks::new(Arc::clone(store), Arc::clone(clock), given.settings.audit_sinks);
        let sinks = Arc::new(sinks);
        let subscribers = Arc::new(Subscribers::new(given.settings.staleness_bounds));
        let policy_changes = Arc::default();
        let report = Report::new(&subscribers, &sinks, &policy_changes);
        let others = Arc::new(OtherNodes::new(&shared, Box::new(report)));
        let fence = Arc::new(Fence::new(&shared, &subscribers, &others));
        let signing_keys = Arc::new(SigningKeys::new(&shared, &fence, given.keys, given.key_rotation));
        let refusals = Arc::new(Refusals::new(Arc::clone(store), Arc::clone(clock)));
        let credentials = Arc::new(Credentials::new(
            &shared,
            &refusals,
            given.settings.disabled_clients,
        ));
        let verified = Arc::new(VerifiedTokens::new(given.verified_tokens_max));
        let heavy = Heavy::new();
        let audit = Arc::new(AuditTrail::new(&shared, &credentials, &others, &sinks, &heavy));
        let policies = Arc::new(Policies::new(
            &shared,
            &others,
            &audit,
            &heavy,
            given.policy_directory,
            &policy_changes,
        ));
        let following = Arc::new(Following {
            shared: Arc::clone(&shared),
            others: Arc::clone(&others),
            signing_keys: Arc::clone(&signing_keys),
            credentials: Arc::clone(&credentials),
            policies: Arc::clone(&policies),
            audit: Arc::clone(&audit),
        });
        Self {
            timekeeping: Timekeeping::new(&shared, &signing_keys),
            purging: Purging::new(&shared, &credentials, &refusals),
            backups: Arc::new(Backups::new(&shared, given.settings.last_backup)),
            watches: Arc::new(Watches::new(
                &shared,
                &credentials,
                &signing_keys,
                &fence,
                given.watch_stall_max,
                StalenessBound(given.staleness_bound_max),
            )),
            access: Access::new(&shared, &signing_keys, &verified),
            issuance: Issuance::new(
                &shared,
                &credentials,
                &signing_keys,
                &refusals,
                &verified,
                given.token_bytes_max,
            ),
            sessions: Sessions::new(&shared, &credentials, &signing_keys, &verified),
            refusals,
            credentials,
            sinks,
            policies,
            audit,
            signing_keys,
            fence,
            others,
            following,
            shared,
        }
    }
}

/// Checks that each realm of the policy is one of these, so that an authority can be opened with both.
///
/// # Errors
/// See [`SetupError`].
pub fn check_realms(realms: Vec<Realm>, policy: &Policy) -> Result<(), SetupError> {
    by_name(realms, policy).map(drop)
}

/// Checks that these server keys open the signing keys that are needed. It is checked before anything is written: a
/// wrong server key must not leave new signing keys behind.
///
/// # Errors
/// See [`SetupError`].
pub fn check_signing_keys(
    records: &[SigningKey],
    realms: &[Realm],
    server_keys: &ServerKeys,
) -> Result<(), SetupError> {
    let realms = realms.iter().cloned();
    let realms = realms
        .map(|realm| (realm.name.clone(), Arc::new(realm)))
        .collect();
    openable(records, &realms, server_keys)
}

fn openable(
    records: &[SigningKey],
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
) -> Result<(), SetupError> {
    check_sealed(records, realms, server_keys)?;
    KeySet::open(records.to_vec(), realms, server_keys).map_err(SetupError::WrongServerKey)?;
    Ok(())
}

/// Records the start, and returns the keys to serve with. Faults of the keys are found before anything is written.
async fn keys_at_start(
    store: &Arc<dyn Store>,
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
    clock: &dyn Clock,
) -> Result<KeySet, SetupError> {
    // Before the first commit, which is a sign of life.
    let (now, settled) = (clock.now(), clock.settled());
    let _alone = store.alone().await?;
    let records = store.signing_keys().await?;
    openable(&records, realms, server_keys)?;
    store
        .write(setting(SettingChange::Started { now, settled }))
        .await?;
    keys_in_use(records, store, realms, server_keys, clock).await
}

/// The keys to serve with: one that signs for each realm, all sealed by the current server key.
async fn keys_in_use(
    records: Vec<SigningKey>,
    store: &Arc<dyn Store>,
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
    clock: &dyn Clock,
) -> Result<KeySet, SetupError> {
    let records = with_active_keys(records, store, realms, server_keys, clock).await?;
    let records = resealed(records, store, realms, server_keys, clock.now()).await?;
    KeySet::open(records, realms, server_keys).map_err(SetupError::WrongServerKey)
}

/// The signing keys, each sealed by the current server key, in one commit.
async fn resealed(
    mut records: Vec<SigningKey>,
    store: &Arc<dyn Store>,
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
    now: Timestamp,
) -> Result<Vec<SigningKey>, SetupError> {
    let changed = reseal(&records, server_keys, now);
    if changed.is_empty() {
        return Ok(records);
    }
    let changes = Changes {
        signing_keys: changed.clone(),
        audit: replaced(realms.keys(), server_keys.current().id(), now),
        ..Changes::default()
    };
    store.write(changes).await?;
    for key in changed {
        if let Some(record) = records.iter_mut().find(|record| record.id == key.id) {
            *record = key;
        }
    }
    Ok(records)
}

/// The signing keys, with a new one for each realm that has none. What a key signs from now on may live longer than
/// what it signed before.
async fn with_active_keys(
    mut records: Vec<SigningKey>,
    store: &Arc<dyn Store>,
    realms: &BTreeMap<RealmName, Arc<Realm>>,
    server_keys: &ServerKeys,
    clock: &dyn Clock,
) -> Result<Vec<SigningKey>, SetupError> {
    for realm in realms.values() {
        let longest = realm.limits.access_ttl_max;
        let of_realm = records.iter_mut().filter(|key| key.realm == realm.name);
        for key in of_realm.filter(|key| key.not_after.is_none() && key.token_ttl_max < longest) {
            key.token_ttl_max = longest;
            let changes = Changes {
                signing_keys: vec![key.clone()],
                ..Changes::default()
            };
            store.write(changes).await?;
        }
        if !has_active_key(&records, &realm.name) {
            records.push(make_key(store.as_ref(), realm, server_keys, clock.now()).await?);
        }
    }
    Ok(records)
}
