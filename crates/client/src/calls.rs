//! Typed calls, each with a deadline, retried only where a retry is safe.

use std::{sync::Arc, time::Duration};

use tessera_proto::v1::{
    AwaitPropagationRequest, AwaitPropagationResponse, IntrospectManyRequest, IntrospectManyResponse,
    IntrospectRequest, IntrospectResponse, IssueRequest, IssueResponse, ListKeysRequest, RefreshRequest,
    RefreshResponse, RevokeRequest, RevokeResponse, VerifyingKey, key_service_client::KeyServiceClient,
    revocation_service_client::RevocationServiceClient, token_service_client::TokenServiceClient,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status, service::interceptor::InterceptedService, transport::Channel};
use uuid::Uuid;

use crate::{
    addresses::{Addresses, Round},
    connection::{Authorized, CONNECT_TIMEOUT, Connection, ConnectionError, Credential, Node},
    diagnosis::Plaintext,
    error::{CallError, reason_of},
    retry::Backoff,
};

const KEYS_PAGE: u32 = 500;
/// More pages than any realm has: a server that never ends its list is not followed forever.
const KEY_PAGES_MAX: usize = 100;

/// The options of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The longest time of a call with all its retries. 10 s.
    pub deadline: Duration,
    /// The wait before the first retry, doubled with each. 50 ms.
    pub backoff: Duration,
    /// The longest wait between two attempts, unless the authority asks for more. 2 s.
    pub backoff_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// Calls an authority. Cheap to clone; clones share a connection to each address, which is made when it is needed.
///
/// UNAVAILABLE and ABORTED are retried with backoff until the deadline, waiting at least as long as the authority asks;
/// nothing else is. If there are several addresses, UNAVAILABLE is retried at the next one, at once until each was
/// tried. An attempt that the deadline cuts off ends with DEADLINE_EXCEEDED, and the message says how the attempt
/// before it failed; if there was no answer, the next call begins at another address. If the deadline leaves no time
/// for a retry, the call ends at once with the last failure.
#[derive(Clone)]
pub struct Client {
    addresses: Addresses,
    services: Arc<[Services]>,
    options: ClientOptions,
}

/// The services at one address.
struct Services {
    tokens: TokenServiceClient<Authorized>,
    revocations: RevocationServiceClient<Authorized>,
    keys: KeyServiceClient<Channel>,
    plaintext: Option<Plaintext>,
}

/// An answer, with the time at which its request was sent.
pub(crate) struct Answered<A> {
    pub(crate) answer: A,
    pub(crate) sent_at: Instant,
}

impl Client {
    /// A client with the default [`ClientOptions`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// Fails if the connection is misconfigured; only a call shows whether the authority answers.
    pub fn new(connection: &Connection) -> Result<Self, ConnectionError> {
        Self::with_options(connection, ClientOptions::default())
    }

