//! Making and rolling API keys.

use std::sync::Arc;

use tessera_core::{
    AddressRange, ApiKey, ApiKeyId, AuditAction, ClientName, RealmName, Seconds, Timestamp, audit::Actor,
};
use tessera_policy::Permission;
use tessera_store::{Changes, ClientChange, Reads, Snapshot};
use tessera_token::ApiKeySecret;

use crate::{
    credential::{
        commit::{CreateCommit, RollCommit},
        credentials::Credentials,
        error::ApiKeyError,
        lifetime::{end_of_new, end_of_successor, is_longer},
        right::check_may_end,
    },
    error::CallNotAllowed,
    principal::Principal,
};

/// How long the old key works after a roll, unless the caller names a time.
const OVERLAP_DEFAULT: Seconds = Seconds::DAY;
const OVERLAP_MAX: Seconds = Seconds::days(30);
/// How often a key and its successors can be rolled within an hour.
pub const ROLLS_MAX: usize = 5;

/// The client of a new key, and how long the key works.
#[derive(Clone, Debug)]
pub struct CreateApiKey {
    /// The client that the key identifies.
    pub client: ClientName,
    /// Must be the caller's realm; `None`: the caller's realm.
    pub realm: Option<RealmName>,
    /// How long the key works, and from which addresses.
    pub terms: ApiKeyTerms,
}

/// How long a new key works, and from which addresses.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyTerms {
    /// How long; `None`: the realm's default, or, for a successor, as long as the key that it replaces would have
    /// worked.
    pub ttl: Option<Seconds>,
    /// From which addresses; empty: from any, or, for a successor, from those of the key that it replaces.
    pub allow_from: Vec<AddressRange>,
}

