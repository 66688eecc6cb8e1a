//! Authentication of the caller: an API key becomes a [`Principal`].

use std::{net::IpAddr, sync::Arc};

use tessera_core::{ApiKey, Realm, Session, Timestamp};
use tessera_store::StoreError;
use tessera_token::ApiKeySecret;

use crate::{
    credential::{credentials::Credentials, error::AuthenticateError},
    error::Unavailable,
    principal::{Identity, Principal},
};

impl Credentials {
    /// Whether the API key that authenticated a client still works.
    pub(crate) async fn still_works(&self, principal: &Principal) -> Result<(), AuthenticateError> {
        if self.has_ended(principal).await? {
            return Err(AuthenticateError::Refused);
        }
        Ok(())
    }

    /// Whether the API key that authenticated a client no longer works.
    pub(crate) async fn has_ended(&self, principal: &Principal) -> Result<bool, Unavailable> {
        let record = self.shared.store.api_key(principal.api_key()).await?;
        self.shared.followed().await?;
        let works = record.is_some_and(|record| record.works(self.shared.clock.now()));
        Ok(!works || self.disabled.has(principal.realm_name(), principal.client()))
    }

    /// Authenticates a client by its API key, which it presents from the address `from`.
    ///
    /// # Errors
    /// [`AuthenticateError::Refused`] for any reason: a caller without a valid credential learns nothing. A caller with
    /// a valid one that may not be used from this address, or whose realm is of another kind now, is told so.
    pub async fn authenticate(&self, credential: &str, from: IpAddr) -> Result<Principal, AuthenticateError> {
        self.look_up(parsed(credential)?, from).await
    }

    async fn look_up(&self, credential: ApiKeySecret, from: IpAddr) -> Result<Principal, AuthenticateError> {
        let record = self
            .shared
            .store
            .api_key(credential.id())
            .await?
            .ok_or(AuthenticateError::Refused)?;
        self.shared.followed().await?;
        let now = self.shared.clock.now();
        let realm = self
            .shared
            .realms
            .get(&record.realm)
            .ok_or(AuthenticateError::Refused)?;
        let identity = self
            .accept(&record, realm, &credential, from, now)
            .inspect_err(|_| self.refusals.credential_refused(&record, Some(from)))?;
        self.used_api_keys.note(&record, now);
        if self.shared.is_one_of_several() {
            self.recent.note(record, now);
        }
        Ok(Principal::new(identity, credential))
    }

    /// Authenticates a client as [`authenticate`](Self::authenticate) does, for Issue and Refresh only: they read the
    /// key again as they commit, and before they refuse anything. So a key that was accepted a moment ago need not be
    /// read from a database that several nodes share.
    ///
    /// # Errors
    /// The same.
    pub async fn recognize(&self, credential: &str, from: IpAddr) -> Result<Principal, AuthenticateError> {
        let credential = parsed(credential)?;
        let now = self.shared.clock.now();
        if let Some(record) = self.recent.get(credential.id(), now)
            && let Some(realm) = self.shared.realms.get(&record.realm)
            && let Ok(identity) = self.accept(&record, realm, &credential, from, now)
        {
            self.used_api_keys.note(&record, now);
            return Ok(Principal::new(identity, credential));
        }
        self.look_up(credential, from).await
    }

    /// The client of `record`, if the credential is its key, and may be used now and from this address.
    fn accept(
        &self,
        record: &ApiKey,
        realm: &Arc<Realm>,
        credential: &ApiKeySecret,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Identity, AuthenticateError> {
        let is_accepted = record.secret_hash == credential.hash()
            && record.works(now)
            && !self.disabled.has(&record.realm, &record.client);
        if !is_accepted {
            return Err(AuthenticateError::Refused);
        }
        if !record.allows_from(from) {
            return Err(AuthenticateError::AddressNotAllowed {
                api_key: record.id,
                client: record.client.clone(),
                address: from,
            });
        }
        if realm.kind != credential.kind() {
            return Err(AuthenticateError::RealmKindChanged {
                realm: record.realm.clone(),
                made_for: credential.kind(),
                kind: realm.kind,
            });
        }
        Ok(Identity::new(
            Arc::clone(realm),
            record.client.clone(),
            record.id,
            Some(from),
        ))
    }

    /// The identity that acts if a session's refresh token authenticates its bearer: the client that the session was
    /// issued to, for as long as the API key that it used works. `None` if the key does not work.
    pub(crate) async fn identity_of(&self, session: &Session) -> Result<Option<Identity>, StoreError> {
        let Some(api_key) = session.credential.api_key() else {
            return Ok(None);
        };
        let record = self.shared.store.api_key(api_key).await?;
        let works = record.is_some_and(|record| {
            record.works(self.shared.clock.now()) && !self.disabled.has(&record.realm, &record.client)
        });
        let realm = self.shared.realms.get(&session.realm).filter(|_| works);
        let identity = |realm| Identity::new(Arc::clone(realm), session.client.clone(), *api_key, None);
        Ok(realm.map(identity))
    }
}

fn parsed(credential: &str) -> Result<ApiKeySecret, AuthenticateError> {
    ApiKeySecret::parse(credential).map_err(|_| AuthenticateError::Refused)
}
