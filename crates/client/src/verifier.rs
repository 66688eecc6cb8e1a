//! Verifying access tokens without a call.
//!
//! A follower task keeps the keys and the revocations of a realm up to date from the authority's stream. It pings at a
//! moment of its own monotonic clock; when the echo comes, everything durable before that moment has been applied. So a
//! verifier knows how stale it may be without synchronized clocks, and refuses beyond its bound.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tessera_core::{AccessClaims, Cursor, Scope, Sequence};
use tessera_proto::v1::{IntrospectRequest, IntrospectResponse};
use tessera_token::access;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    Client,
    connection::{CONNECT_TIMEOUT, ConnectionError},
};

mod decision;
mod follower;
mod following;
mod options;
mod session;
mod view;
mod wire;

pub use decision::{Decision, DenyReason, Mode};
pub use options::VerifierOptions;
use view::{Ahead, Shared};

/// Verifies access tokens. Cheap to clone; dropping the last clone ends the following.
#[derive(Clone)]
pub struct Verifier(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    client: Client,
    following: JoinHandle<()>,
}

/// The state of a verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierStatus {
    /// Whether it has received keys, a snapshot, and a first answer that says how fresh it is.
    pub is_ready: bool,
    /// Whether it is ready and within its staleness bound now: valid tokens are allowed.
    pub is_fresh: bool,
    /// How stale it may be; `None` before it is ready.
    pub behind: Option<Duration>,
    /// The last event of the revocation log that it has applied.
    pub through: Sequence,
    /// Revocations that it keeps.
    pub entries: usize,
    /// Why it does not follow now, for a log; `None` while it does.
    pub problem: Option<String>,
    /// The address that it follows, or is trying.
    pub address: String,
    /// Snapshots of the revocations that it received: one at its start, and one each time that the log no longer
    /// reached back to its position.
    pub snapshots: u64,
}

/// A verifier is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the verifier is not ready{}: {address}: {problem}", if *.is_permanent { ", and waiting does not help" } else { "" })]
pub struct NotReadyError {
    /// The address where that happened; all of them if none has answered yet.
    pub address: String,
    /// Why.
    pub problem: String,
    /// Whether waiting does not help: the API key, the policy or the options are wrong.
    pub is_permanent: bool,
}

/// A verifier can't wait for a position of the revocation log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppliedError {
    /// Not in the form of the authority's cursors.
    #[error("not a cursor: pass one on exactly as the authority gave it")]
    NotACursor,
    /// A cursor of another log than the followed one: of another authority, or of this one before its data was set up
    /// again.
    #[error("the cursor is of another revocation log than the one that this verifier follows")]
    OtherLog,
}

// === impl Verifier ===

impl Verifier {
    /// Begins to follow the authority. Needs a tokio runtime.
    ///
    /// # Errors
    /// Fails if the options are wrong; [`status`](Self::status) shows whether the authority answers.
    pub fn start(options: VerifierOptions) -> Result<Self, ConnectionError> {
        options.check()?;
        let client = Client::with_options(&options.connection, options.calls.clone())?;
        // A session gives up by itself, and earlier if another address is left to try.
        let nodes = options.connection.nodes(CONNECT_TIMEOUT)?;
        let credential = options.connection.credential()?;
        let shared = Arc::new(Shared::new(options));
        let following = tokio::spawn(follower::follow(Arc::clone(&shared), nodes, credential));
        Ok(Self(Arc::new(Handle {
            shared,
            client,
            following,
        })))
    }

