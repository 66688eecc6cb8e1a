//! A source of access tokens that are always valid.
//!
//! One task makes every call, so callers can't stampede: they read what it published, or wait for it. Expiry is
//! `expires_in` on the monotonic clock from when the request was sent, never by the wall clock.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tessera_proto::v1::{IssueRequest, RefreshRequest, TokenSet};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use zeroize::Zeroizing;

use crate::{
    Client,
    calls::Answered,
    error::{CallError, ErrorKind},
    problem_log::ProblemLog,
    retry::{Backoff, fraction},
};

const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// The shortest time between two renewals, for tokens with a very short lifetime.
const RENEWAL_PAUSE: Duration = Duration::from_millis(250);
/// How long a permanent error is returned before the authority is asked again: an operator may fix it.
const PERMANENT_FOR: Duration = Duration::from_secs(30);
/// The shortest time between two tokens that are given up because a service refused them: a service that always refuses
/// causes no more calls than this.
const INVALIDATION_PAUSE: Duration = Duration::from_secs(10);

/// Which tokens to get, as in an [`IssueRequest`].
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    /// The subject. Empty: the client itself.
    pub subject: String,
    /// Roles to assert.
    pub roles: Vec<String>,
    /// Scopes. Empty: all that policy grants.
    pub scopes: Vec<String>,
    /// The audience.
    pub audience: String,
    /// The lifetime of each access token, in whole seconds. `None`: the realm's default.
    pub access_ttl: Option<Duration>,
    /// Labels.
    pub labels: Vec<String>,
    /// Fail unless every scope is granted.
    pub require_all: bool,
}

/// An access token. Its `Debug` output does not show it.
#[derive(Clone)]
pub struct AccessToken {
    text: Arc<Zeroizing<String>>,
    scopes: Arc<[String]>,
    valid_until: Instant,
}

/// There is no valid token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// Policy, the request or the API key prevents it: waiting does not help.
    #[error("no token, and waiting does not help: {0}")]
    Permanent(CallError),
    /// The authority did not answer, or is not able to now.
    #[error("no token now: {0}")]
    Passing(CallError),
    /// The runtime that renews is shutting down.
    #[error("the runtime that renews tokens is gone")]
    Stopped,
}

/// Provides a valid access token at any time. Cheap to clone; dropping the last clone ends the renewal.
///
/// The first [`token`](Self::token) issues. At two thirds of a token's lifetime it is renewed in the background, while
/// the old one is served. If the session has ended, a new one is issued with the API key. After a temporary error the
/// old token stays in use for as long as it lives. Requests get the token from [`AttachToken`](crate::AttachToken), or
/// by hand:
///
/// ```no_run
/// # async fn caller(client: tessera_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use tessera_client::{TokenRequest, TokenSource};
///
/// let tokens = TokenSource::new(client, TokenRequest {
///     audience: "api".to_owned(),
///     ..TokenRequest::default()
/// });
/// let header = format!("Bearer {}", tokens.token().await?.expose());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenSource(Arc<Handle>);

struct Handle {
    state: watch::Receiver<State>,
    /// Held by the renewing task: if it is gone, callers see that no task renews.
    publish: Weak<watch::Sender<State>>,
    demand: Arc<Notify>,
    invalidated_at: Mutex<Option<Instant>>,
    renewing: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    /// No token was requested yet, or the last token was given up.
    Empty,
    Have(AccessToken),
    /// The last attempt failed; there is no new attempt before `until`.
    Failed {
        error: TokenError,
        until: Instant,
    },
}

// === impl TokenSource ===

impl TokenSource {
    /// A source; nothing is called before the first [`token`](Self::token). Needs a tokio runtime.
    #[must_use]
    pub fn new(client: Client, request: TokenRequest) -> Self {
        let (publish, state) = watch::channel(State::Empty);
        let publish = Arc::new(publish);
        let demand = Arc::new(Notify::new());
        let renewer = Renewer {
            client,
            request,
            refresh_token: None,
            publish: Arc::clone(&publish),
            demand: Arc::clone(&demand),
            problems: ProblemLog::new("renewing the access token failed", "the access token is renewed"),
        };
        let renewing = tokio::spawn(renewer.run());
        Self(Arc::new(Handle {
            state,
            publish: Arc::downgrade(&publish),
            demand,
            invalidated_at: Mutex::default(),
            renewing,
        }))
    }

