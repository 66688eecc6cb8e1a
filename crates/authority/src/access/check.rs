//! Access check: whether an access token permits what its bearer requests. Proxies call it: they stand before a service
//! and have no API key of their own, so any holder of a token may learn what the token permits.

use tessera_core::{AccessClaims, Audience, ClientName, Realm, RealmName, ScopeSet, Seconds, Subject};
use tessera_token::Expectation;

use crate::{
    access::{
        accepted::Access,
        error::{AccessError, TokenRejection},
    },
    error::Unavailable,
};

/// The conditions that a token must meet.
#[derive(Clone, Copy, Debug)]
pub struct RequiredAccess<'a> {
    /// The realm that it must belong to.
    pub realm: &'a Realm,
    /// The audience that it must have been issued for.
    pub audience: &'a Audience,
    /// Scopes that it must have, all of them; empty: it need only be valid.
    pub scopes: &'a ScopeSet,
}

/// The bearer of a token, and what the token permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessCheck {
    /// `sub`.
    pub subject: Subject,
    /// `client_id`.
    pub client: ClientName,
    /// All of its scopes that policy has left it.
    pub scopes: ScopeSet,
    /// The realm.
    pub realm: RealmName,
}

impl Access {
    /// Whether `token` is an access token that is valid now for the required access: signature, time, realm, audience,
    /// revocation, and its scopes under the policy in force.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn check_access(
        &self,
        token: &str,
        wanted: &RequiredAccess<'_>,
    ) -> Result<AccessCheck, AccessError> {
        // What another authority commits to the same store from now on is not known here.
        if *self.shared.draining.borrow() {
            return Err(Unavailable::Draining.into());
        }
        if !self.shared.store.health().takes_writes {
            return Err(Unavailable::Store(tessera_store::StoreError::Closed).into());
        }
        self.shared.current().await?;
        let expected = Expectation {
            audience: Some(wanted.audience),
            realm: Some(&wanted.realm.name),
            // This authority's clock wrote the times: it gives no leeway beyond the backdating of `nbf`, which is
            // needed if the clock was set back.
            leeway: Seconds(0),
        };
        let verified = self.accepted_now(token, &expected)?;
        let claims = verified.claims();
        let scopes = self.scopes_left(wanted.realm, claims);
        if scopes.is_empty() {
            return Err(TokenRejection::Emptied.into());
        }
        let missing = wanted.scopes.minus(&scopes);
        if !missing.is_empty() {
            return Err(AccessError::ScopesMissing { missing });
        }
        Ok(AccessCheck::of(claims, scopes))
    }

    /// Whether the signature of `token` was verified before, so that checking the token costs little.
    #[must_use]
    pub fn has_verified(&self, token: &str) -> bool {
        self.verified.has(token)
    }
}

impl AccessCheck {
    fn of(claims: &AccessClaims, scopes: ScopeSet) -> Self {
        Self {
            subject: claims.subject.clone(),
            client: claims.client.clone(),
            scopes,
            realm: claims.realm.clone(),
        }
    }
}
