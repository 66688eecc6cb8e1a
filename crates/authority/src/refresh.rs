//! Refresh: one generation on, or the same successor again, or the end of the family.
//!
//! Everything that can fail is checked first: client, scopes, policy. The generation is consumed last, in
//! one atomic read-decide-write that asks the family again, and nothing is answered before that is durable.

use tessera_core::{
    Audience, AuditAction, AuditRecord, DecisionId, EventBody, Family, FamilyId, PolicyRevision, RealmLimits,
    RequestId, RevokeReason, Scope, ScopeSet, Seconds, SecretHash, Timestamp, TokenId,
    family::{Presented, Refreshable, Refusal, Verdict},
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
    /// Fewer scopes for this access token; empty: all of the family's.
    pub scopes: ScopeSet,
    /// The audience that the caller takes the family to be for; none: whichever it is.
    pub audience: Option<Audience>,
}

/// What a refresh gives.
#[derive(Debug)]
pub struct Refreshed {
    /// The tokens.
    pub tokens: TokenSet,
    /// The family.
    pub family: FamilyId,
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
    /// See [`RefreshError`]. Only [`RefreshError::Reused`] changes anything: it revokes the family.
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
        let family = self
            .store
            .family(token.family)
            .await?
            .filter(|family| family.refreshable == Refreshable::ByBearer)
            .ok_or(RefreshError::Invalid)?;
        match self.identity_of(&family).await? {
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
        let family = self
            .store
            .family(token.family)
            .await?
            .ok_or(RefreshError::Invalid)?;
        if family.realm != identity.realm().name {
            return Err(RefreshError::Invalid);
        }
        let successor = token.successor(&self.server_keys).ok_or(RefreshError::Invalid)?;
        let mut spend = Spend::new(
            identity,
            request,
            &token,
            successor.secret.hash(),
            self.clock.now(),
            self.store.times(),
        )?;
        let decision = spend.decision;

        let grant = match spend.judge(&family) {
            Verdict::Refuse(refusal) => return Err(self.refuse(refusal, &family)),
            // A thief's scopes are of no interest.
            Verdict::Reuse => Grant::nothing(&family),
            // One that is about to rotate and loses the race overlapped with the winner: it is no retry.
            Verdict::Rotate => {
                spend.counts = false;
                self.grant_again(&deciding, identity, request, &family, decision)
                    .await?
            }
            Verdict::Replay => {
                let grant = self
                    .grant_again(&deciding, identity, request, &family, decision)
                    .await?;
                spend.counts = self.gatherings.join(family.id, token.generation).await;
                grant
            }
        };
        let denied = grant.denied.clone();
        let outcome = self.store.transact(move |tx| {
            if deciding.is_in_force() {
                spend.commit(tx, &grant)
            } else {
                Ok(Outcome::PolicyChanged)
            }
        });
        let outcome = outcome.await?;

        let (committed, replayed) = match outcome {
            Outcome::Rotated(committed) => (committed, false),
            Outcome::Replayed(committed) => (committed, true),
            Outcome::Reused => {
                tracing::warn!(family = %family.id, client = %family.client, "a spent refresh token was used: family revoked");
                return Err(RefreshError::Reused);
            }
            Outcome::Refused(error) => return Err(error),
            Outcome::PolicyChanged => return Ok(None),
        };
        let (generation, policy) = (committed.family.generation(), committed.policy.clone());
        tracing::debug!(%decision, %policy, family = %family.id, "refreshed");
        let tokens = self.mint(identity.realm(), committed, Some(&successor))?;
        Ok(Some(Refreshed {
            tokens,
            family: family.id,
            generation,
            replayed,
            denied,
            policy,
            decision,
        }))
    }

