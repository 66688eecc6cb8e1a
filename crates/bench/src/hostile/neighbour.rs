//! A neighbour with a valid API key that attacks.

use std::time::Duration;

use tessera_proto::v1::{
    AwaitPropagationRequest, CreateApiKeyRequest, IntrospectManyRequest, IssueRequest, ListSessionsRequest,
    PlanRequest, PolicyFile, RevokeRequest, RollApiKeyRequest, WatchRequest, WatchStart,
    api_key_service_client::ApiKeyServiceClient, list_sessions_request::By,
    policy_service_client::PolicyServiceClient, revocation_service_client::RevocationServiceClient,
    revoke_request::Target, session_service_client::SessionServiceClient,
    token_service_client::TokenServiceClient, watch_request::Message, watch_start::From,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{announcement::announce, way::Way};
use crate::{arguments::HostileLoad, failure::Failure, stage::Authorization};

/// The number of connections, and of calls at once on each.
const CONNECTIONS: usize = 16;
const CALLS: usize = 32;
/// The neighbour's sessions, if the way needs some.
const SESSIONS: usize = 5000;
/// The pause of every way after a refusal, so that the load is more than refusals.
const PAUSE: Duration = Duration::from_millis(5);

const CLIENT: &str = "client:dev";

/// The data for the neighbour's calls.
#[derive(Clone)]
struct Neighbour {
    channel: Channel,
    authorization: Authorization,
    /// One of its tokens, with a wrong signature.
    forged: String,
    /// A position of the log that a subscriber will never acknowledge.
    cursor: String,
}

/// Calls in the given way, again and again.
pub(super) async fn call(way: Way, arguments: &HostileLoad) -> Result<(), Failure> {
    let endpoint = Endpoint::from_shared(arguments.url.clone());
    let endpoint = endpoint.map_err(|error| Failure::at("connecting", error))?;
    let authorization = arguments.authorization()?;
    let first = connect(&endpoint).await?;
    let neighbour = Neighbour::prepare(way, first, authorization).await?;
    let mut calls = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let neighbour = Neighbour {
            channel: connect(&endpoint).await?,
            ..neighbour.clone()
        };
        for _ in 0..CALLS {
            let neighbour = neighbour.clone();
            calls.spawn(async move {
                loop {
                    if neighbour.call(way).await.is_err() {
                        sleep(PAUSE).await;
                    }
                }
            });
        }
    }
    sleep(Duration::from_secs(1)).await;
    announce();
    while calls.join_next().await.is_some() {}
    Ok(())
}

async fn connect(endpoint: &Endpoint) -> Result<Channel, Failure> {
    let channel = endpoint.connect().await;
    channel.map_err(|error| Failure::at("connecting", error))
}

