//! Refresh: one generation on, or the same successor again, or the end of the session.
//!
//! Everything that can fail is checked first: client, scopes, policy. The generation is consumed last, in
//! one atomic read-decide-write that asks the session again, and nothing is answered before that is durable.

use tessera_core::{
    Audience, AuditAction, AuditRecord, DecisionId, EventBody, PolicyRevision, RealmLimits, RequestId,
    RevokeReason, Scope, ScopeSet, Seconds, SecretHash, Session, SessionId, Timestamp, TokenId,
    session::{Presented, Refreshable, Refusal, Verdict},
};
use tessera_store::{NewEvent, StoreError, StoreExt, Times, Transaction};
use tessera_token::{RefreshToken, random};

use crate::{
    Authority, PresentedToken, Principal, TokenSet,
    authenticate::Identity,
    denial::Denial,
    error::{RefreshError, Unavailable},
    grant::{Bearer, Deciding, Grant},
    issue::DECISIONS_MAX,
    tokens::Committed,
};

/// A refresh token, presented.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    /// For the audit record.
    pub request_id: Option<RequestId>,
    /// The refresh token.
    pub refresh_token: PresentedToken,
    /// Fewer scopes for this access token; empty: all of the session's.
    pub scopes: ScopeSet,
    /// The audience that the caller takes the session to be for; none: whichever it is.
    pub audience: Option<Audience>,
}

/// What a refresh gives.
#[derive(Debug)]
pub struct Refreshed {
    /// The tokens.
    pub tokens: TokenSet,
    /// The session.
    pub session: SessionId,
    /// The generation of the new refresh token.
    pub generation: u64,
    /// Whether this repeats the answer to the last refresh.
    pub replayed: bool,
    /// Scopes that policy does not grant now, with the reason.
    pub denied: Vec<(Scope, String)>,
    /// The policy that decided.
    pub policy: PolicyRevision,
    /// The decision.
    pub decision: DecisionId,
}

/// What the commit came to.
enum Outcome {
    Rotated(Committed),
    Replayed(Committed),
    Reused,
    Refused(RefreshError),
    PolicyChanged,
}

impl Authority {
    /// Spends a refresh token.
    ///
    /// # Errors
    /// See [`RefreshError`]. Only [`RefreshError::Reused`] changes anything: it revokes the session.
    pub async fn refresh(
        &self,
        principal: &Principal,
        request: &RefreshRequest,
    ) -> Result<Refreshed, RefreshError> {
        self.refresh_as(principal.identity(), request).await
    }