    /// `asked ∩ the family's ∩ policy now`.
    async fn grant_again(
        &self,
        deciding: &Deciding,
        identity: &Identity,
        request: &RefreshRequest,
        family: &Family,
        decision: DecisionId,
    ) -> Result<Grant, RefreshError> {
        if request
            .audience
            .as_ref()
            .is_some_and(|asked| *asked != family.audience)
        {
            return Err(RefreshError::OtherAudience(family.audience.clone()));
        }
        if let Some(beyond) = request.scopes.iter().find(|scope| !family.scopes.contains(scope)) {
            return Err(RefreshError::ScopeExceedsGrant(beyond.clone()));
        }
        let asked = if request.scopes.is_empty() {
            &family.scopes
        } else {
            &request.scopes
        };
        let bearer = Bearer::of_family(family);
        let grant = bearer.grant(deciding.policy(), asked);
        if !grant.granted.is_empty() {
            // It fitted once; since then the limit was lowered, or the issuer got longer.
            self.check_size::<RefreshError>(identity.realm(), family, &grant, !request.scopes.is_empty())?;
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
            Some(family.id),
            decision,
        )
        .await?;
        Err(RefreshError::Denied {
            denied: denial.denied,
            decision,
            policy: denial.policy,
        })
    }

    fn refuse(&self, refusal: Refusal, family: &Family) -> RefreshError {
        if refusal == Refusal::Ahead {
            tracing::error!(family = %family.id, "a refresh token is ahead of its family");
            self.is_put_back.note("a refresh token");
        }
        RefreshError::from(refusal)
    }
}

impl Grant {
    fn nothing(family: &Family) -> Self {
        Self {
            granted: ScopeSet::default(),
            denied: Vec::new(),
            revision: family.policy.clone(),
        }
    }
}

/// A presented token on its way to its family.
struct Spend {
    identity: Identity,
    request_id: Option<RequestId>,
    family: FamilyId,
    generation: u64,
    secret: SecretHash,
    successor: SecretHash,
    token_id: TokenId,
    decision: DecisionId,
    now: Timestamp,
    /// When the authority could not answer.
    times: Times,
    /// Whether a replay takes one of those that the family allows; one that came together with another
    /// takes none.
    counts: bool,
}

impl Spend {
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
            family: token.family,
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