/// Which key to replace, and how long each of the two works.
#[derive(Clone, Debug)]
pub struct RollApiKey {
    /// The key.
    pub id: ApiKeyId,
    /// How long the old key keeps working; `None`: 24 hours.
    pub overlap: Option<Seconds>,
    /// How long its successor works, and from which addresses.
    pub terms: ApiKeyTerms,
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

impl Credentials {
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
            // A key administers its own realm: keys of another realm are made with a key of that realm.
            let refused = principal.not_allowed("an API key of that realm".to_owned());
            return Err(ApiKeyError::OtherRealm { refused });
        }
        let now = self.shared.clock.now();
        let new = self.new_api_key(principal, request.client, now)?;
        let new = NewApiKey {
            record: ApiKey {
                expires_at: end_of_new(&principal.realm().limits, request.terms.ttl, now)?,
                allow_from: request.terms.allow_from,
                ..new.record
            },
            ..new
        };
        self.store_new_api_key(new, Some(principal)).await
    }

    /// Makes a key for the operator of the authority, who needs no key to do so. It ends like a key that a client
    /// makes: the operator can always make another.
    ///
    /// # Errors
    /// Fails if the realm is not served, if it allows no key that works so long, or if the store can't be written.
    pub async fn create_operator_api_key(
        &self,
        realm: &RealmName,
        client: ClientName,
        terms: ApiKeyTerms,
    ) -> Result<NewApiKey, ApiKeyError> {
        let realm = self.shared.realms.get(realm).ok_or(ApiKeyError::NotFound)?;
        let secret = ApiKeySecret::generate(realm.kind)?;
        let now = self.shared.clock.now();
        let record = ApiKey {
            expires_at: end_of_new(&realm.limits, terms.ttl, now)?,
            allow_from: terms.allow_from,
            ..record_of(&secret, realm.name.clone(), client, now)
        };
        self.store_new_api_key(NewApiKey { secret, record }, None).await
    }

    /// Makes a successor, and lets the old key work for the overlap. The successor works no longer than the old key
    /// would have, and from no other address, unless the caller may create keys of the client and says so.
    ///
    /// # Errors
    /// See [`ApiKeyError`]; a key that was rolled, expired or revoked can't be rolled, and a key can be rolled
    /// [`ROLLS_MAX`] times an hour.
    pub async fn roll_api_key(
        &self,
        principal: &Principal,
        request: RollApiKey,
    ) -> Result<RolledApiKey, ApiKeyError> {
        let overlap = request.overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            return Err(ApiKeyError::Field {
                field: "overlap",
                problem: format!("must be at most {OVERLAP_MAX}"),
            });
        }
        let old = self.api_key_of_realm(principal, &request.id).await?;
        if old.id != *principal.api_key() {
            // The call makes a key, and it can end one at once.
            self.require_create(principal, &old.client)?;
            self.require_revoke(principal, &old.client)?;
        }
        let now = self.shared.clock.now();
        let new = self.successor_of(principal, old, request.terms, now)?;
        let roll = RollCommit {
            id: request.id,
            successor: new.record.clone(),
            overlap,
            actor: principal.actor(),
            now,
        };
        let reads = maker_reads(Some(principal), &new.record).api_key(request.id);
        let decide = move |state: &Snapshot| roll.decide(state);
        let (rolled, _) = self.shared.store.commit(reads, decide).await?;
        Ok(RolledApiKey {
            new,
            previous: rolled?,
        })
    }

    fn successor_of(
        &self,
        principal: &Principal,
        old: ApiKey,
        terms: ApiKeyTerms,
        now: Timestamp,
    ) -> Result<NewApiKey, ApiKeyError> {
        let limits = &principal.realm().limits;
        let expires_at = match terms.ttl {
            None => end_of_successor(limits, old.expires_at, now),
            ttl => end_of_new(limits, ttl, now)?,
        };
        let is_wider = !terms.allow_from.is_empty() && old.is_widened_by(&terms.allow_from);
        if is_longer(expires_at, old.expires_at) || is_wider {
            self.require_create(principal, &old.client)?;
        }
        let new = self.new_api_key(principal, old.client, now)?;
        let record = ApiKey {
            expires_at,
            allow_from: if terms.allow_from.is_empty() {
                old.allow_from
            } else {
                terms.allow_from
            },
            replaces: Some(old.id),
            rolls: rolled_again(&old.rolls, now)?,
            ..new.record
        };
        Ok(NewApiKey { record, ..new })
    }

    /// Refuses a client that may not make API keys of `client`.
    pub(crate) fn require_create(
        &self,
        principal: &Principal,
        client: &ClientName,
    ) -> Result<(), CallNotAllowed> {
        let is_own = client == principal.client();
        if is_own && self.shared.require(principal, &Permission::CreateApiKeys).is_ok() {
            return Ok(());
        }
        self.shared
            .require(principal, &Permission::CreateApiKeysOf(client.clone()))
    }

    /// Refuses a client that may not end API keys of `client`.
    pub(crate) fn require_revoke(
        &self,
        principal: &Principal,
        client: &ClientName,
    ) -> Result<(), CallNotAllowed> {
        check_may_end(&self.shared.policy.load(), principal, client)
    }

    /// Lets the keys of a disabled client work again.
    ///
    /// # Errors
    /// [`ApiKeyError::NotAllowed`] for clients that may not make keys of the client.
    pub async fn enable_client(&self, principal: &Principal, client: &ClientName) -> Result<(), ApiKeyError> {
        self.require_create(principal, client)?;
        let realm = principal.realm_name();
        let action = AuditAction::ClientDisabled {
            client: client.clone(),
            is_enabled: true,
        };
        let changes = Changes {
            clients: vec![ClientChange {
                realm: realm.clone(),
                client: client.clone(),
                is_disabled: false,
            }],
            audit: vec![principal.record(self.shared.clock.now(), action)],
            ..Changes::default()
        };
        self.shared.store.write(changes).await?;
        self.disabled.remove(realm, client);
        Ok(())
    }

    pub(crate) async fn api_key_of_realm(
        &self,
        principal: &Principal,
        id: &ApiKeyId,
    ) -> Result<ApiKey, ApiKeyError> {
        let key = self.shared.store.api_key(id).await?;
        key.filter(|key| key.realm == *principal.realm_name())
            .map(|key| self.used_api_keys.completed(Arc::unwrap_or_clone(key)))
            .ok_or(ApiKeyError::NotFound)
    }

    fn new_api_key(
        &self,
        principal: &Principal,
        client: ClientName,
        now: Timestamp,
    ) -> Result<NewApiKey, ApiKeyError> {
        let secret = ApiKeySecret::generate(principal.realm().kind)?;
        let (realm, maker) = principal.whose();
        let record = ApiKey {
            made_by: Some(maker),
            made_with: Some(*principal.api_key()),
            ..record_of(&secret, realm, client, now)
        };
        Ok(NewApiKey { secret, record })
    }

    /// `maker` is `None` if the operator makes it.
    async fn store_new_api_key(
        &self,
        new: NewApiKey,
        maker: Option<&Principal>,
    ) -> Result<NewApiKey, ApiKeyError> {
        let create = CreateCommit {
            record: new.record.clone(),
            actor: maker.map_or(Actor::Operator, Principal::actor),
        };
        let reads = maker_reads(maker, &new.record).api_key(new.record.id);
        let decide = move |state: &Snapshot| create.decide(state);
        let (made, _) = self.shared.store.commit(reads, decide).await?;
        made.map(|()| new)
    }
}

/// What the commit of a new key reads, besides the key itself. `maker` is `None` if the operator makes it.
fn maker_reads(maker: Option<&Principal>, new: &ApiKey) -> Reads {
    let reads = Reads::default().api_keys(new.made_with);
    match maker.map(Principal::whose) {
        Some((realm, client)) => reads.client(realm, client),
        None => reads,
    }
}

/// The times of the last rolls, including the one at `now`.
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
        id: *secret.id(),
        realm,
        client,
        secret_hash: secret.hash(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_on: None,
        allow_from: Vec::new(),
        successor: None,
        replaces: None,
        made_by: None,
        made_with: None,
        rolls: Vec::new(),
    }
}
