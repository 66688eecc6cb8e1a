//! Refresh: the next generation, or the same successor again, or the end of the session.
//!
//! One atomic read-decide-write checks everything that can fail, client, scopes, policy, and consumes the generation
//! last. Nothing is answered before that is durable.

mod commit;
pub(crate) mod outcome;

use std::sync::Arc;

use tessera_core::{
    Audience, ClientName, DecisionId, PolicyRevision, RealmName, Refreshable, Refusal, RequestId, Scope,
    ScopeSet, Session, SessionId, TokenId,
};
use tessera_policy::Policy;
use tessera_store::Snapshot;
use tessera_token::{RefreshToken, random};
use tracing::Span;

use self::{
    commit::{Outcome, RefreshCommit, Spent},
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
        tokens::{PresentedToken, TokenSet},
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
        let refreshed = self.refresh_as(principal.identity(), request).await;
        // A caller whose key ended learns nothing else.
        if !matches!(refreshed, Ok(_) | Err(RefreshError::Unavailable(_)))
            && self.credentials.has_ended(principal).await?
        {
            return Err(RefreshError::CredentialEnded);
        }
        refreshed
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
            Some(identity) => match self.refresh_as(&identity, request).await {
                // The bearer has no credential but the token.
                Err(RefreshError::CredentialEnded) => Err(RefreshError::Expired),
                result => result,
            },
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
        policy: &Arc<Policy>,
        identity: &Identity,
        request: &RefreshRequest,
    ) -> Result<Option<Refreshed>, RefreshError> {
        self.shared.check_is_last()?;
        let token = self.opened(request)?;
        let successor = token
            .successor(&self.shared.server_keys.load())
            .ok_or(RefreshError::Invalid)?;
        let now = self.shared.clock.now();
        let decision = DecisionId::generate(now, random()?);
        let token_id = TokenId::generate(now, random()?);
        let commit = |granted| RefreshCommit {
            identity: identity.clone(),
            request_id: request.request_id,
            session: token.session,
            generation: token.generation,
            secret: token.secret.hash(),
            successor: successor.secret.hash(),
            scopes: request.scopes.clone(),
            audience: request.audience.clone(),
            token_id,
            decision,
            policy: Arc::clone(policy),
            token_bytes_max: self.token_bytes_max,
            granted,
            now,
        };
        let mut granted = None;
        loop {
            let (spent, replayed) = match self.spend(commit(granted)).await? {
                Outcome::Rotated(spent) => (spent, false),
                Outcome::Replayed(spent) => (spent, true),
                Outcome::GrantFirst(session) => {
                    granted = Some(self.grant_first(&commit(None), &session)?);
                    continue;
                }
                Outcome::PolicyChanged => return Ok(None),
                Outcome::Refused(refusal, session) => {
                    return Err(self.refuse(refusal, identity, &session).await);
                }
                Outcome::Reused(client) => return Err(reused(token.session, &client)),
                Outcome::Denied(denial) => return Err(denied(denial, decision)),
                Outcome::Failed(error) => return Err(error),
            };
            let refreshed = self.answer_refresh(identity, spent, replayed, &successor, decision);
            return refreshed.await.map(Some);
        }
    }

    async fn answer_refresh(
        &self,
        identity: &Identity,
        Spent { committed, denied }: Spent,
        replayed: bool,
        successor: &RefreshToken,
        decision: DecisionId,
    ) -> Result<Refreshed, RefreshError> {
        let (session, generation) = (committed.session.id, committed.session.generation());
        let policy = committed.policy;
        tracing::debug!(%decision, %policy, %session, "refreshed");
        self.shared.followed_through(committed.rev).await?;
        let tokens = self.mint(identity.realm(), committed, Some(successor))?;
        Ok(Refreshed {
            tokens,
            session,
            generation,
            replayed,
            denied,
            policy,
            decision,
        })
    }

    async fn spend(&self, commit: RefreshCommit) -> Result<Outcome, RefreshError> {
        let reads = commit.reads();
        // What policy decides in the store's turn belongs to the trace of the call.
        let span = Span::current();
        let decide = move |state: &Snapshot| span.in_scope(|| commit.decide(state));
        let (outcome, _) = self.shared.store.commit(reads, decide).await?;
        Ok(outcome)
    }

    /// What policy grants of the session now, if the token with it is not too long.
    fn grant_first(&self, commit: &RefreshCommit, session: &Session) -> Result<Grant, RefreshError> {
        let grant = Bearer::of_session(session).grant(&commit.policy, commit.asked(session));
        if !grant.granted.is_empty() {
            // It fitted before; since then the limit was lowered, or the issuer became longer.
            let scopes_are_named = !commit.scopes.is_empty();
            self.check_size::<RefreshError>(commit.identity.realm(), session, &grant, scopes_are_named)?;
        }
        Ok(grant)
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

fn reused(session: SessionId, client: &ClientName) -> RefreshError {
    tracing::warn!(%session, %client, "a spent refresh token was used: session revoked");
    RefreshError::Reused
}

fn denied(denial: Denial, decision: DecisionId) -> RefreshError {
    denial.log(decision);
    RefreshError::Denied {
        denied: denial.denied,
        decision,
        policy: denial.policy,
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