    fn judge(&self, family: &Family) -> Verdict {
        let presented = Presented {
            generation: self.generation,
            secret: self.secret,
            client: self.identity.client(),
        };
        let limits = &self.identity.realm().limits;
        let away = self.away(family);
        if self.counts && away == Seconds(0) {
            return family.present(&presented, limits, self.now);
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
        family.present(&presented, &limits, self.now)
    }

    /// For how long since the last rotation nobody could have had the answer again. That time does not count
    /// against the grace window.
    fn away(&self, family: &Family) -> Seconds {
        let previous = family.chain.and_then(|chain| chain.previous);
        let millis = previous.map_or(0, |previous| self.times.away_millis(previous.spent_at, self.now));
        // Of a part of a second, the whole.
        Seconds(u32::try_from(millis.saturating_add(999) / 1000).unwrap_or(u32::MAX))
    }

    /// Asks the family again, and writes what follows.
    fn commit(&self, tx: &mut dyn Transaction, grant: &Grant) -> Result<Outcome, StoreError> {
        let Some(family) = tx.family(self.family)? else {
            return Ok(Outcome::Refused(RefreshError::Invalid));
        };
        if let Some(reason) = self.ended_with_others(tx, &family)? {
            return Ok(Outcome::Refused(RefreshError::Revoked(reason)));
        }
        match self.judge(&family) {
            Verdict::Rotate | Verdict::Replay if grant.granted.is_empty() => {
                // Judged a reuse before and not now: impossible, as generations only grow.
                Ok(Outcome::Refused(
                    Unavailable::Defect("a generation went backwards").into(),
                ))
            }
            Verdict::Rotate => self.rotate(tx, &family, grant),
            Verdict::Replay => self.replay(tx, &family, grant),
            Verdict::Reuse => self.reuse(tx, &family),
            Verdict::Refuse(refusal) => Ok(Outcome::Refused(refusal.into())),
        }
    }

    fn ended_with_others(
        &self,
        tx: &mut dyn Transaction,
        family: &Family,
    ) -> Result<Option<RevokeReason>, StoreError> {
        if *self.identity.client() != family.client {
            // The family's state is nobody else's business.
            return Ok(None);
        }
        if let Some(reason) = tx.revokes_family(family) {
            return Ok(Some(reason));
        }
        let api_key = tx.api_key(&family.api_key)?;
        Ok(api_key
            .and_then(|key| key.revoked_at)
            .map(|_| RevokeReason::ApiKey))
    }

    fn rotate(
        &self,
        tx: &mut dyn Transaction,
        family: &Family,
        grant: &Grant,
    ) -> Result<Outcome, StoreError> {
        let family = family
            .rotated(self.successor, &self.identity.realm().limits, self.now)
            .regaining(&grant.granted);
        tx.put_family(&family)?;
        tx.audit(&self.record(&family, self.refreshed(&family, grant, false)))?;
        Ok(Outcome::Rotated(self.committed(tx, family, grant)))
    }

    fn replay(
        &self,
        tx: &mut dyn Transaction,
        family: &Family,
        grant: &Grant,
    ) -> Result<Outcome, StoreError> {
        if family.chain.is_none_or(|chain| chain.current != self.successor) {
            // The ratchet gives another successor than it gave before: the server key was changed.
            return Ok(Outcome::Refused(RefreshError::Invalid));
        }
        let regained = family.regaining(&grant.granted);
        let given = if self.counts {
            regained.replayed()
        } else {
            regained
        };
        if given != *family {
            tx.put_family(&given)?;
        }
        tx.audit(&self.record(&given, self.refreshed(&given, grant, true)))?;
        Ok(Outcome::Replayed(self.committed(tx, given, grant)))
    }

    fn reuse(&self, tx: &mut dyn Transaction, family: &Family) -> Result<Outcome, StoreError> {
        let current = family.generation();
        let family = family.revoked(RevokeReason::Reuse, self.now);
        tx.put_family(&family)?;
        tx.append(session_revoked(
            &family,
            RevokeReason::Reuse,
            String::new(),
            self.now,
        ))?;
        let action = AuditAction::Reused {
            family: family.id,
            presented: self.generation,
            current,
        };
        tx.audit(&self.record(&family, action))?;
        Ok(Outcome::Reused)
    }

    fn committed(&self, tx: &dyn Transaction, family: Family, grant: &Grant) -> Committed {
        Committed {
            family,
            token_id: self.token_id,
            scopes: grant.granted.clone(),
            policy: grant.revision.clone(),
            rev: tx.last_sequence(),
            at: self.now,
        }
    }

    fn refreshed(&self, family: &Family, grant: &Grant, is_replay: bool) -> AuditAction {
        AuditAction::Refreshed {
            family: family.id,
            token: self.token_id,
            generation: family.generation(),
            is_replay,
            scopes: grant.granted.clone(),
            denied: grant.denied_scopes(),
            decision: self.decision,
            policy: grant.revision.clone(),
        }
    }

    fn record(&self, family: &Family, action: AuditAction) -> AuditRecord {
        AuditRecord {
            at: self.now,
            realm: family.realm.clone(),
            actor: self.identity.actor(),
            request: self.request_id,
            action,
        }
    }
}

/// The event that ends one family.
pub(crate) fn session_revoked(
    family: &Family,
    reason: RevokeReason,
    note: String,
    now: Timestamp,
) -> NewEvent {
    let until = family.tokens_until(now);
    NewEvent {
        occurred_at: now,
        tokens_until: until,
        families_until: until,
        realm: family.realm.clone(),
        note,
        body: EventBody::SessionRevoked {
            family: family.id,
            client: family.client.clone(),
            audience: family.audience.clone(),
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
