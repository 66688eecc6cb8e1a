//! A caller that loads a server: it makes a call, waits for the answer, and makes the next.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prost::Message;
use tessera_proto::v1::{
    IntrospectRequest, IssueRequest, IssueResponse, RefreshRequest, RevokeRequest, revoke_request::Target,
    token_service_client::TokenServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    echo::client::EchoClient,
    parcel::{Parcel, Sizes},
    rotation::Rotations,
    stage::Authorization,
};

type TokenClient = TokenServiceClient<Channel>;

/// A caller, and the data for its next call.
pub(crate) enum Caller {
    Echo(Echo),
    Issue(Issue),
    Refresh(Refresh),
    Introspect(Introspect),
    Revoke(Revoke),
    /// A row of the bare group program, without a server.
    Rotation(Arc<Rotations>),
}

impl Caller {
    /// Makes one call. `None` if no data is left for a call.
    pub(crate) async fn call(&mut self) -> Result<Option<Sizes>, Status> {
        match self {
            Self::Echo(echo) => echo.call().await.map(Some),
            Self::Issue(issue) => issue.call().await.map(Some),
            Self::Refresh(refresh) => refresh.call().await.map(Some),
            Self::Introspect(introspect) => introspect.call().await,
            Self::Revoke(revoke) => revoke.call().await,
            Self::Rotation(rotations) => rotations.rotate().await.map(|()| Some(Sizes::default())),
        }
    }
}

/// Sends a parcel and gets one back.
pub(crate) struct Echo {
    client: EchoClient,
    authorization: Authorization,
    parcel: Parcel,
}

impl Echo {
    pub(crate) fn new(channel: Channel, authorization: Authorization, sizes: Sizes) -> Self {
        Self {
            client: EchoClient::new(channel),
            authorization,
            parcel: Parcel::request(sizes),
        }
    }

    async fn call(&mut self) -> Result<Sizes, Status> {
        let answer = self
            .client
            .echo(self.authorization.on(self.parcel.clone()))
            .await?;
        Ok(Sizes {
            request: self.parcel.encoded_len(),
            answer: answer.encoded_len(),
        })
    }
}

/// Begins sessions, each with a different subject.
pub(crate) struct Issue {
    client: TokenClient,
    authorization: Authorization,
    number: usize,
    begun: usize,
    without_refresh: bool,
    /// The answers, if they are needed later.
    kept: Option<Vec<IssueResponse>>,
}

impl Issue {
    pub(crate) fn new(channel: Channel, authorization: Authorization, number: usize) -> Self {
        Self {
            client: TokenClient::new(channel),
            authorization,
            number,
            begun: 0,
            without_refresh: false,
            kept: None,
        }
    }

    /// Begins sessions without a refresh token and keeps the answers.
    pub(crate) fn keeping_answers(self) -> Self {
        Self {
            without_refresh: true,
            kept: Some(Vec::new()),
            ..self
        }
    }

    pub(crate) fn into_answers(self) -> Vec<IssueResponse> {
        self.kept.unwrap_or_default()
    }

    async fn call(&mut self) -> Result<Sizes, Status> {
        let (sizes, answer) = self.issue().await?;
        if let Some(kept) = &mut self.kept {
            kept.push(answer);
        }
        Ok(sizes)
    }

    /// Begins one session, and returns the whole answer.
    pub(crate) async fn issue(&mut self) -> Result<(Sizes, IssueResponse), Status> {
        self.begun += 1;
        let request = IssueRequest {
            subject: format!("user:{:05}-{:08}", self.number, self.begun),
            roles: vec!["role:editor".to_owned()],
            scopes: vec!["videos:read".to_owned(), "videos:write".to_owned()],
            audience: "api".to_owned(),
            without_refresh: self.without_refresh,
            ..IssueRequest::default()
        };
        let bytes = request.encoded_len();
        let answer = self
            .client
            .issue(self.authorization.on(request))
            .await?
            .into_inner();
        let sizes = Sizes {
            request: bytes,
            answer: answer.encoded_len(),
        };
        Ok((sizes, answer))
    }
}

/// Refreshes sessions of its own, one after the other.
pub(crate) struct Refresh {
    client: TokenClient,
    authorization: Authorization,
    /// The session whose turn is next comes first.
    tokens: VecDeque<String>,
}

