//! Revoke: ending a token, a family, or everything of a subject, client, API key, binding, key or realm.
//!
//! What ends many at once is one event: "everything whose `rev` is below this sequence". The families
//! themselves are not rewritten, so it costs the same for one session and for a million. Once Revoke has
//! answered, no refresh succeeds: refreshes ask within the same serialized commits.

use std::fmt;

use tessera_core::{
    AccessClaims, ApiKeyId, AuditAction, AuditRecord, Binding, ClientName, Cursor, EventBody, EventTarget,
    Family, FamilyId, KeyId, LEEWAY_MAX, RealmLimits, RequestId, RevokeReason, Sequence, Subject, Timestamp,
    family::FamilyState,
};
use tessera_policy::Permission;
use tessera_store::{FamilyIndex, NewEvent, PageRequest, StoreExt, Transaction};
use tessera_token::{RefreshToken, refresh};

mod api_key;
mod signing_key;

pub(crate) use signing_key::publish_key;

use crate::{
    Authority, PresentedToken, Principal,
    error::{CallNotAllowed, RevokeError},
    refresh::session_revoked,
};

/// How many families are read, or ended, in one step.
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
    /// An access token, or the family of a refresh token.
    Token(PresentedToken),
    /// A family.
    Family(FamilyId),
    /// Everything of a subject.
    Subject(Subject),
    /// Everything issued to a client.
    Client(ClientName),
    /// An API key, and the families that it began.
    ApiKey(ApiKeyId),
    /// Everything that carries a binding.
    Binding(Binding),
    /// Everything that a signing key signed.
    SigningKey(KeyId),
    /// Everything of the realm.
    Realm,
}

impl RevokeTarget {
    /// Whether it is one token or session; what ends many has to be counted.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Family(_))
    }
}

impl fmt::Display for RevokeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Whatever it is, it is a secret.
            Self::Token(_) => f.write_str("a token"),
            Self::Family(id) => write!(f, "session {id}"),
            Self::Subject(subject) => write!(f, "subject {subject}"),
            Self::Client(client) => write!(f, "client {client}"),
            Self::ApiKey(id) => write!(f, "API key {id}"),
            Self::Binding(binding) => write!(f, "binding {binding}"),
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
        let call = Call {
            authority: self,
            principal,
            request,
            now: self.clock.now(),
        };
        match &request.target {
            RevokeTarget::Token(token) if token.expose().starts_with(refresh::PREFIX) => {
                match RefreshToken::open(token.expose(), &self.server_keys) {
                    Some(token) => call.family(token.family).await,
                    None => Ok(call.nothing()),
                }
            }
            RevokeTarget::Token(token) => call.access_token(token.expose()).await,
            RevokeTarget::Family(family) => call.family(*family).await,
            RevokeTarget::ApiKey(id) => call.api_key(id).await,
            RevokeTarget::SigningKey(id) => call.signing_key(id).await,
            RevokeTarget::Subject(subject) => {
                if *subject != principal.client().to_subject() {
                    self.require(principal, &Permission::RevokeSessions)?;
                }
                let index = FamilyIndex::Subject(principal.realm_name().clone(), subject.clone());
                call.everything(
                    index,
                    EventBody::SubjectRevoked {
                        subject: subject.clone(),
                    },
                )
                .await
            }
            RevokeTarget::Client(client) => {
                call.require_unless_own(client)?;
                if request.disables_client {
                    self.require_revoke(principal, client)?;
                }
                let index = FamilyIndex::Client(principal.realm_name().clone(), client.clone());
                call.everything(
                    index,
                    EventBody::ClientRevoked {
                        client: client.clone(),
                    },
                )
                .await
            }
            RevokeTarget::Binding(binding) => {
                self.require(principal, &Permission::RevokeSessions)?;
                let index = FamilyIndex::Binding(principal.realm_name().clone(), binding.clone());
                call.everything(
                    index,
                    EventBody::BindingRevoked {
                        binding: binding.clone(),
                    },
                )
                .await
            }
            RevokeTarget::Realm => {
                self.require(principal, &Permission::RevokeRealm)?;
                call.everything(
                    FamilyIndex::Realm(principal.realm_name().clone()),
                    EventBody::RealmRevoked,
                )
                .await
            }
        }
    }
}

