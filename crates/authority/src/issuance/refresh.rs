//! Refresh: the next generation, or the same successor again, or the end of the session.
//!
//! Everything that can fail is checked first: client, scopes, policy. The generation is consumed last, in one atomic
//! read-decide-write that reads the session again. Nothing is answered before that is durable.

mod commit;
pub(crate) mod outcome;

use tessera_core::{
    Audience, DecisionId, PolicyRevision, RealmName, Refreshable, Refusal, RequestId, Scope, ScopeSet,
    Session, SessionId, Verdict,
};
use tessera_policy::Policy;
use tessera_store::{Reads, Snapshot};
use tessera_token::RefreshToken;

use self::{
    commit::{Outcome, RefreshCommit},
    outcome::RefreshOutcome,
};
use crate::{
    error::Unavailable,
    issuance::{
        denial::Denial,
        error::RefreshError,
        issue::DECISIONS_MAX,
        issuer::Issuance,
        scopes::{Bearer, Grant},
        tokens::{Committed, PresentedToken, TokenSet},
    },
    principal::{Identity, Principal},
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
    /// The audience that the caller expects; `None`: any.
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

impl Issuance {
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

    /// Spends a refresh token that any bearer may spend ([`Refreshable::ByBearer`]).
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh); a token that needs its client is [`RefreshError::Invalid`].
    pub async fn refresh_by_bearer(&self, request: &RefreshRequest) -> Result<Refreshed, RefreshError> {
        let token = self.opened(request)?;
        let stored = self.shared.store.session(token.session).await?;
        let session = stored
            .map(|stored| stored.session)
            .filter(|session| session.refreshable == Refreshable::ByBearer)
            .ok_or(RefreshError::Invalid)?;
        match self.credentials.identity_of(&session).await? {
            Some(identity) => self.refresh_as(&identity, request).await,
            None => Err(RefreshError::Expired),
        }
    }

    /// How many refreshes ended with each outcome since the start, for each realm.
    #[must_use]
    pub fn refresh_counts(&self) -> Vec<(RealmName, RefreshOutcome, u64)> {
        self.refreshes.all()
    }

    /// Spends the token, and counts the outcome.
    async fn refresh_as(
        &self,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Refreshed, RefreshError> {
        let result = self.refresh_until_decided(identity, request).await;
        let outcome = match &result {
            Ok(refreshed) => RefreshOutcome::of_success(refreshed.replayed),
            Err(error) => RefreshOutcome::of(error),
        };
        self.refreshes.count(&identity.realm().name, outcome);
        result
    }

    async fn refresh_until_decided(
        &self,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Refreshed, RefreshError> {
        for _ in 0..DECISIONS_MAX {
            let policy = self.shared.policy();
            if let Some(refreshed) = self.refresh_by(&policy, identity, request).await? {
                return Ok(refreshed);
            }
            self.shared.wait_for_policy_after(&policy).await;
        }
        Err(Unavailable::PolicyChanging.into())
    }

    fn opened(&self, request: &RefreshRequest) -> Result<RefreshToken, RefreshError> {
        RefreshToken::open(request.refresh_token.expose(), &self.shared.server_keys.load())
            .ok_or(RefreshError::Invalid)
    }

    /// `None` if another policy was put in force before the commit: nothing happened.
    async fn refresh_by(
        &self,
        policy: &Policy,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Option<Refreshed>, RefreshError> {
        self.shared.check_is_last()?;
        let token = self.opened(request)?;
        let state = self
            .shared
            .store
            .read(Reads::default().session(token.session))
            .await?;
        let stored = state.session(token.session).ok_or(RefreshError::Invalid)?;
        let session = &stored.session;
        if session.realm != identity.realm().name {
            return Err(RefreshError::Invalid);
        }
        let successor = token
            .successor(&self.shared.server_keys.load())
            .ok_or(RefreshError::Invalid)?;
        let mut commit = RefreshCommit::new(
            identity,
            request.request_id,
            &token,
            &successor,
            session,
            self.shared.clock.now(),
        )?;
        let decision = commit.decision;
        commit.grant = match commit.verdict(session, &state.times) {
            Verdict::Refuse(refusal) => return Err(self.refuse(refusal, identity, session).await),
            // The scopes of a thief do not matter.
            Verdict::Reuse => commit.grant,
            Verdict::Rotate | Verdict::Replay => {
                self.grant_again(policy, identity, request, session, decision)
                    .await?
            }
        };
        let denied = commit.grant.denied.clone();
        let in_force = *policy.revision();
        let Some((committed, replayed)) = self.commit_refresh(commit, in_force).await? else {
            return Ok(None);
        };
        let (session, generation) = (committed.session.id, committed.session.generation());
        let policy = committed.policy;
        tracing::debug!(%decision, %policy, %session, "refreshed");
        self.shared.followed_through(committed.rev).await?;
        let tokens = self.mint(identity.realm(), committed, Some(&successor))?;
        Ok(Some(Refreshed {
            tokens,
            session,
            generation,
            replayed,
            denied,
            policy,
            decision,
        }))
    }

    /// The committed state, and whether it is the same as before.
    async fn commit_refresh(
        &self,
        commit: RefreshCommit,
        in_force: PolicyRevision,
    ) -> Result<Option<(Committed, bool)>, RefreshError> {
        let id = commit.session;
        let decide = move |state: &Snapshot| commit.decide(state, &in_force);
        let (outcome, _) = self
            .shared
            .store
            .commit(Reads::default().session(id), decide)
            .await?;
        match outcome {
            Outcome::Rotated(committed) => Ok(Some((committed, false))),
            Outcome::Replayed(committed) => Ok(Some((committed, true))),
            Outcome::Reused(client) => {
                tracing::warn!(session = %id, %client, "a spent refresh token was used: session revoked");
                Err(RefreshError::Reused)
            }
            Outcome::Refused(error) => Err(error),
            Outcome::PolicyChanged => Ok(None),
        }
    }

    /// `asked ∩ the session's ∩ policy now`.
    async fn grant_again(
        &self,
        policy: &Policy,
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
        let grant = bearer.grant(policy, asked);
        if !grant.granted.is_empty() {
            // It fitted before; since then the limit was lowered, or the issuer became longer.
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

    async fn refuse(&self, refusal: Refusal, identity: &Identity, session: &Session) -> RefreshError {
        if refusal == Refusal::WrongClient {
            self.refusals.wrong_client(identity, session).await;
        }
        if refusal == Refusal::Ahead {
            tracing::error!(session = %session.id, "a refresh token is ahead of its session");
            self.shared.rollback.note("a refresh token");
        }
        RefreshError::from(refusal)
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
