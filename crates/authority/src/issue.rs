//! Issue: a new session, its first access token, and its first refresh token.

use sha2::{Digest, Sha256};
use tessera_core::{
    Audience, AuditAction, AuditRecord, Chain, DecisionId, Label, Refreshable, RequestId, RoleName, Scope,
    ScopeSet, Seconds, Session, SessionId, SessionState, Subject, Timestamp, TokenId, audit::Actor,
    session::Condition,
};
use tessera_policy::{Catalogue, Policy};
use tessera_store::{RequestKey, RequestRecord, StoreError, StoreExt, Transaction};
use tessera_token::{RefreshSecret, RefreshToken, random};

use crate::{
    Authority, Principal, TokenSet,
    denial::Denial,
    error::{CallNotAllowed, IssueError, Unavailable},
    grant::{Bearer, Deciding, Grant},
    tokens::Committed,
};

/// How long a request id is remembered.
const REQUEST_TTL: Seconds = Seconds(600);

/// For whom, with which rights, and for how long.
#[derive(Clone, Debug, Default)]
pub struct IssueRequest {
    /// Makes the call idempotent for 10 minutes.
    pub request_id: Option<RequestId>,
    /// Whom the token speaks for; none: the client itself.
    pub subject: Option<Subject>,
    /// Roles the client asserts for the subject.
    pub roles: Vec<RoleName>,
    /// Scopes asked for; empty: every scope of the catalogue without a parameter that policy grants.
    pub scopes: ScopeSet,
    /// The audience; none: the catalogue's only one.
    pub audience: Option<Audience>,
    /// Life of each access token; none: the realm's default.
    pub access_ttl: Option<Seconds>,
    /// Absolute life of the session; none: the realm's maximum.
    pub session_ttl: Option<Seconds>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Fail unless every scope asked for is granted.
    pub require_all: bool,
    /// Give no refresh token.
    pub without_refresh: bool,
    /// Who may refresh the session.
    pub refreshable: Refreshable,
}

/// How often a request is decided anew because another policy was put in force before its commit.
pub(crate) const DECISIONS_MAX: usize = 5;

/// What was issued.
#[derive(Debug)]
pub struct Issued {
    /// The tokens.
    pub tokens: TokenSet,
    /// The session.
    pub session: SessionId,
    /// Scopes asked for and not granted, with the reason.
    pub denied: Vec<(Scope, String)>,
    /// The policy that decided.
    pub policy: tessera_core::PolicyRevision,
    /// The decision.
    pub decision: DecisionId,
}

/// What the commit of an Issue came to.
enum Outcome {
    Made(Committed),
    Repeated(Committed),
    Mismatch,
    /// The session was refreshed since.
    Refreshed,
    Ended,
    CredentialEnded,
    SessionsUsed,
    PolicyChanged,
}

impl Authority {
    /// Begins a session.
    ///
    /// # Errors
    /// See [`IssueError`]: nothing is stored where it fails.
    pub async fn issue(&self, principal: &Principal, request: &IssueRequest) -> Result<Issued, IssueError> {
        for _ in 0..DECISIONS_MAX {
            if let Some(issued) = self.issue_by(self.deciding(), principal, request).await? {
                return Ok(issued);
            }
        }
        Err(Unavailable::PolicyChanging.into())
    }