/// One call of Revoke.
struct Call<'a> {
    authority: &'a Authority,
    principal: &'a Principal,
    request: &'a RevokeRequest,
    now: Timestamp,
}

impl Call<'_> {
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

    async fn family(&self, id: FamilyId) -> Result<Revoked, RevokeError> {
        let family = self.authority.store.family(id).await?;
        let Some(family) = family.filter(|family| family.realm == *self.principal.realm_name()) else {
            return Ok(self.nothing());
        };
        self.require_unless_own(&family.client)?;
        if !self.is_live(&family) {
            return Ok(self.nothing());
        }
        if self.request.validate_only {
            return Ok(Revoked::of(1, None));
        }
        let (note, now) = (self.request.reason.clone(), self.now);
        let audit = self.audit(EventTarget::Family(id), 1);
        let sequence = self.authority.store.transact(move |tx| {
            let sequence = end_family(tx, id, RevokeReason::Requested, &note, now)?;
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
    async fn everything(&self, index: FamilyIndex, body: EventBody) -> Result<Revoked, RevokeError> {
        let matched = self.matched(index).await?;
        if self.request.validate_only {
            return Ok(Revoked::of(matched.live, None));
        }
        let target = body.target().unwrap_or(EventTarget::Realm);
        // Access tokens without a family row can't exist, but a row may be gone before its last token is:
        // the event is written although nothing matched.
        let event = NewEvent {
            occurred_at: self.now,
            tokens_until: matched.tokens_until,
            families_until: matched.families_until,
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

    async fn matched(&self, index: FamilyIndex) -> Result<Matched, RevokeError> {
        let mut matched = Matched::beginning_now(&self.principal.realm().limits, self.now);
        let mut after = None;
        loop {
            let page = self
                .authority
                .store
                .families(index.clone(), PageRequest { after, limit: STEP })
                .await?;
            for family in page.items {
                matched.cover(&family, self.now);
                matched.live += u64::from(self.is_live(&family));
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
    /// One whose API key was revoked counts until it was itself: verifiers hear of families, not of keys.
    fn is_live(&self, family: &Family) -> bool {
        family.is_live(self.authority.clock.settled()) && self.authority.revoked_with_others(family).is_none()
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
            families_until: claims.expires_at,
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
    /// When the last family that it ended would have ended anyway.
    pub(crate) families_until: Timestamp,
}

impl Matched {
    /// Covers the families that begin before the event is written.
    pub(crate) fn beginning_now(limits: &RealmLimits, now: Timestamp) -> Self {
        Self {
            live: 0,
            tokens_until: now.plus(limits.access_ttl_max),
            families_until: now.plus(limits.session_ttl_max).plus(limits.access_ttl_max),
        }
    }

    /// Covers a family that began under limits that were higher then.
    pub(crate) fn cover(&mut self, family: &Family, now: Timestamp) {
        self.tokens_until = self.tokens_until.max(family.tokens_until(now));
        self.families_until = self.families_until.max(family.absolute_until);
    }
}

/// Ends a family and says so in the log; none where it has ended already or is not known.
fn end_family(
    tx: &mut dyn Transaction,
    id: FamilyId,
    reason: RevokeReason,
    note: &str,
    now: Timestamp,
) -> Result<Option<Sequence>, tessera_store::StoreError> {
    let Some(family) = tx
        .family(id)?
        .filter(|family| family.state == FamilyState::Active)
    else {
        return Ok(None);
    };
    let family: Family = family.revoked(reason, now);
    tx.put_family(&family)?;
    tx.append(session_revoked(&family, reason, note.to_owned(), now))
        .map(Some)
}