impl Refresh {
    pub(crate) fn new(channel: Channel, authorization: Authorization, token: String) -> Self {
        Self::of(channel, authorization, VecDeque::from([token]))
    }

    pub(crate) fn of(channel: Channel, authorization: Authorization, tokens: VecDeque<String>) -> Self {
        Self {
            client: TokenClient::new(channel),
            authorization,
            tokens,
        }
    }

    pub(crate) fn into_tokens(self) -> VecDeque<String> {
        self.tokens
    }

    async fn call(&mut self) -> Result<Sizes, Status> {
        let request = RefreshRequest {
            refresh_token: self.tokens.pop_front().unwrap_or_default(),
            ..RefreshRequest::default()
        };
        let bytes = request.encoded_len();
        let answer = self
            .client
            .refresh(self.authorization.on(request))
            .await?
            .into_inner();
        let sizes = Sizes {
            request: bytes,
            answer: answer.encoded_len(),
        };
        self.tokens
            .push_back(answer.tokens.unwrap_or_default().refresh_token);
        Ok(sizes)
    }
}

/// Introspects tokens that all callers share.
pub(crate) struct Introspect {
    client: TokenClient,
    authorization: Authorization,
    tokens: Arc<Tokens>,
}

impl Introspect {
    pub(crate) fn new(channel: Channel, authorization: Authorization, tokens: Arc<Tokens>) -> Self {
        Self {
            client: TokenClient::new(channel),
            authorization,
            tokens,
        }
    }

    async fn call(&mut self) -> Result<Option<Sizes>, Status> {
        let Some(token) = self.tokens.next() else {
            return Ok(None);
        };
        let request = IntrospectRequest {
            token: token.to_owned(),
            ..IntrospectRequest::default()
        };
        let bytes = request.encoded_len();
        let answer = self
            .client
            .introspect(self.authorization.on(request))
            .await?
            .into_inner();
        if !answer.active {
            // A refusal is cheaper than an answer, and would improve the figure.
            return Err(Status::internal("a token that was just issued is not active"));
        }
        Ok(Some(Sizes {
            request: bytes,
            answer: answer.encoded_len(),
        }))
    }
}

/// Ends sessions that all callers share, each once.
pub(crate) struct Revoke {
    client: TokenClient,
    authorization: Authorization,
    sessions: Arc<Tokens>,
}

impl Revoke {
    pub(crate) fn new(channel: Channel, authorization: Authorization, sessions: Arc<Tokens>) -> Self {
        Self {
            client: TokenClient::new(channel),
            authorization,
            sessions,
        }
    }

    async fn call(&mut self) -> Result<Option<Sizes>, Status> {
        let Some(session) = self.sessions.next() else {
            return Ok(None);
        };
        let request = RevokeRequest {
            target: Some(Target::SessionId(session.to_owned())),
            ..RevokeRequest::default()
        };
        let bytes = request.encoded_len();
        let answer = self
            .client
            .revoke(self.authorization.on(request))
            .await?
            .into_inner();
        if answer.matched != 1 {
            return Err(Status::internal("a session that was just begun is not there"));
        }
        Ok(Some(Sizes {
            request: bytes,
            answer: answer.encoded_len(),
        }))
    }
}

/// Access tokens or sessions, returned in order.
pub(crate) struct Tokens {
    tokens: Vec<String>,
    next: AtomicUsize,
    again: bool,
}

impl Tokens {
    /// Each once.
    pub(crate) fn once(tokens: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            tokens,
            next: AtomicUsize::new(0),
            again: false,
        })
    }

    /// From the first again, after the last.
    pub(crate) fn again(tokens: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            tokens,
            next: AtomicUsize::new(0),
            again: true,
        })
    }

    fn next(&self) -> Option<&str> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let index = if self.again {
            next.checked_rem(self.tokens.len())?
        } else {
            next
        };
        self.tokens.get(index).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_given_once_or_again() {
        let two = || vec!["a".to_owned(), "b".to_owned()];
        let once = Tokens::once(two());
        assert_eq!(
            [once.next(), once.next(), once.next()],
            [Some("a"), Some("b"), None]
        );
        let again = Tokens::again(two());
        assert_eq!(
            [again.next(), again.next(), again.next()],
            [Some("a"), Some("b"), Some("a")]
        );
        assert_eq!(Tokens::again(Vec::new()).next(), None);
    }
}