    /// None where another policy was put in force before the commit: nothing happened.
    async fn issue_by(
        &self,
        deciding: Deciding,
        principal: &Principal,
        request: &IssueRequest,
    ) -> Result<Option<Issued>, IssueError> {
        self.check_is_last()?;
        let plan = Plan::check(principal, request, deciding.policy().catalogue())?;
        let bearer = Bearer {
            realm: principal.realm_name(),
            client: principal.client(),
            subject: &plan.subject,
            roles: &request.roles,
        };
        let now = self.clock.now();
        let decision = DecisionId::generate(now, random()?);
        let grant = match decide(deciding.policy(), &bearer, request) {
            Ok(grant) => grant,
            Err(denial) => {
                // Where the client may not speak for the bearer, that is why nothing is granted.
                let refused = bearer.check(deciding.policy()).err();
                let denied = self.deny(principal, request, &bearer, denial, refused, decision);
                return Err(denied.await);
            }
        };

        let id = SessionId::generate(now, random()?);
        let secret = self.first_secret(principal, request, id)?;
        let token_id = TokenId::generate(now, random()?);
        let session = plan.into_session(principal, request, &grant, id, secret.as_ref(), now);
        let scopes_are_named = !request.scopes.is_empty();
        self.check_size::<IssueError>(principal.realm(), &session, &grant, scopes_are_named)?;
        let commit = IssueCommit {
            deciding,
            idempotency: request.request_id.map(|id| {
                let key = RequestKey {
                    realm: principal.realm_name().clone(),
                    client: principal.client().clone(),
                    request: id,
                };
                (key, digest(principal, request))
            }),
            actor: principal.actor(),
            request: request.request_id,
            denied: grant.denied_scopes(),
            decision,
            sessions_max: principal.realm().limits.sessions_per_client_max,
            session,
            token_id,
            now,
        };
        let outcome = self.store.transact(move |tx| commit.commit(tx)).await?;

        let committed = match outcome {
            Outcome::Made(committed) | Outcome::Repeated(committed) => committed,
            Outcome::Mismatch => return Err(IssueError::IdempotencyMismatch),
            Outcome::Ended => return Err(IssueError::SessionEnded),
            Outcome::Refreshed => return Err(IssueError::AlreadyRefreshed),
            Outcome::CredentialEnded => return Err(IssueError::CredentialEnded),
            Outcome::SessionsUsed => {
                let sessions_max = principal.realm().limits.sessions_per_client_max;
                return Err(IssueError::SessionsUsed { sessions_max });
            }
            Outcome::PolicyChanged => return Ok(None),
        };
        let (session, revision) = (committed.session.id, committed.policy.clone());
        tracing::debug!(%decision, policy = %revision, %session, "issued");
        let refresh = self.first_refresh_token(principal, request, &committed.session, secret)?;
        let tokens = self.mint(principal.realm(), committed, refresh.as_ref())?;
        Ok(Some(Issued {
            tokens,
            session,
            denied: grant.denied,
            policy: revision,
            decision,
        }))
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
        let recorded = self
            .record_denial(
                principal.identity(),
                request.request_id,
                bearer,
                &denial,
                None,
                decision,
            )
            .await;
        match (recorded, refused) {
            (Ok(()), Some(refused)) => IssueError::NotAllowed {
                refused,
                decision,
                policy: denial.policy,
            },
            (Ok(()), None) => IssueError::Denied {
                denied: denial.denied,
                partly: denial.partly,
                decision,
                policy: denial.policy,
            },
            (Err(error), _) => error.into(),
        }
    }

    /// The secret of generation 1: random, or derived where a retry must find it again.
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
        RefreshSecret::for_request(
            principal.credential(),
            self.server_keys.current(),
            session,
            request_id,
        )
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
    ) -> Result<Option<RefreshToken>, IssueError> {
        let secret = match request.request_id {
            Some(_) => self.first_secret(principal, request, session.id)?,
            None => secret,
        };
        Ok(secret.map(|secret| RefreshToken::first(session.id, secret, &self.server_keys)))
    }
}

/// A session on its way into the store.
struct IssueCommit {
    deciding: Deciding,
    /// Names the request that is made idempotent, and what it asked for.
    idempotency: Option<(RequestKey, [u8; 32])>,
    session: Session,
    token_id: TokenId,
    actor: Actor,
    request: Option<RequestId>,
    denied: ScopeSet,
    decision: DecisionId,
    sessions_max: u64,
    now: Timestamp,
}

