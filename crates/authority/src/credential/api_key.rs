//! Making, showing and rolling API keys.

use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, ClientName, RealmName, Seconds, Timestamp, audit::Actor,
};
use tessera_policy::Permission;
use tessera_store::{Changes, ClientChange, PageRequest, Reads, SessionIndex, Snapshot};
use tessera_token::ApiKeySecret;

use crate::{
    Authority,
    credential::{
        authenticate::Principal,
        commit::{CreateCommit, RollCommit},
        error::ApiKeyError,
    },
    error::{CallNotAllowed, Unavailable},
    page::{Listed, page_request},
};

/// The shortest life of a new API key.
const TTL_MIN: Seconds = Seconds::MINUTE;
/// How long the old key works after a roll unless the caller says.
const OVERLAP_DEFAULT: Seconds = Seconds::DAY;
const OVERLAP_MAX: Seconds = Seconds::days(30);
/// How often a key and its successors can be rolled within an hour.
pub const ROLLS_MAX: usize = 5;
/// How long a key that does not work any more is listed.
const DEAD_KEYS_KEPT: Seconds = Seconds::days(30);

/// For whom, and for how long.
#[derive(Clone, Debug)]
pub struct CreateApiKey {
    /// The client that the key speaks for.
    pub client: ClientName,
    /// Must be the caller's realm; none: that.
    pub realm: Option<RealmName>,
    /// How long it works; none: until it is revoked.
    pub ttl: Option<Seconds>,
}

/// A new key, shown once.
#[derive(Debug)]
pub struct NewApiKey {
    /// The key itself.
    pub secret: ApiKeySecret,
    /// Its description.
    pub record: ApiKey,
}

/// A rolled key.
#[derive(Debug)]
pub struct RolledApiKey {
    /// The new key, shown once.
    pub new: NewApiKey,
    /// The old key's description.
    pub previous: ApiKey,
}