    /// A valid token: at once if there is one, otherwise when the running call has answered.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn token(&self) -> Result<AccessToken, TokenError> {
        let mut state = self.0.state.clone();
        let mut has_asked = false;
        loop {
            if let Some(answer) = state.borrow_and_update().answer(Instant::now(), has_asked) {
                return answer;
            }
            self.0.demand.notify_one();
            has_asked = true;
            if state.changed().await.is_err() {
                return Err(TokenError::Stopped);
            }
        }
    }

    /// Gives `token` up, because a service refused it: most likely it was revoked. The next [`token`](Self::token)
    /// waits for a new one, from the same session if it is still alive.
    ///
    /// Does nothing if `token` is no longer the current one, so that many callers that are refused at once cost one
    /// call. Also does nothing within 10 s of the last token that was given up, so that a service that refuses every
    /// token can't make this one call the authority endlessly.
    pub fn invalidate(&self, token: &AccessToken) {
        let Some(publish) = self.0.publish.upgrade() else {
            return;
        };
        publish.send_if_modified(|state| {
            let is_current = matches!(state, State::Have(current) if current.is(token));
            if !is_current || !self.0.may_invalidate(Instant::now()) {
                return false;
            }
            tracing::info!("a service refused the access token: the next caller gets a new one");
            *state = State::Empty;
            true
        });
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

impl Handle {
    /// Whether the last token was given up long enough ago; if so, records that another one is given up now.
    fn may_invalidate(&self, now: Instant) -> bool {
        let mut last = self.invalidated_at.lock();
        let may = last.is_none_or(|last| now >= last + INVALIDATION_PAUSE);
        if may {
            *last = Some(now);
        }
        may
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl State {
    /// What a caller gets now; `None`: it must wait. A caller that has waited gets a failure of any age.
    fn answer(&self, now: Instant, has_waited: bool) -> Option<Result<AccessToken, TokenError>> {
        match self {
            Self::Have(token) if now < token.valid_until => Some(Ok(token.clone())),
            Self::Failed { error, until } if has_waited || now < *until => Some(Err(error.clone())),
            Self::Empty | Self::Have(_) | Self::Failed { .. } => None,
        }
    }
}

// === impl AccessToken ===

impl AccessToken {
    fn new(tokens: TokenSet, sent_at: Instant) -> Self {
        Self {
            text: Arc::new(Zeroizing::new(tokens.access_token)),
            scopes: tokens.scopes.into(),
            valid_until: sent_at + Duration::from_secs(tokens.expires_in.into()),
        }
    }

    /// Whether both are the same token (not only the same text).
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text)
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its scopes, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// The remaining lifetime.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.valid_until.saturating_duration_since(Instant::now())
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("scopes", &self.scopes)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

// === the task that makes every call ===

struct Renewer {
    client: Client,
    request: TokenRequest,
    refresh_token: Option<Zeroizing<String>>,
    publish: Arc<watch::Sender<State>>,
    demand: Arc<Notify>,
    problems: ProblemLog,
}

impl Renewer {
    async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF, BACKOFF_MAX);
        self.demand.notified().await;
        loop {
            match self.obtain().await {
                Ok(Answered { answer, sent_at }) => {
                    backoff.reset();
                    self.problems.worked();
                    let token = AccessToken::new(answer, sent_at);
                    let renew_at = renewal(sent_at, token.valid_until);
                    self.publish.send_replace(State::Have(token));
                    self.rest(renew_at.max(Instant::now() + RENEWAL_PAUSE)).await;
                }
                Err(error) => self.failed(error, backoff.wait()).await,
            }
        }
    }

    /// Waits until it is time to renew, or until a caller needs a token and the current one was given up.
    async fn rest(&self, renew_at: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(renew_at) => return,
                // Callers that waited for the current token have left a demand: it is met.
                () = self.demand.notified() => {
                    if matches!(*self.publish.borrow(), State::Empty) {
                        return;
                    }
                }
            }
        }
    }

    /// Tells the waiting callers, unless the old token is still valid; then waits until it is time to try again.
    async fn failed(&mut self, error: CallError, wait: Duration) {
        self.problems.failed(&error);
        let now = Instant::now();
        let wait = wait.max(error.retry_after().unwrap_or_default());
        if error.kind() != ErrorKind::Passing {
            let until = now + PERMANENT_FOR;
            let error = TokenError::Permanent(error);
            self.publish.send_replace(State::Failed { error, until });
            return self.demanded_after(until).await;
        }
        let until = now + wait;
        let valid_until = match &*self.publish.borrow() {
            State::Have(token) => Some(token.valid_until).filter(|end| now < *end),
            State::Empty | State::Failed { .. } => None,
        };
        if let Some(valid_until) = valid_until {
            return sleep_until(until.min(valid_until)).await;
        }
        let error = TokenError::Passing(error);
        self.publish.send_replace(State::Failed { error, until });
        self.demanded_after(until).await;
    }

    async fn demanded_after(&self, until: Instant) {
        sleep_until(until).await;
        self.demand.notified().await;
    }

    /// The successor of the session, or a new session if there is none any longer.
    async fn obtain(&mut self) -> Result<Answered<TokenSet>, CallError> {
        if let Some(refresh_token) = &self.refresh_token {
            let request = RefreshRequest {
                refresh_token: refresh_token.to_string(),
                ..RefreshRequest::default()
            };
            match self.client.refresh_timed(request).await {
                Ok(Answered { answer, sent_at }) => return self.take(answer.tokens, sent_at),
                Err(error) if error.kind() == ErrorKind::SignIn => {
                    tracing::info!(%error, "the session is gone: a new one is issued");
                    self.refresh_token = None;
                }
                Err(error) => return Err(error),
            }
        }
        let issued = self.client.issue_timed(self.issue_request()).await?;
        self.take(issued.answer.tokens, issued.sent_at)
    }

    fn take(&mut self, tokens: Option<TokenSet>, sent_at: Instant) -> Result<Answered<TokenSet>, CallError> {
        let mut tokens = tokens.ok_or_else(|| CallError::protocol("an answer without tokens"))?;
        let refresh_token = std::mem::take(&mut tokens.refresh_token);
        self.refresh_token = (!refresh_token.is_empty()).then(|| Zeroizing::new(refresh_token));
        Ok(Answered {
            answer: tokens,
            sent_at,
        })
    }

    fn issue_request(&self) -> IssueRequest {
        let TokenRequest {
            subject,
            roles,
            scopes,
            audience,
            access_ttl,
            labels,
            require_all,
        } = self.request.clone();
        IssueRequest {
            subject,
            roles,
            scopes,
            audience,
            access_ttl: access_ttl.map(|ttl| prost_types::Duration {
                seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
                nanos: 0,
            }),
            labels,
            require_all,
            ..IssueRequest::default()
        }
    }
}

/// At two thirds of the lifetime, plus or minus a tenth of that.
fn renewal(sent_at: Instant, valid_until: Instant) -> Instant {
    let life = valid_until.saturating_duration_since(sent_at);
    sent_at + life.mul_f64((0.9 + 0.2 * fraction()) * 2.0 / 3.0)
}
