//! Revoke: ending a token, a session, or everything of a subject, client, API key, label, key or realm.
//!
//! What ends many at once is one event: "everything whose `rev` is below this sequence". The sessions
//! themselves are not rewritten, so it costs the same for one session and for a million. Once Revoke has
//! answered, no refresh succeeds: refreshes ask within the same serialized commits.

use std::fmt;

use tessera_core::{
    AccessClaims, ApiKeyId, AuditAction, AuditRecord, ClientName, Cursor, EventBody, EventTarget, KeyId,
    LEEWAY_MAX, Label, RealmLimits, RequestId, RevokeReason, Sequence, Session, SessionId, Subject,
    Timestamp, session::SessionState,
};
use tessera_policy::Permission;
use tessera_store::{NewEvent, PageRequest, SessionIndex, StoreExt, Transaction};
use tessera_token::{RefreshToken, refresh};

mod api_key;
mod signing_key;

pub(crate) use signing_key::publish_key;

use crate::{
    Authority, PresentedToken, Principal,
    error::{CallNotAllowed, RevokeError},
    refresh::session_revoked,
};

/// How many sessions are read, or ended, in one step.
const STEP: usize = 500;

/// What ends, and why.
#[derive(Clone, Debug)]
pub struct RevokeRequest {
    /// For the audit record.
    pub request_id: Option<RequestId>,
    /// For the audit record and the subscribers.
    pub reason: String,
    /// Only count.
    pub validate_only: bool,
    /// What ends.
    pub target: RevokeTarget,
    /// Besides the client's sessions: none of its API keys works until it is enabled again. Only with
    /// [`RevokeTarget::Client`].
    pub disables_client: bool,
    /// Besides an API key and its successors: the keys that were made with them. Only with
    /// [`RevokeTarget::ApiKey`].
    pub with_made_keys: bool,
}

/// What ends.
#[derive(Clone, Debug)]
pub enum RevokeTarget {
    /// An access token, or the session of a refresh token.
    Token(PresentedToken),
    /// A session.
    Session(SessionId),
    /// Everything of a subject.
    Subject(Subject),
    /// Everything issued to a client.
    Client(ClientName),
    /// An API key, and the sessions that it began.
    ApiKey(ApiKeyId),
    /// Everything that carries a label.
    Label(Label),
    /// Everything that a signing key signed.
    SigningKey(KeyId),
    /// Everything of the realm.
    Realm,
}

impl RevokeTarget {
    /// Whether it is one token or session; what ends many has to be counted.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Session(_))
    }
}

impl fmt::Display for RevokeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Whatever it is, it is a secret.
            Self::Token(_) => f.write_str("a token"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Subject(subject) => write!(f, "subject {subject}"),
            Self::Client(client) => write!(f, "client {client}"),
            Self::ApiKey(id) => write!(f, "API key {id}"),
            Self::Label(label) => write!(f, "label {label}"),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
            Self::Realm => f.write_str("the realm"),
        }
    }
}

/// What a revocation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Sessions (or the one access token) that ended, or would end: those that could be refreshed, and
    /// those of which a verifier might still accept an access token.
    pub matched: u64,
    /// The place of the event; where nothing new was written, the place of the log now. None where the
    /// call only counted.
    pub cursor: Option<Cursor>,
    /// API keys that ended, or would end: the one that was named, and what came of it.
    pub api_keys: Vec<ApiKeyId>,
    /// API keys that were made with those, and go on working.
    pub made_keys: Vec<ApiKeyId>,
}

impl Revoked {
    fn of(matched: u64, cursor: Option<Cursor>) -> Self {
        Self {
            matched,
            cursor,
            api_keys: Vec::new(),
            made_keys: Vec::new(),
        }
    }
}