impl IssueCommit {
    fn commit(&self, tx: &mut dyn Transaction) -> Result<Outcome, StoreError> {
        if !self.deciding.is_in_force() {
            return Ok(Outcome::PolicyChanged);
        }
        if tx
            .api_key(&self.session.api_key)?
            .is_none_or(|key| key.revoked_at.is_some())
            || tx.is_disabled(&self.session.realm, &self.session.client)?
        {
            // Revoked since the caller was let in: its revocation ended what it began, this included.
            return Ok(Outcome::CredentialEnded);
        }
        if let Some((key, digest)) = &self.idempotency
            && let Some(record) = tx.request(key)?.filter(|record| self.now < record.expires_at)
        {
            return if record.digest == *digest {
                self.repeat(tx, record.session)
            } else {
                Ok(Outcome::Mismatch)
            };
        }
        if tx.sessions_of(&self.session.realm, &self.session.client)? >= self.sessions_max {
            return Ok(Outcome::SessionsUsed);
        }
        if let Some((key, digest)) = &self.idempotency {
            let record = RequestRecord {
                digest: *digest,
                session: self.session.id,
                expires_at: self.now.plus(REQUEST_TTL),
            };
            tx.put_request(key, &record)?;
        }
        let session = Session {
            rev: tx.last_sequence(),
            ..self.session.clone()
        };
        tx.put_session(&session)?;
        let scopes = session.scopes.clone();
        Ok(Outcome::Made(self.committed(tx, session, scopes)?))
    }

    /// The session that the first request with this id began, with what policy grants of it now.
    fn repeat(&self, tx: &mut dyn Transaction, session: SessionId) -> Result<Outcome, StoreError> {
        let earlier = tx
            .session(session)?
            .filter(|session| session.condition(self.now) == Condition::Active)
            .filter(|session| tx.revokes_session(session).is_none());
        let Some(session) = earlier else {
            return Ok(Outcome::Ended);
        };
        let first = 1;
        if session
            .chain
            .as_ref()
            .is_some_and(|chain| chain.generation > first)
        {
            // The first refresh token is spent: to use it again would end the session.
            return Ok(Outcome::Refreshed);
        }
        let scopes = session.scopes.minus(&session.scopes.minus(&self.session.scopes));
        if scopes.is_empty() {
            return Ok(Outcome::Ended);
        }
        let given = session.regaining(&scopes);
        if given != session {
            tx.put_session(&given)?;
        }
        Ok(Outcome::Repeated(self.committed(tx, given, scopes)?))
    }

    /// Records the access token that is about to be signed, whether it is the session's first or not.
    fn committed(
        &self,
        tx: &mut dyn Transaction,
        session: Session,
        scopes: ScopeSet,
    ) -> Result<Committed, StoreError> {
        let policy = self.deciding.policy().revision().clone();
        tx.audit(&AuditRecord {
            at: self.now,
            realm: session.realm.clone(),
            actor: self.actor.clone(),
            request: self.request,
            action: AuditAction::Issued {
                session: session.id,
                token: self.token_id,
                subject: session.subject.clone(),
                audience: session.audience.clone(),
                roles: session.roles.clone(),
                scopes: scopes.clone(),
                denied: self.denied.clone(),
                decision: self.decision,
                policy: policy.clone(),
            },
        })?;
        Ok(Committed {
            token_id: self.token_id,
            scopes,
            policy,
            rev: tx.last_sequence(),
            at: self.now,
            session,
        })
    }
}

/// Asks policy for the scopes, or for all that the catalogue has.
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
        // Nobody asked for these by name, so their absence is no answer to anything.
        grant.denied.clear();
    }
    Ok(grant)
}

/// A request that fits the realm and the catalogue.
struct Plan {
    subject: Subject,
    audience: Audience,
    access_ttl: Seconds,
    session_ttl: Seconds,
}

