//! Issue: a new session, its first access token, and its first refresh token.

mod commit;
pub(crate) mod request;
mod terms;

use sha2::{Digest, Sha256};
use tessera_core::{Audience, DecisionId, PolicyRevision, Scope, Session, SessionId, Subject, TokenId};
use tessera_policy::Policy;
use tessera_store::{Changes, RequestKey, Snapshot};
use tessera_token::{RefreshSecret, RefreshToken, random};

use self::{
    commit::{IssueCommit, Outcome},
    request::IssueRequest,
    terms::Terms,
};
use crate::{
    error::{CallNotAllowed, Unavailable},
    issuance::{
        denial::Denial,
        error::IssueError,
        issuer::Issuance,
        scopes::{Bearer, Grant},
        tokens::{Committed, TokenSet},
    },
    principal::Principal,
};

/// How often a request is decided again because another policy was put in force before its commit.
pub(crate) const DECISIONS_MAX: usize = 5;

/// What was issued.
#[derive(Debug)]
pub struct Issued {
    /// The tokens.
    pub tokens: TokenSet,
    /// The session.
    pub session: SessionId,
    /// Scopes that were requested and not granted, with the reason.
    pub denied: Vec<(Scope, String)>,
    /// The policy that decided.
    pub policy: PolicyRevision,
    /// The decision.
    pub decision: DecisionId,
}

impl Issuance {
    /// Begins a session.
    ///
    /// # Errors
    /// See [`IssueError`]: nothing is stored if it fails.
    pub async fn issue(&self, principal: &Principal, request: &IssueRequest) -> Result<Issued, IssueError> {
        let issued = self.issue_until_decided(principal, request).await;
        // A caller whose key ended learns nothing else.
        if !matches!(issued, Ok(_) | Err(IssueError::Unavailable(_)))
            && self.credentials.has_ended(principal).await?
        {
            return Err(IssueError::CredentialEnded);
        }
        issued
    }

    async fn issue_until_decided(
        &self,
        principal: &Principal,
        request: &IssueRequest,
    ) -> Result<Issued, IssueError> {
        for _ in 0..DECISIONS_MAX {
            let policy = self.shared.policy();
            if let Some(issued) = self.issue_by(&policy, principal, request).await? {
                return Ok(issued);
            }
            self.shared.wait_for_policy_after(&policy).await;
        }
        Err(Unavailable::PolicyChanging.into())
    }

    /// `None` if another policy was put in force before the commit: nothing happened.
    async fn issue_by(
        &self,
        policy: &Policy,
        principal: &Principal,
        request: &IssueRequest,
    ) -> Result<Option<Issued>, IssueError> {
        self.shared.check_is_last()?;
        let terms = Terms::check(principal, request, policy.catalogue())?;
        let bearer = Bearer {
            realm: principal.realm_name(),
            client: principal.client(),
            subject: &terms.subject,
            roles: &request.roles,
        };
        let now = self.shared.clock.now();
        let decision = DecisionId::generate(now, random()?);
        let grant = match decide(policy, &bearer, request) {
            Ok(grant) => grant,
            Err(denial) => {
                // If the client may not act for the bearer, that is the reason why nothing is granted.
                let refused = bearer.check(policy).err();
                let denied = self.deny(principal, request, &bearer, denial, refused, decision);
                return Err(denied.await);
            }
        };
        let id = SessionId::generate(now, random()?);
        let secret = self.first_secret(principal, request, id)?;
        let session = terms.into_session(principal, request, &grant, id, secret.as_ref(), now);
        let scopes_are_named = !request.scopes.is_empty();
        self.check_size::<IssueError>(principal.realm(), &session, &grant, scopes_are_named)?;
        let commit = IssueCommit {
            policy: grant.revision,
            idempotency: idempotency(principal, request),
            identity: principal.identity().clone(),
            request: request.request_id,
            denied: grant.denied_scopes(),
            decision,
            sessions_max: principal.realm().limits.sessions_per_client_max,
            session,
            token_id: TokenId::generate(now, random()?),
            now,
        };
        let Some(committed) = self.commit_issue(commit).await? else {
            return Ok(None);
        };
        self.shared.followed_through(committed.rev).await?;
        self.answer_issue(principal, request, committed, secret, grant, decision)
            .map(Some)
    }

    async fn commit_issue(&self, commit: IssueCommit) -> Result<Option<Committed>, IssueError> {
        let sessions_max = commit.sessions_max;
        let reads = commit.reads();
        let decide = move |state: &Snapshot| commit.decide(state);
        let (outcome, _) = self.shared.store.commit(reads, decide).await?;
        match outcome {
            Outcome::Made(committed) | Outcome::Repeated(committed) => Ok(Some(committed)),
            Outcome::Mismatch => Err(IssueError::IdempotencyMismatch),
            Outcome::Ended => Err(IssueError::SessionEnded),
            Outcome::Refreshed => Err(IssueError::AlreadyRefreshed),
            Outcome::CredentialEnded => Err(IssueError::CredentialEnded),
            Outcome::SessionsUsed => Err(IssueError::SessionsUsed { sessions_max }),
            Outcome::PolicyChanged => Ok(None),
        }
    }

