//! Introspect: what a token says, and whether it is valid now (RFC 7662).

use std::{sync::Arc, time::Duration};

use tessera_core::{
    AccessClaims, Audience, ClientName, Cursor, Label, PolicyRevision, Presented, RealmName, RoleName,
    ScopeSet, Seconds, SessionId, Subject, Timestamp, TokenId, Verdict,
};
use tessera_policy::Permission;
use tessera_token::{Expectation, RefreshToken, refresh};

use crate::{
    access::{accepted::Access, error::IntrospectError},
    error::Unavailable,
    issuance::scopes::Bearer,
    principal::Principal,
};

/// How long a caller waits for a position of the log at most.
const FRESHNESS_WAIT_MAX: Duration = Duration::from_secs(5);

/// What an active token says. An inactive one says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Which kind of token.
    pub kind: TokenKind,
    /// `scope`.
    pub scopes: ScopeSet,
    /// `client_id`.
    pub client: ClientName,
    /// `sub`.
    pub subject: Subject,
    /// `aud`.
    pub audience: Audience,
    /// `iss`.
    pub issuer: String,
    /// `jti`, of an access token.
    pub token_id: Option<TokenId>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`.
    pub not_before: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// The realm.
    pub realm: RealmName,
    /// The session.
    pub session: SessionId,
    /// The generation that the token belongs to.
    pub generation: u64,
    /// Roles that were asserted.
    pub roles: Vec<RoleName>,
    /// The session's labels.
    pub labels: Vec<Label>,
    /// The policy that granted the scopes.
    pub policy: PolicyRevision,
    /// The position of the log up to which this is true.
    pub as_of: Cursor,
}

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
}

impl Access {
    /// The content of `token` if it is valid now and the caller may see it; otherwise `None`, for any reason.
    ///
    /// # Errors
    /// Fails if the store can't be read; an inactive token is not a failure.
    pub async fn introspect(
        &self,
        principal: &Principal,
        token: &str,
    ) -> Result<Option<Introspection>, Unavailable> {
        self.shared.current().await?;
        // Read before the revocations are checked: the answer is then true up to this position at least.
        let as_of = self.shared.position();
        if token.starts_with(refresh::PREFIX) {
            return self.introspect_refresh(principal, token, as_of).await;
        }
        Ok(self.introspect_access(principal, token, as_of))
    }

    /// Waits until the log has committed the position of `cursor`.
    ///
    /// # Errors
    /// [`IntrospectError::CursorInvalid`] if it is not a cursor of this log, [`IntrospectError::NotFreshEnough`] if it
    /// is not reached within 5 s or `at_most`.
    pub async fn wait_for(&self, cursor: &str, at_most: Option<Duration>) -> Result<(), IntrospectError> {
        let cursor = self
            .shared
            .given_cursor(cursor)
            .ok_or(IntrospectError::CursorInvalid)?;
        let wait = at_most.map_or(FRESHNESS_WAIT_MAX, |at_most| at_most.min(FRESHNESS_WAIT_MAX));
        let mut committed = self.shared.store.log().subscribe();
        let reached = committed.wait_for(|committed| *committed >= cursor.sequence);
        match tokio::time::timeout(wait, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Unavailable::Store(tessera_store::StoreError::Closed).into()),
            Err(_) => Err(IntrospectError::NotFreshEnough),
        }
    }

    fn introspect_access(&self, principal: &Principal, token: &str, as_of: Cursor) -> Option<Introspection> {
        // This authority's clock wrote the times: it gives no leeway beyond the backdating of `nbf`, which is needed if
        // the clock was set back.
        let expected = Expectation {
            audience: None,
            realm: Some(principal.realm_name()),
            leeway: Seconds(0),
        };
        let verified = self.accepted_now(token, &expected).ok()?;
        let claims = verified.claims();
        if !self.may_introspect(principal, claims) {
            return None;
        }
        let scopes = self.scopes_left(principal.realm(), claims);
        // A token to which policy left no scope is inactive.
        (!scopes.is_empty()).then(|| access_introspection(claims, scopes, as_of))
    }

    fn may_introspect(&self, principal: &Principal, claims: &AccessClaims) -> bool {
        claims.client == *principal.client()
            || self.shared.require(principal, &Permission::Introspect).is_ok()
    }

    async fn introspect_refresh(
        &self,
        principal: &Principal,
        token: &str,
        as_of: Cursor,
    ) -> Result<Option<Introspection>, Unavailable> {
        let Some(token) = RefreshToken::open(token, &self.shared.server_keys.load()) else {
            return Ok(None);
        };
        let Some(stored) = self.shared.store.session(token.session).await? else {
            return Ok(None);
        };
        let session = stored.session;
        let limits = &principal.realm().limits;
        let presented = Presented {
            generation: token.generation,
            secret: token.secret.hash(),
            client: principal.client(),
        };
        let verdict = session.present(&presented, limits, self.shared.clock.now());
        let is_spendable = session.realm == *principal.realm_name() && verdict == Verdict::Rotate;
        if !is_spendable || stored.ended.is_some() {
            return Ok(None);
        }
        // What a refresh would grant.
        let scopes = Bearer::of_session(&session)
            .grant(&self.shared.policy.load(), &session.scopes)
            .granted;
        if scopes.is_empty() {
            return Ok(None);
        }
        let began = session
            .family
            .and_then(|family| family.previous)
            .map_or(session.created_at, |p| p.spent_at);
        let session = Arc::unwrap_or_clone(session);
        Ok(Some(Introspection {
            kind: TokenKind::Refresh,
            scopes,
            client: session.client,
            subject: session.subject,
            audience: session.audience,
            issuer: principal.realm().issuer.clone(),
            token_id: None,
            issued_at: began,
            not_before: began,
            expires_at: session.idle_until,
            realm: session.realm,
            session: session.id,
            generation: token.generation,
            roles: session.roles,
            labels: session.labels,
            policy: session.policy,
            as_of,
        }))
    }
}

fn access_introspection(claims: &AccessClaims, scopes: ScopeSet, as_of: Cursor) -> Introspection {
    Introspection {
        kind: TokenKind::Access,
        scopes,
        client: claims.client.clone(),
        subject: claims.subject.clone(),
        audience: claims.audience.clone(),
        issuer: claims.issuer.clone(),
        token_id: Some(claims.token_id),
        issued_at: claims.issued_at,
        not_before: claims.not_before,
        expires_at: claims.expires_at,
        realm: claims.realm.clone(),
        session: claims.session,
        generation: claims.generation,
        roles: claims.roles.clone(),
        labels: claims.labels.clone(),
        policy: claims.policy,
        as_of,
    }
}