impl Authority {
    /// Ends what the request names. Idempotent; an unknown target matches nothing.
    ///
    /// # Errors
    /// [`RevokeError::NotAllowed`] where the target is not the caller's own and policy does not permit.
    pub async fn revoke(
        &self,
        principal: &Principal,
        request: &RevokeRequest,
    ) -> Result<Revoked, RevokeError> {
        let operation = RevokeOperation {
            authority: self,
            principal,
            request,
            now: self.clock.now(),
        };
        match &request.target {
            RevokeTarget::Token(token) if token.expose().starts_with(refresh::PREFIX) => {
                match RefreshToken::open(token.expose(), &self.server_keys) {
                    Some(token) => operation.session(token.session).await,
                    None => Ok(operation.nothing()),
                }
            }
            RevokeTarget::Token(token) => operation.access_token(token.expose()).await,
            RevokeTarget::Session(session) => operation.session(*session).await,
            RevokeTarget::ApiKey(id) => operation.api_key(id).await,
            RevokeTarget::SigningKey(id) => operation.signing_key(id).await,
            RevokeTarget::Subject(subject) => {
                if *subject != principal.client().to_subject() {
                    self.require(principal, &Permission::RevokeSessions)?;
                }
                let index = SessionIndex::Subject(principal.realm_name().clone(), subject.clone());
                operation
                    .everything(
                        index,
                        EventBody::SubjectRevoked {
                            subject: subject.clone(),
                        },
                    )
                    .await
            }
            RevokeTarget::Client(client) => {
                operation.require_unless_own(client)?;
                if request.disables_client {
                    self.require_revoke(principal, client)?;
                }
                let index = SessionIndex::Client(principal.realm_name().clone(), client.clone());
                operation
                    .everything(
                        index,
                        EventBody::ClientRevoked {
                            client: client.clone(),
                        },
                    )
                    .await
            }
            RevokeTarget::Label(label) => {
                self.require(principal, &Permission::RevokeSessions)?;
                let index = SessionIndex::Label(principal.realm_name().clone(), label.clone());
                operation
                    .everything(index, EventBody::LabelRevoked { label: label.clone() })
                    .await
            }
            RevokeTarget::Realm => {
                self.require(principal, &Permission::RevokeRealm)?;
                operation
                    .everything(
                        SessionIndex::Realm(principal.realm_name().clone()),
                        EventBody::RealmRevoked,
                    )
                    .await
            }
        }
    }
}

/// One call of Revoke.
struct RevokeOperation<'a> {
    authority: &'a Authority,
    principal: &'a Principal,
    request: &'a RevokeRequest,
    now: Timestamp,
}

