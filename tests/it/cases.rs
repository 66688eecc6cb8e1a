//! The use cases of Tessera, each end to end, on its policy under `policies/examples/`.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
};

use prost_types::Duration;
use tessera_proto::v1::{
    CreateApiKeyRequest, GetSessionRequest, IssueRequest, RevocationEvent, Session, TokenSet, WatchRequest,
    WatchResponse, WatchStart, api_key_service_client::ApiKeyServiceClient,
    session_service_client::SessionServiceClient, watch_request, watch_response::Message, watch_start::From,
};
use tonic::{Status, Streaming};

use crate::support::{Authority, Client, reason, root, soon};

mod age_check;
mod api_keys;
mod bank;
mod clearance;
mod clinic;
mod examples;
mod live_stream;
mod rental;

/// An authority on the policy of a case, and its administrator, `client:dev`.
struct Case {
    authority: Authority,
    admin: Client,
}

impl Case {
    async fn start(name: &str) -> Self {
        Self::on(&directory(name)).await
    }

    /// A case on a directory of policy files.
    async fn on(policy: &Path) -> Self {
        let authority = Authority::dev(&["--policy", policy.to_str().unwrap()]);
        let admin = authority.client("production").await;
        Self { authority, admin }
    }

    /// `client:<name>` in production, with an API key that the administrator makes.
    async fn service(&self, name: &str) -> Client {
        self.authority
            .with_key(&self.key_for(&self.admin, name).await)
            .await
    }

    /// An API key for `client:<name>` in the realm of `admin`.
    async fn key_for(&self, admin: &Client, name: &str) -> String {
        let request = CreateApiKeyRequest {
            name: name.to_owned(),
            ..CreateApiKeyRequest::default()
        };
        let made = ApiKeyServiceClient::new(admin.channel.clone())
            .create_api_key(request)
            .await;
        made.unwrap().into_inner().secret
    }

    /// A session as the administrator sees it.
    async fn session(&self, session_id: &str) -> Session {
        let request = GetSessionRequest {
            session_id: session_id.to_owned(),
        };
        let found = SessionServiceClient::new(self.admin.channel.clone())
            .get_session(request)
            .await;
        found.unwrap().into_inner().session.unwrap()
    }
}

/// The directory of a case's policy.
fn directory(name: &str) -> PathBuf {
    root().join("policies/examples").join(name)
}

/// A request for `subject`, without an asserted role.
fn ask(subject: &str, scopes: &[&str]) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        scopes: texts(scopes),
        ..IssueRequest::default()
    }
}

/// The same, with a role asserted for the subject.
fn ask_as(role: &str, subject: &str, scopes: &[&str]) -> IssueRequest {
    IssueRequest {
        roles: texts(&[role]),
        ..ask(subject, scopes)
    }
}

async fn tokens(client: &Client, request: IssueRequest) -> TokenSet {
    client.issue(request).await.unwrap().tokens.unwrap()
}

/// The reason that a request is refused with.
async fn refusal(client: &Client, request: IssueRequest) -> String {
    refused(client.issue(request).await)
}

fn refused<T: Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.unwrap_err())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// Watches everything that is revoked, now and later.
async fn watch(client: &Client) -> Result<Streaming<WatchResponse>, Status> {
    let start = WatchStart {
        from: Some(From::Snapshot(true)),
        ..WatchStart::default()
    };
    let start = WatchRequest {
        message: Some(watch_request::Message::Start(start)),
    };
    let watching = client.revocations().watch(tokio_stream::once(start)).await?;
    Ok(watching.into_inner())
}

async fn next(watching: &mut Streaming<WatchResponse>) -> Message {
    let message = soon("a message", watching.message()).await;
    message.unwrap().unwrap().message.unwrap()
}

async fn next_event(watching: &mut Streaming<WatchResponse>) -> RevocationEvent {
    loop {
        if let Message::Event(event) = next(watching).await {
            return event;
        }
    }
}