impl Neighbour {
    async fn prepare(way: Way, channel: Channel, authorization: Authorization) -> Result<Self, Failure> {
        let mut neighbour = Self {
            channel,
            authorization,
            forged: String::new(),
            cursor: String::new(),
        };
        let sessions = if matches!(way, Way::Previews | Way::Lists) {
            SESSIONS
        } else {
            1
        };
        let mut begun = 0;
        while begun < sessions {
            match neighbour.issue("videos:read").await {
                Ok(token) => {
                    neighbour.forged = forge(&token);
                    begun += 1;
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
        if way == Way::Waits {
            let prepared = neighbour.wait_for_nobody().await;
            neighbour.cursor = prepared.map_err(|status| Failure::at("preparing", status))?;
        }
        Ok(neighbour)
    }

    async fn call(&self, way: Way) -> Result<(), Status> {
        let authorization = &self.authorization;
        match way {
            Way::Unfinished | Way::Unread => Ok(()),
            Way::Waits => {
                let cursor = self.cursor.clone();
                let request = authorization.on(AwaitPropagationRequest { cursor });
                let mut client = RevocationServiceClient::new(self.channel.clone());
                client.await_propagation(request).await.map(drop)
            }
            Way::Previews => {
                let request = RevokeRequest {
                    validate_only: true,
                    target: Some(Target::Client(CLIENT.to_owned())),
                    ..RevokeRequest::default()
                };
                self.tokens().revoke(authorization.on(request)).await.map(drop)
            }
            Way::Plans => self.plan(1000).await,
            Way::Policies => self.plan(1_000_000).await,
            Way::Lists => {
                let request = ListSessionsRequest {
                    by: Some(By::Client(CLIENT.to_owned())),
                    page_size: 500,
                    ..ListSessionsRequest::default()
                };
                let mut client = SessionServiceClient::new(self.channel.clone());
                client.list_sessions(authorization.on(request)).await.map(drop)
            }
            Way::Watches => self.watch().await,
            Way::Denied => self.issue("videos:nothing").await.map(drop),
            Way::Sessions => self.issue("videos:read").await.map(drop),
            Way::Keys => self.keys().await,
            Way::Forged => {
                let request = IntrospectManyRequest {
                    tokens: vec![self.forged.clone(); 100],
                    ..IntrospectManyRequest::default()
                };
                self.tokens()
                    .introspect_many(authorization.on(request))
                    .await
                    .map(drop)
            }
        }
    }

    fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    async fn issue(&self, scope: &str) -> Result<String, Status> {
        let request = IssueRequest {
            scopes: vec![scope.to_owned()],
            ..IssueRequest::default()
        };
        let answer = self.tokens().issue(self.authorization.on(request)).await?;
        Ok(answer
            .into_inner()
            .tokens
            .map_or_else(String::new, |tokens| tokens.access_token))
    }

    async fn plan(&self, bytes: usize) -> Result<(), Status> {
        let rule = "p, role:viewer, *, videos, read, allow\n";
        let file = PolicyFile {
            name: "policy.csv".to_owned(),
            content: rule.repeat(bytes / rule.len()).into_bytes(),
        };
        let request = PlanRequest { files: vec![file] };
        let mut client = PolicyServiceClient::new(self.channel.clone());
        client.plan(self.authorization.on(request)).await.map(drop)
    }

    async fn keys(&self) -> Result<(), Status> {
        let mut client = ApiKeyServiceClient::new(self.channel.clone());
        let request = CreateApiKeyRequest {
            name: "neighbour".to_owned(),
            ..CreateApiKeyRequest::default()
        };
        let made = client.create_api_key(self.authorization.on(request)).await?;
        let id = made.into_inner().api_key.map_or_else(String::new, |key| key.id);
        let request = RollApiKeyRequest {
            id,
            ..RollApiKeyRequest::default()
        };
        client
            .roll_api_key(self.authorization.on(request))
            .await
            .map(drop)
    }

    /// Reads the beginning of a watch, and leaves.
    async fn watch(&self) -> Result<(), Status> {
        let start = WatchStart {
            from: Some(From::Snapshot(true)),
            ..WatchStart::default()
        };
        let messages = tokio_stream::iter([WatchRequest {
            message: Some(Message::Start(start)),
        }]);
        let mut client = RevocationServiceClient::new(self.channel.clone());
        let answer = client.watch(self.authorization.on(messages)).await?;
        answer.into_inner().message().await.map(drop)
    }

    /// Begins a required watch that acknowledges nothing, and returns a position that it will never reach.
    async fn wait_for_nobody(&self) -> Result<String, Status> {
        let start = WatchStart {
            from: Some(From::Latest(true)),
            subscriber: "silent".to_owned(),
            required: true,
            ..WatchStart::default()
        };
        let first = WatchRequest {
            message: Some(Message::Start(start)),
        };
        let messages = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
        let mut client = RevocationServiceClient::new(self.channel.clone());
        let mut stream = client.watch(self.authorization.on(messages)).await?.into_inner();
        stream.message().await?;
        tokio::spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
        let request = RevokeRequest {
            target: Some(Target::Subject("user:nobody".to_owned())),
            ..RevokeRequest::default()
        };
        let revoked = self.tokens().revoke(self.authorization.on(request)).await?;
        Ok(revoked.into_inner().cursor)
    }
}

/// The same token with another signature.
fn forge(token: &str) -> String {
    let Some((content, footer)) = token.rsplit_once('.') else {
        return token.to_owned();
    };
    let mut content = content.to_owned();
    let last = content.pop();
    content.push(if last == Some('A') { 'B' } else { 'A' });
    format!("{content}.{footer}")
}
