//! Making, showing and rolling API keys. Revoking one is in `revoke`.

use tessera_core::{
    ApiKey, ApiKeyId, AuditAction, AuditRecord, ClientName, RealmName, Seconds, Timestamp, audit::Actor,
};
use tessera_policy::Permission;
use tessera_store::{StoreError, StoreExt};
use tessera_token::ApiKeySecret;

use crate::{
    Authority, Listed, Principal,
    error::{ApiKeyError, CallNotAllowed, Unavailable},
    list::page_request,
};

/// The shortest life of a new API key.
const TTL_MIN: Seconds = Seconds::MINUTE;
/// How long the old key works after a roll unless the caller says.
const OVERLAP_DEFAULT: Seconds = Seconds::DAY;
const OVERLAP_MAX: Seconds = Seconds::days(30);

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
        self.require(principal, &Permission::CreateApiKeys)?;
        if request
            .realm
            .is_some_and(|realm| realm != *principal.realm_name())
        {
            // A key administers its own realm: another realm's keys are made with another key.
            return Err(CallNotAllowed {
                required: "an API key of that realm".to_owned(),
            }
            .into());
        }
        if request.ttl.is_some_and(|ttl| ttl < TTL_MIN) {
            return Err(ApiKeyError::Field {
                field: "ttl",
                problem: format!("must be at least {TTL_MIN}"),
            });
        }
        let new = self.new_api_key(principal, request.client, request.ttl)?;
        self.store_new_api_key(new, principal.actor()).await
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
        let record = record_of(&secret, realm.name.clone(), client, self.clock.now(), None);
        self.store_new_api_key(NewApiKey { secret, record }, Actor::Operator)
            .await
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

    /// Makes a successor, and lets the old key work for `overlap` (none: 24 hours).
    ///
    /// # Errors
    /// See [`ApiKeyError`]; a key that was rolled, expired or revoked can't be rolled.
    pub async fn roll_api_key(
        &self,
        principal: &Principal,
        id: &ApiKeyId,
        overlap: Option<Seconds>,
    ) -> Result<RolledApiKey, ApiKeyError> {
        if id != principal.api_key() {
            self.require(principal, &Permission::CreateApiKeys)?;
        }
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            return Err(ApiKeyError::Field {
                field: "overlap",
                problem: format!("must be at most {OVERLAP_MAX}"),
            });
        }
        let old = self.api_key_of_realm(principal, id).await?;
        let new = self.new_api_key(principal, old.client, None)?;
        let now = self.clock.now();
        let (successor, id) = (new.record.clone(), id.clone());
        let audit = AuditRecord {
            at: now,
            realm: successor.realm.clone(),
            actor: principal.actor(),
            request: None,
            action: AuditAction::ApiKeyRolled {
                api_key: id.clone(),
                successor: successor.id.clone(),
            },
        };
        let rolled = self.store.transact(move |tx| {
            let Some(mut old) = tx
                .api_key(&id)?
                .filter(|key| key.works(now) && key.successor.is_none())
            else {
                return Ok(None);
            };
            old.successor = Some(successor.id.clone());
            old.expires_at = Some(old.expires_at.unwrap_or(Timestamp::MAX).min(now.plus(overlap)));
            tx.put_api_key(&old)?;
            tx.put_api_key(&successor)?;
            tx.audit(&audit)?;
            Ok(Some(old))
        });
        let previous = rolled.await?.ok_or(ApiKeyError::Field {
            field: "id",
            problem: "names a key that was rolled, has expired or was revoked".to_owned(),
        })?;
        Ok(RolledApiKey { new, previous })
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
        ttl: Option<Seconds>,
    ) -> Result<NewApiKey, ApiKeyError> {
        let secret = ApiKeySecret::generate(principal.realm().kind)?;
        let now = self.clock.now();
        let record = record_of(
            &secret,
            principal.realm_name().clone(),
            client,
            now,
            ttl.map(|ttl| now.plus(ttl)),
        );
        Ok(NewApiKey { secret, record })
    }

    async fn store_new_api_key(&self, new: NewApiKey, actor: Actor) -> Result<NewApiKey, ApiKeyError> {
        let record = new.record.clone();
        let audit = AuditRecord {
            at: record.created_at,
            realm: record.realm.clone(),
            actor,
            request: None,
            action: AuditAction::ApiKeyCreated {
                api_key: record.id.clone(),
                client: record.client.clone(),
            },
        };
        let stored = self.store.transact(move |tx| {
            if tx.api_key(&record.id)?.is_some() {
                // Eighty random bits met before: not a thing to go on from.
                return Err(StoreError::Failed {
                    detail: "a new API key has the id of another".to_owned(),
                });
            }
            tx.put_api_key(&record)?;
            tx.audit(&audit)
        });
        stored.await.map_err(Unavailable::from)?;
        Ok(new)
    }
}

fn record_of(
    secret: &ApiKeySecret,
    realm: RealmName,
    client: ClientName,
    now: Timestamp,
    expires_at: Option<Timestamp>,
) -> ApiKey {
    ApiKey {
        id: secret.id().clone(),
        realm,
        client,
        secret_hash: secret.hash(),
        created_at: now,
        expires_at,
        revoked_at: None,
        successor: None,
    }
}