    /// A client with these options.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_options(connection: &Connection, options: ClientOptions) -> Result<Self, ConnectionError> {
        let addresses = connection.addresses().clone();
        let credential = connection.credential()?;
        let nodes = connection.nodes(connect_timeout(&addresses, options.deadline))?;
        let services = nodes.into_iter().map(|node| Services::new(node, &credential));
        Ok(Self {
            addresses,
            services: services.collect(),
            options,
        })
    }

    /// Starts a session. Without a `request_id` it gets a random one, so that a retry whose first answer
    /// was lost gives the same session.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn issue(&self, request: IssueRequest) -> Result<IssueResponse, CallError> {
        Ok(self.issue_timed(request).await?.answer)
    }

    /// Spends a refresh token. Retries are safe: within the grace window they give the same successor.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn refresh(&self, request: RefreshRequest) -> Result<RefreshResponse, CallError> {
        Ok(self.refresh_timed(request).await?.answer)
    }

    /// Returns the content of a token, and whether it is active.
    ///
    /// # Errors
    /// See [`CallError`]; an inactive token is not an error.
    pub async fn introspect(&self, request: IntrospectRequest) -> Result<IntrospectResponse, CallError> {
        let call = |request, to: &Services| {
            let mut to = to.tokens.clone();
            async move { to.introspect(request).await }
        };
        self.retried(request, call).await.map(|a| a.answer)
    }

    /// The same for up to 100 tokens; the results have the order of the tokens.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn introspect_many(
        &self,
        request: IntrospectManyRequest,
    ) -> Result<IntrospectManyResponse, CallError> {
        let call = |request, to: &Services| {
            let mut to = to.tokens.clone();
            async move { to.introspect_many(request).await }
        };
        self.retried(request, call).await.map(|a| a.answer)
    }

    /// Ends a token, a session, or everything of a subject, client, API key, label, key or realm.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revoke(&self, request: RevokeRequest) -> Result<RevokeResponse, CallError> {
        let call = |request, to: &Services| {
            let mut to = to.tokens.clone();
            async move { to.revoke(request).await }
        };
        self.retried(request, call).await.map(|a| a.answer)
    }

    /// Returns when every required subscriber has the position of `cursor`, or refuses by itself.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn await_propagation(&self, cursor: &str) -> Result<AwaitPropagationResponse, CallError> {
        let request = AwaitPropagationRequest {
            cursor: cursor.to_owned(),
        };
        let call = |request, to: &Services| {
            let mut to = to.revocations.clone();
            async move { to.await_propagation(request).await }
        };
        self.retried(request, call).await.map(|a| a.answer)
    }

    /// All verifying keys of a realm.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list_keys(&self, realm: &str) -> Result<Vec<VerifyingKey>, CallError> {
        let mut keys = Vec::new();
        let mut page_token = String::new();
        for _ in 0..KEY_PAGES_MAX {
            let request = ListKeysRequest {
                realm: realm.to_owned(),
                page_size: KEYS_PAGE,
                page_token,
            };
            let call = |request, to: &Services| {
                let mut to = to.keys.clone();
                async move { to.list_keys(request).await }
            };
            let page = self.retried(request, call).await?.answer;
            keys.extend(page.keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(keys);
            }
        }
        Err(CallError::protocol("the list of keys does not end"))
    }

    pub(crate) async fn issue_timed(
        &self,
        mut request: IssueRequest,
    ) -> Result<Answered<IssueResponse>, CallError> {
        if request.request_id.is_empty() {
            request.request_id = Uuid::new_v4().to_string();
        }
        let call = |request, to: &Services| {
            let mut to = to.tokens.clone();
            async move { to.issue(request).await }
        };
        self.retried(request, call).await
    }

    pub(crate) async fn refresh_timed(
        &self,
        request: RefreshRequest,
    ) -> Result<Answered<RefreshResponse>, CallError> {
        let call = |request, to: &Services| {
            let mut to = to.tokens.clone();
            async move { to.refresh(request).await }
        };
        self.retried(request, call).await
    }

    /// One call, with its retries.
    async fn retried<R: Clone, A, F>(
        &self,
        message: R,
        call: impl Fn(Request<R>, &Services) -> F,
    ) -> Result<Answered<A>, CallError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut round = Round::new(&self.addresses);
        let failed = match self.attempted(message, &mut round, call).await {
            Ok(answered) => {
                round.worked();
                return Ok(answered);
            }
            Err(failed) => failed,
        };
        let error = self.explained(failed.last).await;
        Err(match failed.cause {
            Some(cause) => error.after(&self.explained(cause).await),
            None => error,
        })
    }

    /// A failure, with what is known of the connection.
    async fn explained(&self, Failure { error, at }: Failure) -> CallError {
        let services = self.services.get(at);
        let error = error
            .diagnosed(services.and_then(|services| services.plaintext.as_ref()))
            .await;
        match self.addresses.are_several() {
            true => error.at(self.addresses.get(at)),
            false => error,
        }
    }

    /// The answer, or the failure of the call.
    async fn attempted<R: Clone, A, F>(
        &self,
        message: R,
        round: &mut Round,
        call: impl Fn(Request<R>, &Services) -> F,
    ) -> Result<Answered<A>, Failed>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let ends_at = Instant::now() + self.options.deadline;
        let mut backoff = Backoff::new(self.options.backoff, self.options.backoff_max);
        let mut asked = Duration::ZERO;
        let mut before: Option<Failure> = None;
        loop {
            let (sent_at, at) = (Instant::now(), round.at());
            let mut request = Request::new(message.clone());
            request.set_timeout(ends_at.saturating_duration_since(sent_at));
            let services = self.services.get(at);
            let services = services.ok_or_else(|| Failed::with(CallError::protocol("no address"), at))?;
            let (error, is_answer) = match timeout_at(ends_at, call(request, services)).await {
                Ok(Ok(response)) => {
                    return Ok(Answered {
                        answer: response.into_inner(),
                        sent_at,
                    });
                }
                Ok(Err(status)) => {
                    let is_answer = reason_of(&status).is_some();
                    (CallError::from(status), is_answer)
                }
                Err(_) => (CallError::deadline_exceeded(), false),
            };
            if is_deadline(&error, ends_at) {
                let error = match is_answer {
                    true => error,
                    false => {
                        // There was no answer: the node may be frozen.
                        self.addresses.leave(at);
                        CallError::deadline_exceeded()
                    }
                };
                return Err(Failed::cut_off(error, at, before));
            }
            asked = asked.max(error.retry_after().unwrap_or_default());
            // Other errors that are retried would be the same at another node.
            let is_time_to_wait = !error.is_of_node() || round.leave();
            let wait = match is_time_to_wait {
                true => backoff.wait().max(std::mem::take(&mut asked)),
                false => Duration::ZERO,
            };
            if !error.is_retried() || Instant::now() + wait >= ends_at {
                return Err(Failed::with(error, at));
            }
            tracing::debug!(%error, address = self.addresses.get(at), ?wait, "a call is tried again");
            before = Some(Failure { error, at });
            sleep(wait).await;
        }
    }
}