    /// Spends a refresh token that whoever bears it may spend ([`Refreshable::ByBearer`]).
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh); a token that needs its client is [`RefreshError::Invalid`].
    pub async fn refresh_by_bearer(&self, request: &RefreshRequest) -> Result<Refreshed, RefreshError> {
        let token = self.opened(request)?;
        let session = self
            .store
            .session(token.session)
            .await?
            .filter(|session| session.refreshable == Refreshable::ByBearer)
            .ok_or(RefreshError::Invalid)?;
        match self.identity_of(&session).await? {
            Some(identity) => self.refresh_as(&identity, request).await,
            None => Err(RefreshError::Expired),
        }
    }

    async fn refresh_as(
        &self,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Refreshed, RefreshError> {
        for _ in 0..DECISIONS_MAX {
            if let Some(refreshed) = self.refresh_by(self.deciding(), identity, request).await? {
                return Ok(refreshed);
            }
        }
        Err(Unavailable::PolicyChanging.into())
    }

    fn opened(&self, request: &RefreshRequest) -> Result<RefreshToken, RefreshError> {
        RefreshToken::open(request.refresh_token.expose(), &self.server_keys).ok_or(RefreshError::Invalid)
    }

    /// None where another policy was put in force before the commit: nothing happened.
    async fn refresh_by(
        &self,
        deciding: Deciding,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Option<Refreshed>, RefreshError> {
        self.check_is_last()?;
        let token = self.opened(request)?;
        let session = self
            .store
            .session(token.session)
            .await?
            .ok_or(RefreshError::Invalid)?;
        if session.realm != identity.realm().name {
            return Err(RefreshError::Invalid);
        }
        let successor = token.successor(&self.server_keys).ok_or(RefreshError::Invalid)?;
        let mut commit = RefreshCommit::new(
            identity,
            request,
            &token,
            successor.secret.hash(),
            self.clock.now(),
            self.store.times(),
        )?;
        let decision = commit.decision;

        let grant = match commit.verdict(&session) {
            Verdict::Refuse(refusal) => return Err(self.refuse(refusal, &session)),
            // A thief's scopes are of no interest.
            Verdict::Reuse => Grant::nothing(&session),
            // One that is about to rotate and loses the race overlapped with the winner: it is no retry.
            Verdict::Rotate => {
                commit.counts = false;
                self.grant_again(&deciding, identity, request, &session, decision)
                    .await?
            }
            Verdict::Replay => {
                let grant = self
                    .grant_again(&deciding, identity, request, &session, decision)
                    .await?;
                commit.counts = self.replays.join(session.id, token.generation).await;
                grant
            }
        };
        let denied = grant.denied.clone();
        let outcome = self.store.transact(move |tx| {
            if deciding.is_in_force() {
                commit.commit(tx, &grant)
            } else {
                Ok(Outcome::PolicyChanged)
            }
        });
        let outcome = outcome.await?;

        let (committed, replayed) = match outcome {
            Outcome::Rotated(committed) => (committed, false),
            Outcome::Replayed(committed) => (committed, true),
            Outcome::Reused => {
                tracing::warn!(session = %session.id, client = %session.client, "a spent refresh token was used: session revoked");
                return Err(RefreshError::Reused);
            }
            Outcome::Refused(error) => return Err(error),
            Outcome::PolicyChanged => return Ok(None),
        };
        let (generation, policy) = (committed.session.generation(), committed.policy.clone());
        tracing::debug!(%decision, %policy, session = %session.id, "refreshed");
        let tokens = self.mint(identity.realm(), committed, Some(&successor))?;
        Ok(Some(Refreshed {
            tokens,
            session: session.id,
            generation,
            replayed,
            denied,
            policy,
            decision,
        }))
    }

    /// `asked ∩ the session's ∩ policy now`.
    async fn grant_again(
        &self,
        deciding: &Deciding,
        identity: &Identity,
        request: &RefreshRequest,
        session: &Session,
        decision: DecisionId,
    ) -> Result<Grant, RefreshError> {
        if request
            .audience
            .as_ref()
            .is_some_and(|asked| *asked != session.audience)
        {
            return Err(RefreshError::OtherAudience(session.audience.clone()));
        }
        if let Some(beyond) = request
            .scopes
            .iter()
            .find(|scope| !session.scopes.contains(scope))
        {
            return Err(RefreshError::ScopeExceedsGrant(beyond.clone()));
        }
        let asked = if request.scopes.is_empty() {
            &session.scopes
        } else {
            &request.scopes
        };
        let bearer = Bearer::of_session(session);
        let grant = bearer.grant(deciding.policy(), asked);
        if !grant.granted.is_empty() {
            // It fitted once; since then the limit was lowered, or the issuer got longer.
            self.check_size::<RefreshError>(identity.realm(), session, &grant, !request.scopes.is_empty())?;
            return Ok(grant);
        }
        let denial = Denial {
            asked: asked.clone(),
            denied: grant.denied,
            partly: false,
            policy: grant.revision,
        };
        self.record_denial(
            identity,
            request.request_id,
            &bearer,
            &denial,
            Some(session.id),
            decision,
        )
        .await?;
        Err(RefreshError::Denied {
            denied: denial.denied,
            decision,
            policy: denial.policy,
        })
    }

    fn refuse(&self, refusal: Refusal, session: &Session) -> RefreshError {
        if refusal == Refusal::Ahead {
            tracing::error!(session = %session.id, "a refresh token is ahead of its session");
            self.rollback.note("a refresh token");
        }
        RefreshError::from(refusal)
    }
}

impl Grant {
    fn nothing(session: &Session) -> Self {
        Self {
            granted: ScopeSet::default(),
            denied: Vec::new(),
            revision: session.policy.clone(),
        }
    }
}

/// A presented token on its way to its session.
struct RefreshCommit {
    identity: Identity,
    request_id: Option<RequestId>,
    session: SessionId,
    generation: u64,
    secret: SecretHash,
    successor: SecretHash,
    token_id: TokenId,
    decision: DecisionId,
    now: Timestamp,
    /// When the authority could not answer.
    times: Times,
    /// Whether a replay takes one of those that the session allows; one that came together with another
    /// takes none.
    counts: bool,
}

impl RefreshCommit {
    fn new(
        identity: &Identity,
        request: &RefreshRequest,
        token: &RefreshToken,
        successor: SecretHash,
        now: Timestamp,
        times: Times,
    ) -> Result<Self, RefreshError> {
        Ok(Self {
            identity: identity.clone(),
            request_id: request.request_id,
            session: token.session,
            generation: token.generation,
            secret: token.secret.hash(),
            successor,
            token_id: TokenId::generate(now, random()?),
            decision: DecisionId::generate(now, random()?),
            now,
            times,
            counts: true,
        })
    }

    fn verdict(&self, session: &Session) -> Verdict {
        let presented = Presented {
            generation: self.generation,
            secret: self.secret,
            client: self.identity.client(),
        };
        let limits = &self.identity.realm().limits;
        let away = self.away(session);
        if self.counts && away == Seconds(0) {
            return session.present(&presented, limits, self.now);
        }
        let limits = RealmLimits {
            grace: if limits.grace > Seconds(0) {
                Seconds(limits.grace.0.saturating_add(away.0))
            } else {
                limits.grace
            },
            // The one that counts for this one may have taken the last.
            grace_replays_max: limits.grace_replays_max.saturating_add(u8::from(!self.counts)),
            ..limits.clone()
        };
        session.present(&presented, &limits, self.now)
    }

    /// For how long since the last rotation nobody could have had the answer again. That time does not count
    /// against the grace window.
    fn away(&self, session: &Session) -> Seconds {
        let previous = session.chain.and_then(|chain| chain.previous);
        let millis = previous.map_or(0, |previous| self.times.away_millis(previous.spent_at, self.now));
        // Of a part of a second, the whole.
        Seconds(u32::try_from(millis.saturating_add(999) / 1000).unwrap_or(u32::MAX))
    }

    /// Asks the session again, and writes what follows.
    fn commit(&self, tx: &mut dyn Transaction, grant: &Grant) -> Result<Outcome, StoreError> {
        let Some(session) = tx.session(self.session)? else {
            return Ok(Outcome::Refused(RefreshError::Invalid));
        };
        if let Some(reason) = self.ended_with_others(tx, &session)? {
            return Ok(Outcome::Refused(RefreshError::Revoked(reason)));
        }
        match self.verdict(&session) {
            Verdict::Rotate | Verdict::Replay if grant.granted.is_empty() => {
                // AccessCheck a reuse before and not now: impossible, as generations only grow.
                Ok(Outcome::Refused(
                    Unavailable::Defect("a generation went backwards").into(),
                ))
            }
            Verdict::Rotate => self.rotate(tx, &session, grant),
            Verdict::Replay => self.replay(tx, &session, grant),
            Verdict::Reuse => self.reuse(tx, &session),
            Verdict::Refuse(refusal) => Ok(Outcome::Refused(refusal.into())),
        }
    }

    fn ended_with_others(
        &self,
        tx: &mut dyn Transaction,
        session: &Session,
    ) -> Result<Option<RevokeReason>, StoreError> {
        if *self.identity.client() != session.client {
            // The session's state is nobody else's business.
            return Ok(None);
        }
        if let Some(reason) = tx.revokes_session(session) {
            return Ok(Some(reason));
        }
        let api_key = tx.api_key(&session.api_key)?;
        Ok(api_key
            .and_then(|key| key.revoked_at)
            .map(|_| RevokeReason::ApiKey))
    }

    fn rotate(
        &self,
        tx: &mut dyn Transaction,
        session: &Session,
        grant: &Grant,
    ) -> Result<Outcome, StoreError> {
        let session = session
            .rotated(self.successor, &self.identity.realm().limits, self.now)
            .regaining(&grant.granted);
        tx.put_session(&session)?;
        tx.audit(&self.record(&session, self.refreshed(&session, grant, false)))?;
        Ok(Outcome::Rotated(self.committed(tx, session, grant)))
    }

    fn replay(
        &self,
        tx: &mut dyn Transaction,
        session: &Session,
        grant: &Grant,
    ) -> Result<Outcome, StoreError> {
        if session.chain.is_none_or(|chain| chain.current != self.successor) {
            // The ratchet gives another successor than it gave before: the server key was changed.
            return Ok(Outcome::Refused(RefreshError::Invalid));
        }
        let regained = session.regaining(&grant.granted);
        let given = if self.counts {
            regained.replayed()
        } else {
            regained
        };
        if given != *session {
            tx.put_session(&given)?;
        }
        tx.audit(&self.record(&given, self.refreshed(&given, grant, true)))?;
        Ok(Outcome::Replayed(self.committed(tx, given, grant)))
    }

    fn reuse(&self, tx: &mut dyn Transaction, session: &Session) -> Result<Outcome, StoreError> {
        let current = session.generation();
        let session = session.revoked(RevokeReason::Reuse, self.now);
        tx.put_session(&session)?;
        tx.append(session_revoked(
            &session,
            RevokeReason::Reuse,
            String::new(),
            self.now,
        ))?;
        let action = AuditAction::Reused {
            session: session.id,
            presented: self.generation,
            current,
        };
        tx.audit(&self.record(&session, action))?;
        Ok(Outcome::Reused)
    }

    fn committed(&self, tx: &dyn Transaction, session: Session, grant: &Grant) -> Committed {
        Committed {
            session,
            token_id: self.token_id,
            scopes: grant.granted.clone(),
            policy: grant.revision.clone(),
            rev: tx.last_sequence(),
            at: self.now,
        }
    }

    fn refreshed(&self, session: &Session, grant: &Grant, is_replay: bool) -> AuditAction {
        AuditAction::Refreshed {
            session: session.id,
            token: self.token_id,
            generation: session.generation(),
            is_replay,
            scopes: grant.granted.clone(),
            denied: grant.denied_scopes(),
            decision: self.decision,
            policy: grant.revision.clone(),
        }
    }

    fn record(&self, session: &Session, action: AuditAction) -> AuditRecord {
        AuditRecord {
            at: self.now,
            realm: session.realm.clone(),
            actor: self.identity.actor(),
            request: self.request_id,
            action,
        }
    }
}

/// The event that ends one session.
pub(crate) fn session_revoked(
    session: &Session,
    reason: RevokeReason,
    note: String,
    now: Timestamp,
) -> NewEvent {
    let until = session.tokens_until(now);
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        sessions_until: until,
        realm: session.realm.clone(),
        note,
        body: EventBody::SessionRevoked {
            session: session.id,
            client: session.client.clone(),
            audience: session.audience.clone(),
            reason,
        },
    }
}

impl From<Refusal> for RefreshError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::WrongClient => Self::WrongClient,
            Refusal::Revoked(reason) => Self::Revoked(reason),
            Refusal::ExpiredIdle | Refusal::ExpiredAbsolute => Self::Expired,
            Refusal::WrongSecret | Refusal::NotRefreshable => Self::Invalid,
            Refusal::Ahead => Self::Ahead,
            Refusal::ReplaysUsed => Self::ReplaysUsed,
        }
    }
}