    fn answer_issue(
        &self,
        principal: &Principal,
        request: &IssueRequest,
        committed: Committed,
        secret: Option<RefreshSecret>,
        grant: Grant,
        decision: DecisionId,
    ) -> Result<Issued, IssueError> {
        let (session, policy) = (committed.session.id, committed.policy);
        tracing::debug!(%decision, %policy, %session, "issued");
        let refresh = self.first_refresh_token(principal, request, &committed.session, secret);
        let tokens = self.mint(principal.realm(), committed, refresh.as_ref())?;
        Ok(Issued {
            tokens,
            session,
            denied: grant.denied,
            policy,
            decision,
        })
    }

    async fn deny(
        &self,
        principal: &Principal,
        request: &IssueRequest,
        bearer: &Bearer<'_>,
        denial: Denial,
        refused: Option<CallNotAllowed>,
        decision: DecisionId,
    ) -> IssueError {
        denial.log(decision);
        let record = denial.record(principal.identity(), request.request_id, bearer, None, decision);
        let changes = Changes {
            audit: vec![record],
            ..Changes::default()
        };
        match (self.shared.store.write(changes).await, refused) {
            (Ok(_), Some(refused)) => IssueError::NotAllowed {
                refused,
                decision,
                policy: denial.policy,
            },
            (Ok(_), None) => IssueError::Denied {
                denied: denial.denied,
                partly: denial.partly,
                decision,
                policy: denial.policy,
            },
            (Err(error), _) => error.into(),
        }
    }

    /// The secret of generation 1: random, or derived if a retry must find it again.
    fn first_secret(
        &self,
        principal: &Principal,
        request: &IssueRequest,
        session: SessionId,
    ) -> Result<Option<RefreshSecret>, IssueError> {
        if request.without_refresh {
            return Ok(None);
        }
        let Some(request_id) = request.request_id else {
            return Ok(Some(RefreshSecret::generate()?));
        };
        let keys = self.shared.server_keys.load();
        RefreshSecret::for_request(principal.credential(), keys.current(), session, request_id)
            .map(Some)
            .ok_or(IssueError::Unavailable(Unavailable::Defect(
                "a first secret can't be derived",
            )))
    }

    /// The refresh token of the committed session, which an earlier request with the same id may have made.
    fn first_refresh_token(
        &self,
        principal: &Principal,
        request: &IssueRequest,
        session: &Session,
        secret: Option<RefreshSecret>,
    ) -> Option<RefreshToken> {
        let keys = self.shared.server_keys.load();
        let secret = match (request.request_id, &session.family) {
            // An earlier server key may have derived it.
            (Some(id), Some(family)) => keys
                .all()
                .filter_map(|key| {
                    let secret = RefreshSecret::for_request(principal.credential(), key, session.id, id)?;
                    Some((secret, key))
                })
                .find(|(secret, _)| secret.hash() == family.current),
            _ => secret.map(|secret| (secret, keys.current())),
        };
        secret.map(|(secret, key)| RefreshToken::first(session.id, secret, key))
    }
}

/// Identifies a request that is made idempotent, and its content.
fn idempotency(principal: &Principal, request: &IssueRequest) -> Option<(RequestKey, [u8; 32])> {
    let (realm, client) = principal.whose();
    let key = RequestKey {
        realm,
        client,
        request: request.request_id?,
    };
    Some((key, digest(principal, request)))
}

/// The digest by which two requests are the same. The API key is part of it: a retry derives the first secret from it.
fn digest(principal: &Principal, request: &IssueRequest) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    };
    add(principal.api_key().as_str());
    add(request.subject.as_ref().map_or("", Subject::as_str));
    add(request.audience.as_ref().map_or("", Audience::as_str));
    add(&format!("{:?}{:?}", request.roles, request.labels));
    add(&request.scopes.to_string());
    add(&format!("{:?}{:?}", request.access_ttl, request.session_ttl));
    add(&format!(
        "{}{}{:?}",
        request.require_all, request.without_refresh, request.refreshable
    ));
    digest.finalize().into()
}

/// Checks the requested scopes against policy, or all scopes of the catalogue.
fn decide(policy: &Policy, bearer: &Bearer<'_>, request: &IssueRequest) -> Result<Grant, Denial> {
    let asked_for_all = request.scopes.is_empty();
    let catalogue_scopes;
    let asked = if asked_for_all {
        catalogue_scopes = policy.catalogue().concrete_scopes();
        &catalogue_scopes
    } else {
        &request.scopes
    };
    let mut grant = bearer.grant(policy, asked);
    if grant.granted.is_empty() || (request.require_all && !grant.denied.is_empty() && !asked_for_all) {
        return Err(Denial {
            asked: asked.clone(),
            partly: !grant.granted.is_empty(),
            denied: grant.denied,
            policy: grant.revision,
        });
    }
    if asked_for_all {
        // The caller did not request these by name, so it is not told that they are missing.
        grant.denied.clear();
    }
    Ok(grant)
}