impl RevokeOperation<'_> {
    async fn access_token(&self, token: &str) -> Result<Revoked, RevokeError> {
        let verified = {
            let keys = self.authority.keys.load();
            self.authority.verified.verify(token, keys.keyring())
        };
        let Ok(verified) = verified else {
            return Ok(self.nothing());
        };
        let claims = verified.claims();
        // Verifiers may accept it for the leeway after its end.
        let is_over = self.authority.clock.settled() >= claims.expires_at.plus(LEEWAY_MAX);
        if claims.realm != *self.principal.realm_name() || is_over {
            return Ok(self.nothing());
        }
        self.require_unless_own(&claims.client)?;
        let is_revoked = {
            let revocations = self.authority.store.revocations();
            let revocations = revocations
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            revocations.revokes_token(claims, verified.key_id())
        };
        if is_revoked {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let event = self.token_event(claims);
        let audit = self.audit(EventTarget::Token(claims.token_id), 1);
        let sequence = self.authority.store.transact(move |tx| {
            tx.audit(&audit)?;
            tx.append(event.clone())
        });
        let sequence = sequence.await?;
        self.authority.verified.forget(token);
        Ok(self.done(1, sequence))
    }

    async fn session(&self, id: SessionId) -> Result<Revoked, RevokeError> {
        let session = self.authority.store.session(id).await?;
        let Some(session) = session.filter(|session| session.realm == *self.principal.realm_name()) else {
            return Ok(self.nothing());
        };
        self.require_unless_own(&session.client)?;
        if !self.is_live(&session) {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let (note, now) = (self.request.reason.clone(), self.now);
        let audit = self.audit(EventTarget::Session(id), 1);
        let sequence = self.authority.store.transact(move |tx| {
            let sequence = end_session(tx, id, RevokeReason::Requested, &note, now)?;
            if sequence.is_some() {
                tx.audit(&audit)?;
            }
            Ok(sequence)
        });
        // None: somebody else ended it meanwhile.
        Ok(sequence
            .await?
            .map_or_else(|| self.nothing(), |sequence| self.done(1, sequence)))
    }

    /// One event for all that an index lists.
    async fn everything(&self, index: SessionIndex, body: EventBody) -> Result<Revoked, RevokeError> {
        let matched = self.matched(index).await?;
        if self.request.validate_only {
            return Ok(Revoked::of(matched.live, None));
        }
        let target = body.target().unwrap_or(EventTarget::Realm);
        // Access tokens without a session row can't exist, but a row may be gone before its last token is:
        // the event is written although nothing matched.
        let event = NewEvent {
            occurred_at: self.now,
            tokens_until: matched.tokens_until,
            sessions_until: matched.sessions_until,
            realm: self.principal.realm_name().clone(),
            note: self.request.reason.clone(),
            body,
        };
        let audit = self.audit(target, matched.live);
        let disabled = self.disabled_client();
        let sequence = self.authority.store.transact({
            let disabled = disabled.clone();
            move |tx| {
                if let Some((client, audit)) = &disabled {
                    tx.put_disabled(&audit.realm, client, true)?;
                    tx.audit(audit)?;
                }
                tx.audit(&audit)?;
                tx.append(event.clone())
            }
        });
        let sequence = sequence.await?;
        if let Some((client, _)) = &disabled {
            self.authority
                .disabled
                .insert(self.principal.realm_name(), client);
        }
        Ok(self.done(matched.live, sequence))
    }

    /// The client that the call disables, and the record of it.
    fn disabled_client(&self) -> Option<(ClientName, AuditRecord)> {
        let RevokeTarget::Client(client) = &self.request.target else {
            return None;
        };
        let action = AuditAction::ClientDisabled {
            client: client.clone(),
            is_enabled: false,
        };
        let audit = AuditRecord {
            action,
            ..self.audit(EventTarget::Client(client.clone()), 0)
        };
        self.request.disables_client.then(|| (client.clone(), audit))
    }

    async fn matched(&self, index: SessionIndex) -> Result<Matched, RevokeError> {
        let mut matched = Matched::starting_now(&self.principal.realm().limits, self.now);
        let mut after = None;
        loop {
            let page = self
                .authority
                .store
                .sessions(index.clone(), PageRequest { after, limit: STEP })
                .await?;
            for session in page.items {
                matched.cover(&session, self.now);
                matched.live += u64::from(self.is_live(&session));
            }
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
            // Others have their turn between the pages.
            tokio::task::yield_now().await;
        }
    }

    /// Whether revoking it ends anything: a refresh, or an access token that a verifier may still accept.
    /// One whose API key was revoked counts until it was itself: verifiers hear of sessions, not of keys.
    fn is_live(&self, session: &Session) -> bool {
        session.is_live(self.authority.clock.settled())
            && self.authority.revoked_with_others(session).is_none()
    }

    fn require_unless_own(&self, owner: &ClientName) -> Result<(), CallNotAllowed> {
        if owner == self.principal.client() {
            return Ok(());
        }
        self.authority
            .require(self.principal, &Permission::RevokeSessions)
    }

    fn token_event(&self, claims: &AccessClaims) -> NewEvent {
        NewEvent {
            occurred_at: self.now,
            tokens_until: claims.expires_at,
            sessions_until: claims.expires_at,
            realm: claims.realm.clone(),
            note: self.request.reason.clone(),
            body: EventBody::TokenRevoked {
                token: claims.token_id,
                client: claims.client.clone(),
                audience: claims.audience.clone(),
            },
        }
    }

    fn audit(&self, target: EventTarget, matched: u64) -> AuditRecord {
        AuditRecord {
            at: self.now,
            realm: self.principal.realm_name().clone(),
            actor: self.principal.actor(),
            request: self.request.request_id,
            action: AuditAction::Revoked {
                target,
                matched,
                reason: self.request.reason.clone(),
            },
        }
    }

    fn nothing(&self) -> Revoked {
        let cursor = (!self.request.validate_only).then(|| self.authority.place());
        Revoked::of(0, cursor)
    }

    fn done(&self, matched: u64, sequence: Sequence) -> Revoked {
        Revoked::of(matched, Some(self.authority.cursor_at(sequence)))
    }
}

/// What a revocation matches, and how long it must be remembered.
pub(crate) struct Matched {
    /// As [`Revoked::matched`].
    pub(crate) live: u64,
    /// When the last access token that it can affect ends.
    pub(crate) tokens_until: Timestamp,
    /// When the last session that it ended would have ended anyway.
    pub(crate) sessions_until: Timestamp,
}

impl Matched {
    /// Covers the sessions that begin before the event is written.
    pub(crate) fn starting_now(limits: &RealmLimits, now: Timestamp) -> Self {
        Self {
            live: 0,
            tokens_until: now.plus(limits.access_ttl_max),
            sessions_until: now.plus(limits.session_ttl_max).plus(limits.access_ttl_max),
        }
    }

    /// Covers a session that began under limits that were higher then.
    pub(crate) fn cover(&mut self, session: &Session, now: Timestamp) {
        self.tokens_until = self.tokens_until.max(session.tokens_until(now));
        self.sessions_until = self.sessions_until.max(session.absolute_until);
    }
}

/// Ends a session and says so in the log; none where it has ended already or is not known.
fn end_session(
    tx: &mut dyn Transaction,
    id: SessionId,
    reason: RevokeReason,
    note: &str,
    now: Timestamp,
) -> Result<Option<Sequence>, tessera_store::StoreError> {
    let Some(session) = tx
        .session(id)?
        .filter(|session| session.state == SessionState::Active)
    else {
        return Ok(None);
    };
    let session: Session = session.revoked(reason, now);
    tx.put_session(&session)?;
    tx.append(session_revoked(&session, reason, note.to_owned(), now))
        .map(Some)
}