/// The failure of an attempt, and the number of its address.
struct Failure {
    error: CallError,
    at: usize,
}

/// The failure of a call.
struct Failed {
    last: Failure,
    /// The failure before an attempt that the deadline cut off.
    cause: Option<Failure>,
}

impl Failed {
    fn with(error: CallError, at: usize) -> Self {
        Self::cut_off(error, at, None)
    }

    fn cut_off(error: CallError, at: usize, cause: Option<Failure>) -> Self {
        let last = Failure { error, at };
        Self { last, cause }
    }
}

impl Services {
    fn new(node: Node, credential: &Credential) -> Self {
        let channel = node.endpoint.connect_lazy();
        let authorized = InterceptedService::new(channel.clone(), credential.clone());
        Self {
            tokens: TokenServiceClient::new(authorized.clone()),
            revocations: RevocationServiceClient::new(authorized),
            keys: KeyServiceClient::new(channel),
            plaintext: node.plaintext,
        }
    }
}

/// How long connecting may take: if there are several addresses, an unreachable one leaves a call the time to try the
/// others.
fn connect_timeout(addresses: &Addresses, deadline: Duration) -> Duration {
    if !addresses.are_several() {
        return CONNECT_TIMEOUT;
    }
    let parts = u32::try_from(addresses.count() + 1).unwrap_or(u32::MAX);
    CONNECT_TIMEOUT.min(deadline / parts)
}

/// Whether an attempt ended because the time was over: by our clock, or by the other side's, which may be a little
/// earlier. tonic's own timer calls that CANCELLED.
fn is_deadline(error: &CallError, ends_at: Instant) -> bool {
    match error.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => Instant::now() >= ends_at,
        _ => false,
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