impl Authority {
    /// Makes a key.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn create_api_key(
        &self,
        principal: &Principal,
        request: CreateApiKey,
    ) -> Result<NewApiKey, ApiKeyError> {
        self.require_create(principal, &request.client)?;
        if request
            .realm
            .is_some_and(|realm| realm != *principal.realm_name())
        {
            // A key administers its own realm: another realm's keys are made with another key.
            return Err(principal
                .not_allowed("an API key of that realm".to_owned())
                .into());
        }
        if request.ttl.is_some_and(|ttl| ttl < TTL_MIN) {
            return Err(ApiKeyError::Field {
                field: "ttl",
                problem: format!("must be at least {TTL_MIN}"),
            });
        }
        let expires_at = request.ttl.map(|ttl| self.clock.now().plus(ttl));
        let new = self.new_api_key(principal, request.client, expires_at)?;
        self.store_new_api_key(new, Some(principal)).await
    }

    /// Makes a key for the operator of the authority, who needs no key to do so.
    ///
    /// # Errors
    /// Fails where the realm is not served or the store can't be written.
    pub async fn create_operator_api_key(
        &self,
        realm: &RealmName,
        client: ClientName,
    ) -> Result<NewApiKey, ApiKeyError> {
        let realm = self.realms.get(realm).ok_or(ApiKeyError::NotFound)?;
        let secret = ApiKeySecret::generate(realm.kind)?;
        let record = record_of(&secret, realm.name.clone(), client, self.clock.now());
        self.store_new_api_key(NewApiKey { secret, record }, None).await
    }

    /// Describes a key.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] where there is none in the realm.
    pub async fn api_key(&self, principal: &Principal, id: &ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        self.require(principal, &Permission::ReadApiKeys)?;
        self.api_key_of_realm(principal, id).await
    }

    /// The keys of the realm.
    ///
    /// # Errors
    /// See [`ApiKeyError`].
    pub async fn api_keys(
        &self,
        principal: &Principal,
        page_size: usize,
        page_token: &str,
    ) -> Result<Listed<ApiKey>, ApiKeyError> {
        self.require(principal, &Permission::ReadApiKeys)?;
        let request = page_request(page_size, page_token, |text| ApiKeyId::parse(text).ok())
            .ok_or(ApiKeyError::PageTokenInvalid)?;
        let page = self.store.api_keys(principal.realm_name(), request).await?;
        let next_page_token = page.next.map_or_else(String::new, |id| id.to_string());
        Ok(Listed {
            items: page.items,
            next_page_token,
        })
    }

    /// Makes a successor, and lets the old key work for `overlap` (none: 24 hours). The successor works for no
    /// longer than the old key would have.
    ///
    /// # Errors
    /// See [`ApiKeyError`]; a key that was rolled, expired or revoked can't be rolled, and one can be rolled
    /// [`ROLLS_MAX`] times an hour.
    pub async fn roll_api_key(
        &self,
        principal: &Principal,
        id: &ApiKeyId,
        overlap: Option<Seconds>,
    ) -> Result<RolledApiKey, ApiKeyError> {
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            return Err(ApiKeyError::Field {
                field: "overlap",
                problem: format!("must be at most {OVERLAP_MAX}"),
            });
        }
        let old = self.api_key_of_realm(principal, id).await?;
        if id != principal.api_key() {
            // It makes a key, and it can end one at once.
            self.require_create(principal, &old.client)?;
            self.require_revoke(principal, &old.client)?;
        }
        let now = self.clock.now();
        let mut new = self.new_api_key(principal, old.client, old.expires_at)?;
        new.record.rolls = rolled_again(&old.rolls, now)?;
        let roll = RollCommit {
            id: id.clone(),
            successor: new.record.clone(),
            overlap,
            actor: principal.actor(),
            now,
        };
        let reads = maker_reads(Some(principal), &new.record).api_key(id.clone());
        let decide = move |state: &Snapshot| roll.decide(state);
        let (rolled, _) = self.store.commit(reads, decide).await?;
        Ok(RolledApiKey {
            new,
            previous: rolled?,
        })
    }

    /// Refuses a client that may not make API keys of `client`.
    pub(crate) fn require_create(
        &self,
        principal: &Principal,
        client: &ClientName,
    ) -> Result<(), CallNotAllowed> {
        let is_own = client == principal.client();
        if is_own && self.require(principal, &Permission::CreateApiKeys).is_ok() {
            return Ok(());
        }
        self.require(principal, &Permission::CreateApiKeysOf(client.clone()))
    }

    /// Refuses a client that may not end API keys of `client`; every client may end its own.
    pub(crate) fn require_revoke(
        &self,
        principal: &Principal,
        client: &ClientName,
    ) -> Result<(), CallNotAllowed> {
        if client == principal.client() {
            return Ok(());
        }
        self.require(principal, &Permission::RevokeApiKeysOf(client.clone()))
    }

    /// Removes API keys that have been dead for long and that no session needs. `horizon` is a time that has
    /// passed for certain.
    pub(crate) async fn purge_api_keys(&self, horizon: Timestamp) -> Result<usize, Unavailable> {
        let mut purged = 0;
        for realm in self.realms.keys() {
            let mut after = None;
            loop {
                let page = self
                    .store
                    .api_keys(realm, PageRequest { after, limit: 100 })
                    .await?;
                for key in page.items {
                    let dead_since = key.dead_since(horizon);
                    let is_old = dead_since.is_some_and(|since| since.plus(DEAD_KEYS_KEPT) < horizon);
                    if is_old && !self.has_sessions_of(&key).await? {
                        let removed = Changes {
                            removed_api_keys: vec![key],
                            ..Changes::default()
                        };
                        self.store.write(removed).await?;
                        purged += 1;
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(purged)
    }

    async fn has_sessions_of(&self, key: &ApiKey) -> Result<bool, Unavailable> {
        let index = SessionIndex::Credential(key.realm.clone(), key.id.clone().into());
        let one = PageRequest {
            after: None,
            limit: 1,
        };
        Ok(!self.store.sessions(index, one).await?.items.is_empty())
    }

    /// Lets the keys of a disabled client work again.
    ///
    /// # Errors
    /// [`ApiKeyError::NotAllowed`] for those who may not make keys of the client.
    pub async fn enable_client(&self, principal: &Principal, client: &ClientName) -> Result<(), ApiKeyError> {
        self.require_create(principal, client)?;
        let (realm, client) = (principal.realm_name().clone(), client.clone());
        let audit = AuditRecord {
            at: self.clock.now(),
            realm: realm.clone(),
            actor: principal.actor(),
            request: None,
            action: AuditAction::ClientDisabled {
                client: client.clone(),
                is_enabled: true,
            },
        };
        let changes = Changes {
            clients: vec![ClientChange {
                realm: realm.clone(),
                client: client.clone(),
                is_disabled: false,
            }],
            audit: vec![audit],
            ..Changes::default()
        };
        self.store.write(changes).await?;
        self.disabled.remove(&realm, &client);
        Ok(())
    }

    async fn api_key_of_realm(&self, principal: &Principal, id: &ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        let key = self.store.api_key(id).await?;
        key.filter(|key| key.realm == *principal.realm_name())
            .ok_or(ApiKeyError::NotFound)
    }

    fn new_api_key(
        &self,
        principal: &Principal,
        client: ClientName,
        expires_at: Option<Timestamp>,
    ) -> Result<NewApiKey, ApiKeyError> {
        let secret = ApiKeySecret::generate(principal.realm().kind)?;
        let realm = principal.realm_name().clone();
        let record = ApiKey {
            expires_at,
            made_with: Some(principal.api_key().clone()),
            ..record_of(&secret, realm, client, self.clock.now())
        };
        Ok(NewApiKey { secret, record })
    }

    /// `maker` is none where the operator makes it.
    async fn store_new_api_key(
        &self,
        new: NewApiKey,
        maker: Option<&Principal>,
    ) -> Result<NewApiKey, ApiKeyError> {
        let create = CreateCommit {
            record: new.record.clone(),
            actor: maker.map_or(Actor::Operator, Principal::actor),
        };
        let reads = maker_reads(maker, &new.record).api_key(new.record.id.clone());
        let decide = move |state: &Snapshot| create.decide(state);
        let (made, _) = self.store.commit(reads, decide).await?;
        made.map(|()| new)
    }
}

/// What the commit of a new key looks at, besides the key itself. `maker` is none where the operator makes it.
fn maker_reads(maker: Option<&Principal>, new: &ApiKey) -> Reads {
    let reads = Reads::default().api_keys(new.made_with.clone());
    match maker {
        Some(maker) => reads.client(maker.realm_name().clone(), maker.client().clone()),
        None => reads,
    }
}

/// The times of the last rolls with the one at `now`.
fn rolled_again(rolls: &[Timestamp], now: Timestamp) -> Result<Vec<Timestamp>, ApiKeyError> {
    let hour_ago = now.minus(Seconds::HOUR);
    let mut lately: Vec<_> = rolls.iter().copied().filter(|at| *at > hour_ago).collect();
    if lately.len() >= ROLLS_MAX {
        let first = lately.first().copied().unwrap_or(now);
        let wait = first.plus(Seconds::HOUR).as_seconds() - now.as_seconds();
        let wait = Seconds(u32::try_from(wait).unwrap_or(1).max(1));
        return Err(ApiKeyError::RolledTooOften { wait });
    }
    lately.push(now);
    Ok(lately)
}

fn record_of(secret: &ApiKeySecret, realm: RealmName, client: ClientName, now: Timestamp) -> ApiKey {
    ApiKey {
        id: secret.id().clone(),
        realm,
        client,
        secret_hash: secret.hash(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
        successor: None,
        made_with: None,
        rolls: Vec::new(),
    }
}
