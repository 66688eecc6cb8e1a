//! Authentication of the caller: an API key becomes a [`Principal`].

use std::{net::IpAddr, sync::Arc};

use tessera_core::Session;
use tessera_store::StoreError;
use tessera_token::ApiKeySecret;

use crate::{
    credential::{credentials::Credentials, error::AuthenticateError},
    principal::{Identity, Principal},
};

impl Credentials {
    /// Whether the API key that authenticated a client still works.
    pub(crate) async fn still_works(&self, principal: &Principal) -> Result<(), AuthenticateError> {
        let record = self.shared.store.api_key(principal.api_key()).await?;
        self.shared.followed().await?;
        let works = record.is_some_and(|record| record.works(self.shared.clock.now()));
        let is_disabled = self.disabled.has(principal.realm_name(), principal.client());
        (works && !is_disabled)
            .then_some(())
            .ok_or(AuthenticateError::Refused)
    }

    /// Authenticates a client by its API key, which it presents from the address `from`.
    ///
    /// # Errors
    /// [`AuthenticateError::Refused`] for any reason: a caller without a valid credential learns nothing. A caller with
    /// a valid one that may not be used from this address, or whose realm is of another kind now, is told so.
    pub async fn authenticate(&self, credential: &str, from: IpAddr) -> Result<Principal, AuthenticateError> {
        let credential = ApiKeySecret::parse(credential).map_err(|_| AuthenticateError::Refused)?;
        let record = self
            .shared
            .store
            .api_key(credential.id())
            .await?
            .ok_or(AuthenticateError::Refused)?;
        self.shared.followed().await?;
        let realm = self
            .shared
            .realms
            .get(&record.realm)
            .ok_or(AuthenticateError::Refused)?;
        let is_accepted = record.secret_hash == credential.hash()
            && record.works(self.shared.clock.now())
            && !self.disabled.has(&record.realm, &record.client);
        if !is_accepted {
            self.refusals.credential_refused(&record, Some(from));
            return Err(AuthenticateError::Refused);
        }
        if !record.allows_from(from) {
            self.refusals.credential_refused(&record, Some(from));
            return Err(AuthenticateError::AddressNotAllowed {
                api_key: record.id,
                client: record.client.clone(),
                address: from,
            });
        }
        if realm.kind != credential.kind() {
            self.refusals.credential_refused(&record, Some(from));
            return Err(AuthenticateError::RealmKindChanged {
                realm: record.realm.clone(),
                made_for: credential.kind(),
                kind: realm.kind,
            });
        }
        self.used_api_keys.note(&record, self.shared.clock.now());
        let identity = Identity::new(Arc::clone(realm), record.client.clone(), record.id, Some(from));
        Ok(Principal::new(identity, credential))
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
