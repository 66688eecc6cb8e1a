//! Revoke: ending a token, a session, or everything of a subject, client, API key, label, key or realm.
//!
//! Ending many at once is one event: "everything whose `rev` is below this sequence". The sessions themselves are not
//! rewritten, so it costs the same for one session and for a million. Once Revoke has answered, no refresh succeeds:
//! refreshes check within the same serialized commits.

mod api_key;
mod commit;
pub(crate) mod operation;
pub(crate) mod request;
mod signing_key;

use tessera_core::{LEEWAY_MAX, SessionId};
use tessera_store::{Reads, Snapshot};
use tessera_token::{RefreshToken, refresh};

use self::{
    commit::{EndMany, end_session, end_token},
    operation::{RevokeOperation, Revoked},
    request::{RevokeRequest, RevokeTarget},
};
use crate::{
    principal::Principal,
    session::{error::RevokeError, sessions::Sessions},
};

impl Sessions {
    /// Ends what the request names. Idempotent; an unknown target matches nothing.
    ///
    /// # Errors
    /// [`RevokeError::NotAllowed`] if the target does not belong to the caller and policy does not permit it.
    pub async fn revoke(
        &self,
        principal: &Principal,
        request: &RevokeRequest,
    ) -> Result<Revoked, RevokeError> {
        self.revoke_in_turn(principal, request, ()).await
    }

    /// The same for a caller that waited for its turn to count sessions. `turn` is dropped once the sessions of a
    /// subject, client, label or realm are counted: the next caller need not wait until the revocation is durable.
    ///
    /// # Errors
    /// See [`revoke`](Self::revoke).
    pub async fn revoke_in_turn(
        &self,
        principal: &Principal,
        request: &RevokeRequest,
        turn: impl Send,
    ) -> Result<Revoked, RevokeError> {
        let operation = RevokeOperation {
            sessions: self,
            principal,
            request,
            now: self.shared.clock.now(),
        };
        match &request.target {
            RevokeTarget::Token(token) if token.expose().starts_with(refresh::PREFIX) => {
                match RefreshToken::open(token.expose(), &self.shared.server_keys.load()) {
                    Some(token) => operation.session(token.session).await,
                    None => Ok(operation.nothing()),
                }
            }
            RevokeTarget::Token(token) => operation.access_token(token.expose()).await,
            RevokeTarget::Session(session) => operation.session(*session).await,
            RevokeTarget::ApiKey(id) => operation.api_key(id).await,
            RevokeTarget::SigningKey(id) => operation.signing_key(id).await,
            RevokeTarget::Subject(_)
            | RevokeTarget::Client(_)
            | RevokeTarget::Label(_)
            | RevokeTarget::Realm => operation.many(turn).await,
        }
    }
}

impl RevokeOperation<'_> {
    async fn access_token(&self, token: &str) -> Result<Revoked, RevokeError> {
        let verified = {
            let keys = self.sessions.signing_keys.in_use();
            self.sessions.verified.verify(token, keys.keyring())
        };
        let Ok(verified) = verified else {
            return Ok(self.nothing());
        };
        let claims = verified.claims();
        // Verifiers may accept it for the leeway after its end.
        let is_over = self.sessions.shared.clock.settled() >= claims.expires_at.plus(LEEWAY_MAX);
        if claims.realm != *self.principal.realm_name() || is_over {
            return Ok(self.nothing());
        }
        self.require_unless_own(&claims.client)?;
        let is_revoked = {
            let revocations = self.sessions.shared.store.log().revocations().read();
            revocations.revokes_token(claims, verified.key_id())
        };
        if is_revoked {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let changes = end_token(claims, &self.cause());
        let placed = self.sessions.shared.store.write(changes).await?;
        self.sessions.verified.forget(token);
        Ok(self.done(1, &placed))
    }

    async fn session(&self, id: SessionId) -> Result<Revoked, RevokeError> {
        let stored = self.sessions.shared.store.session(id).await?;
        let Some(session) = stored
            .map(|stored| stored.session)
            .filter(|session| session.realm == *self.principal.realm_name())
        else {
            return Ok(self.nothing());
        };
        self.require_unless_own(&session.client)?;
        if !self.is_live(&session) {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let cause = self.cause();
        let end = move |state: &Snapshot| end_session(id, &cause, state);
        let reads = Reads::default().session(id);
        let ((), placed) = self.sessions.shared.store.commit(reads, end).await?;
        if placed.last().is_none() {
            return Ok(self.nothing());
        }
        Ok(self.done(1, &placed))
    }

    /// One event for all sessions that an index lists.
    async fn many(&self, turn: impl Send) -> Result<Revoked, RevokeError> {
        let (realm, caller) = (self.principal.realm_name(), self.principal.client());
        let Some(end) = EndMany::of(realm, caller, self.request) else {
            return Ok(self.nothing());
        };
        for permission in &end.needs {
            self.sessions.shared.require(self.principal, permission)?;
        }
        let matched = self.matched(&end.index).await?;
        drop(turn);
        if self.request.validate_only {
            return Ok(Revoked::of(matched.live, None));
        }
        let disabled = end.disabled;
        // Before the commit: a caller that leaves must not leave the keys of a disabled client working.
        let clients = &self.sessions.credentials.disabled;
        let is_new = disabled.is_some_and(|client| clients.insert(realm.clone(), client.clone()));
        let changes = end.changes(&matched, &self.cause());
        let placed = self.sessions.shared.store.write(changes).await;
        if let (Err(_), true, Some(client)) = (&placed, is_new, disabled) {
            clients.remove(realm, client);
        }
        Ok(self.done(matched.live, &placed?))
    }
}
