//! Revoke: ending a token, a session, or everything of a subject, client, API key, label, key or realm.
//!
//! Ending many at once is one event: "everything whose `rev` is below this sequence". The sessions themselves are not
//! rewritten, so it costs the same for one session and for a million. Once Revoke has answered, no refresh succeeds:
//! refreshes check within the same serialized commits.

pub(crate) mod commit;
pub(crate) mod request;

use tessera_core::{ApiKeyId, ClientName, Cursor, LEEWAY_MAX, Session, SessionId, Timestamp};
use tessera_policy::Permission;
use tessera_store::{PageRequest, Placed, Reads, SessionIndex, Snapshot};
use tessera_token::{RefreshToken, refresh};

use self::{
    commit::{Cause, EndMany, end_session, end_token},
    request::{RevokeRequest, RevokeTarget},
};
use crate::{
    Authority,
    error::CallNotAllowed,
    principal::Principal,
    session::{cutoff::Matched, error::RevokeError},
};

/// How many sessions are read, or ended, in one step.
pub(crate) const STEP: usize = 500;

/// The result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Sessions (or the one access token) that ended, or would end: those that could be refreshed, and those of which a
    /// verifier might still accept an access token.
    pub matched: u64,
    /// The position of the event; if nothing new was written, the position of the log now. `None` if the call only
    /// counted.
    pub cursor: Option<Cursor>,
    /// Whether anything was written: `false` if every target had ended before, or is unknown.
    pub is_change: bool,
    /// API keys that ended, or would end: the named one, and its descendants.
    pub api_keys: Vec<ApiKeyId>,
    /// API keys that were made with those, and keep working.
    pub made_keys: Vec<ApiKeyId>,
}

impl Revoked {
    pub(crate) fn of(matched: u64, cursor: Option<Cursor>) -> Self {
        Self {
            matched,
            cursor,
            is_change: false,
            api_keys: Vec::new(),
            made_keys: Vec::new(),
        }
    }
}

impl Authority {
    /// Ends what the request names. Idempotent; an unknown target matches nothing.
    ///
    /// # Errors
    /// [`RevokeError::NotAllowed`] if the target does not belong to the caller and policy does not permit it.
    pub async fn revoke(
        &self,
        principal: &Principal,
        request: &RevokeRequest,
    ) -> Result<Revoked, RevokeError> {
        let operation = RevokeOperation {
            authority: self,
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
            | RevokeTarget::Realm => operation.many().await,
        }
    }
}

/// One call of Revoke.
pub(crate) struct RevokeOperation<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) principal: &'a Principal,
    pub(crate) request: &'a RevokeRequest,
    pub(crate) now: Timestamp,
}

impl RevokeOperation<'_> {
    async fn access_token(&self, token: &str) -> Result<Revoked, RevokeError> {
        let verified = {
            let keys = self.authority.signing_keys.in_use();
            self.authority.verified.verify(token, keys.keyring())
        };
        let Ok(verified) = verified else {
            return Ok(self.nothing());
        };
        let claims = verified.claims();
        // Verifiers may accept it for the leeway after its end.
        let is_over = self.authority.shared.clock.settled() >= claims.expires_at.plus(LEEWAY_MAX);
        if claims.realm != *self.principal.realm_name() || is_over {
            return Ok(self.nothing());
        }
        self.require_unless_own(&claims.client)?;
        let is_revoked = {
            let revocations = self.authority.shared.store.log().revocations().read();
            revocations.revokes_token(claims, verified.key_id())
        };
        if is_revoked {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let changes = end_token(claims, &self.cause());
        let placed = self.authority.shared.store.write(changes).await?;
        self.authority.verified.forget(token);
        Ok(self.done(1, &placed))
    }

    async fn session(&self, id: SessionId) -> Result<Revoked, RevokeError> {
        let stored = self.authority.shared.store.session(id).await?;
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
        let ((), placed) = self.authority.shared.store.commit(reads, end).await?;
        if placed.last().is_none() {
            return Ok(self.nothing());
        }
        Ok(self.done(1, &placed))
    }

    /// One event for all sessions that an index lists.
    async fn many(&self) -> Result<Revoked, RevokeError> {
        let (realm, caller) = (self.principal.realm_name(), self.principal.client());
        let Some(end) = EndMany::of(realm, caller, self.request) else {
            return Ok(self.nothing());
        };
        for permission in &end.needs {
            self.authority.shared.require(self.principal, permission)?;
        }
        let matched = self.matched(end.index.clone()).await?;
        if self.request.validate_only {
            return Ok(Revoked::of(matched.live, None));
        }
        let disabled = end.disabled.clone();
        // Before the commit: a caller that leaves must not leave the keys of a disabled client working.
        let is_new = disabled
            .as_ref()
            .is_some_and(|client| self.authority.credentials.disabled.insert(realm, client));
        let changes = end.changes(&matched, &self.cause());
        let placed = self.authority.shared.store.write(changes).await;
        if let (Err(_), true, Some(client)) = (&placed, is_new, &disabled) {
            self.authority.credentials.disabled.remove(realm, client);
        }
        Ok(self.done(matched.live, &placed?))
    }

    pub(crate) async fn matched(&self, index: SessionIndex) -> Result<Matched, RevokeError> {
        let mut matched = Matched::starting_now(&self.principal.realm().limits, self.now);
        let mut after = None;
        loop {
            let page = self
                .authority
                .shared
                .store
                .sessions(index.clone(), PageRequest { after, limit: STEP })
                .await?;
            for stored in page.items {
                matched.cover(&stored.session, self.now);
                matched.live += u64::from(self.is_live(&stored.session));
            }
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
            // Other tasks run between the pages.
            tokio::task::yield_now().await;
        }
    }

    /// Whether revoking it ends anything: a refresh, or an access token that a verifier may still accept. A session
    /// whose API key was revoked counts until it is revoked itself: verifiers receive events of sessions, not of keys.
    pub(crate) fn is_live(&self, session: &Session) -> bool {
        session.is_live(self.authority.shared.clock.settled())
            && self
                .authority
                .shared
                .store
                .log()
                .ended_with_others(session)
                .is_none()
    }

    fn require_unless_own(&self, owner: &ClientName) -> Result<(), CallNotAllowed> {
        if owner == self.principal.client() {
            return Ok(());
        }
        self.authority
            .shared
            .require(self.principal, &Permission::RevokeSessions)
    }

    /// Who revokes, when and why.
    pub(crate) fn cause(&self) -> Cause {
        Cause {
            realm: self.principal.realm_name().clone(),
            actor: self.principal.actor(),
            request_id: self.request.request_id,
            reason: self.request.reason.clone(),
            now: self.now,
        }
    }

    pub(crate) fn nothing(&self) -> Revoked {
        let cursor = (!self.request.validate_only).then(|| self.authority.shared.position());
        Revoked::of(0, cursor)
    }

    pub(crate) fn done(&self, matched: u64, placed: &Placed) -> Revoked {
        let cursor = match placed.last() {
            Some(last) => self.authority.shared.cursor_at(last),
            None => self.authority.shared.position(),
        };
        Revoked {
            is_change: true,
            ..Revoked::of(matched, Some(cursor))
        }
    }
}