impl Plan {
    fn check(
        principal: &Principal,
        request: &IssueRequest,
        catalogue: &Catalogue,
    ) -> Result<Self, IssueError> {
        let limits = &principal.realm().limits;
        for role in &request.roles {
            if !catalogue.has_role(role) {
                let nearest = catalogue.nearest_role(role.as_str());
                return Err(IssueError::RoleUnknown {
                    role: role.to_string(),
                    nearest,
                });
            }
        }
        for scope in request.scopes.iter() {
            if !catalogue.has_scope(scope) {
                let nearest = catalogue.nearest_scope(scope.as_str());
                return Err(IssueError::ScopeUnknown {
                    scope: scope.clone(),
                    nearest,
                });
            }
        }
        Ok(Self {
            subject: request
                .subject
                .clone()
                .unwrap_or_else(|| principal.client().to_subject()),
            audience: audience(request, catalogue)?,
            access_ttl: within(
                "access_ttl",
                request.access_ttl,
                limits.access_ttl_default,
                limits.access_ttl_max,
            )?,
            session_ttl: within(
                "session_ttl",
                request.session_ttl,
                limits.session_ttl_max,
                limits.session_ttl_max,
            )?,
        })
    }

    fn into_session(
        self,
        principal: &Principal,
        request: &IssueRequest,
        grant: &Grant,
        id: SessionId,
        secret: Option<&RefreshSecret>,
        now: Timestamp,
    ) -> Session {
        let limits = &principal.realm().limits;
        let absolute_until = if secret.is_some() {
            // Whole seconds, as access tokens have: the last refresh gives a token that is alive.
            now.floor_to_second().plus(self.session_ttl)
        } else {
            // Without a refresh token the session lives as long as its one access token.
            now.floor_to_second().plus(self.access_ttl.min(self.session_ttl))
        };
        Session {
            id,
            realm: principal.realm_name().clone(),
            client: principal.client().clone(),
            api_key: principal.api_key().clone(),
            subject: self.subject,
            roles: request.roles.clone(),
            scopes: grant.granted.clone(),
            audience: self.audience,
            labels: request.labels.clone(),
            refreshable: request.refreshable,
            access_ttl: self.access_ttl,
            tombstone_ttl: limits.access_ttl_max,
            created_at: now,
            idle_until: now.plus(limits.idle_ttl).min(absolute_until),
            absolute_until,
            rev: tessera_core::Sequence(0),
            policy: grant.revision.clone(),
            state: SessionState::Active,
            chain: secret.map(|secret| Chain {
                generation: 1,
                current: secret.hash(),
                previous: None,
            }),
            lost: ScopeSet::default(),
        }
    }
}

fn audience(request: &IssueRequest, catalogue: &Catalogue) -> Result<Audience, IssueError> {
    match &request.audience {
        Some(audience) if catalogue.has_audience(audience) => Ok(audience.clone()),
        Some(audience) => Err(IssueError::AudienceUnknown {
            audience: audience.to_string(),
            nearest: catalogue.nearest_audience(audience.as_str()),
        }),
        None => {
            let mut audiences = catalogue.audiences().iter();
            match (audiences.next(), audiences.next()) {
                (Some(only), None) => Ok(only.clone()),
                _ => Err(IssueError::Field {
                    field: "audience",
                    problem: "must be named, as the catalogue has several".to_owned(),
                }),
            }
        }
    }
}

fn within(
    field: &'static str,
    asked: Option<Seconds>,
    default: Seconds,
    max: Seconds,
) -> Result<Seconds, IssueError> {
    match asked {
        None => Ok(default.min(max)),
        Some(ttl) if ttl >= Seconds(1) && ttl <= max => Ok(ttl),
        Some(_) => Err(IssueError::Field {
            field,
            problem: format!("must be between 1s and {max}"),
        }),
    }
}

/// What makes two requests the same. The API key is part of it: a retry derives the first secret from it.
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