    /// Ready when there are keys, a first snapshot, and a checkpoint that says how fresh it is.
    ///
    /// # Errors
    /// Fails with the reason: at once if waiting does not help, such as with a wrong API key, a policy that does not
    /// permit it to watch, or an unknown audience; and after `timeout`.
    pub async fn ready(&self, timeout: Duration) -> Result<(), NotReadyError> {
        let mut ready = self.0.shared.ready.subscribe();
        let mut problem = self.0.shared.problem.subscribe();
        let decided = async {
            tokio::select! {
                biased;
                // An error is impossible: the sender is in `self`.
                _ = ready.wait_for(|is_ready| *is_ready) => true,
                _ = problem.wait_for(|problem| problem.as_ref().is_some_and(|p| p.is_permanent)) => false,
            }
        };
        match tokio::time::timeout(timeout, decided).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(self.not_ready()),
        }
    }

    fn not_ready(&self) -> NotReadyError {
        let problem = self.0.shared.problem.borrow();
        NotReadyError {
            address: problem.as_ref().map_or_else(
                || self.0.shared.options.connection.addresses().to_string(),
                |problem| problem.address.clone(),
            ),
            problem: problem
                .as_ref()
                .map_or_else(|| "no answer yet".to_owned(), |problem| problem.text.clone()),
            is_permanent: problem.as_ref().is_some_and(|problem| problem.is_permanent),
        }
    }

    /// Whether it has ever been fresh.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.shared.ready.borrow()
    }

    /// Whether it is ready and within its staleness bound now: for a readiness page.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.status().is_fresh
    }

    /// Ready when this verifier has applied everything up to `cursor`, which `Revoke` gave: from then on it refuses
    /// what was revoked, so that a service sees its own revocations at once. It says nothing about other verifiers;
    /// `AwaitPropagation` does.
    ///
    /// It waits as long as the authority can't be followed: put a timeout around it.
    ///
    /// # Errors
    /// Fails if it can never be ready; see [`AppliedError`].
    pub async fn applied(&self, cursor: &str) -> Result<(), AppliedError> {
        let cursor = Cursor::parse(cursor).map_err(|_| AppliedError::NotACursor)?;
        let mut place = self.0.shared.place.subscribe();
        let is_decided = |place: &Option<Cursor>| {
            place.is_some_and(|p| p.log != cursor.log || p.sequence >= cursor.sequence)
        };
        // An error is impossible: the sender is in `self`.
        let reached = place
            .wait_for(is_decided)
            .await
            .is_ok_and(|place| place.is_some_and(|place| place.log == cursor.log));
        reached.then_some(()).ok_or(AppliedError::OtherLog)
    }

    /// Whether `token` is valid, and has the scope `required`; refuses when stale ([`Mode::FailClosed`]). A token that
    /// was issued a moment ago may have a position of the revocation log that this verifier has not reached yet: then
    /// it is [`Decision::Stale`]. [`verify_with`](Self::verify_with), which waits for that position, is better in this
    /// case.
    #[must_use]
    pub fn verify(&self, token: &str, required: Option<&Scope>) -> Decision {
        let bound = self.0.shared.options.bound;
        self.0.shared.decide(token, required, bound, Ahead::Refused)
    }

    /// As [`verify`](Self::verify), with another answer to staleness. It waits only when stale: [`Mode::Introspect`]
    /// for the authority's answer, and each mode for a moment if the token has a position of the revocation log that
    /// was not reached yet. A token that stays ahead, such as one with an invented claim, is never allowed.
    pub async fn verify_with(&self, token: &str, required: Option<&Scope>, mode: Mode) -> Decision {
        let bound = self.0.shared.options.bound;
        let (bound, since) = match mode {
            Mode::FailOpen { max } => (bound.max(max), Ahead::AllowedUnheard(Instant::now())),
            Mode::FailClosed | Mode::Introspect => (bound, Ahead::Refused),
        };
        let mut decision = self.0.shared.decide(token, required, bound, Ahead::Refused);
        if matches!(decision, Decision::Stale { .. }) {
            self.0.shared.catch_up(token).await;
            decision = self.0.shared.decide(token, required, bound, since);
        }
        match mode {
            Mode::FailClosed | Mode::FailOpen { .. } => decision,
            Mode::Introspect => match decision {
                stale @ Decision::Stale { .. } => self.introspect(token, required).await.unwrap_or(stale),
                decision => decision,
            },
        }
    }

    /// The current state.
    #[must_use]
    pub fn status(&self) -> VerifierStatus {
        let known = self.0.shared.followed();
        let behind = known
            .fresh_as_of
            .map(|fresh| Instant::now().saturating_duration_since(fresh));
        VerifierStatus {
            is_ready: self.is_ready(),
            is_fresh: behind.is_some_and(|behind| behind <= self.0.shared.options.bound),
            behind,
            through: known.revoked.entries.through(),
            entries: known.revoked.entries.len(),
            problem: self
                .0
                .shared
                .problem
                .borrow()
                .as_ref()
                .map(|problem| self.0.shared.told(problem)),
            address: {
                let addresses = self.0.shared.options.connection.addresses();
                let at = self.0.shared.at.load(Ordering::Relaxed);
                addresses.get(at).to_owned()
            },
            snapshots: known.snapshots,
        }
    }

    /// Asks the authority; `None` if it does not answer.
    async fn introspect(&self, token: &str, required: Option<&Scope>) -> Option<Decision> {
        let request = IntrospectRequest {
            token: token.to_owned(),
            ..IntrospectRequest::default()
        };
        match self.0.client.introspect(request).await {
            Ok(answer) => Some(self.decide_by_answer(token, &answer, required)),
            Err(error) => {
                tracing::warn!(%error, "the authority could not be asked about a token");
                None
            }
        }
    }

    /// The authority has verified this very token and says that it is active; audience and realm are checked here.
    fn decide_by_answer(
        &self,
        token: &str,
        answer: &IntrospectResponse,
        required: Option<&Scope>,
    ) -> Decision {
        let options = &self.0.shared.options;
        let Some((_, claims)) = access::unverified_claims(token).filter(|_| answer.active) else {
            return Decision::Deny(DenyReason::Inactive);
        };
        if claims.token_id.to_string() != answer.jti {
            return Decision::Deny(DenyReason::Inactive);
        }
        if claims.realm != options.realm {
            return Decision::Deny(DenyReason::WrongRealm);
        }
        if claims.audience != options.audience {
            return Decision::Deny(DenyReason::WrongAudience);
        }
        let scopes = answer.scope.split(' ').filter_map(|text| Scope::parse(text).ok());
        let left = AccessClaims {
            scopes: scopes.collect(),
            ..claims.clone()
        };
        match required.cloned() {
            Some(required) if !claims.scopes.contains(&required) => {
                Decision::Deny(DenyReason::ScopeMissing { required })
            }
            Some(required) if !left.scopes.contains(&required) => {
                Decision::Deny(DenyReason::ScopeTaken { required })
            }
            _ => Decision::Allow(Arc::new(left)),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("options", &self.0.shared.options)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.following.abort();
    }
}
