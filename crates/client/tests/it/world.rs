//! The kit's authority with the policy of all tests, and clients of it.

use std::time::Duration;

use tessera_client::{Client, ClientOptions, Connection, Scope, Verifier, VerifierOptions, v1};
use tessera_testkit::{TestAuthority, TestClock, soon, world::PolicyDirectory};
use v1::{IssueRequest, IssueResponse, RevokeRequest, RevokeResponse, revoke_request::Target};

/// A served authority.
pub(crate) struct World {
    pub(crate) kit: TestAuthority,
    pub(crate) clock: TestClock,
    pub(crate) address: String,
    pub(crate) admin: Client,
    pub(crate) app: Client,
    policy: PolicyDirectory,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(TestClock::new(), "127.0.0.1:0").await
    }

    /// An authority with a clock and an address that are shared with another one.
    pub(crate) async fn with(clock: TestClock, at: &str) -> Self {
        let policy = PolicyDirectory::new();
        let builder = TestAuthority::builder()
            .with_policy(policy.path(), "client:admin", &["role:viewer"])
            .clock(clock.clone())
            .listen(at);
        let kit = builder.start().await;
        let address = kit.direct_address().to_owned();
        let app = Connection::new(&address, kit.api_key_of("production", "client:app").await);
        Self {
            admin: kit.client().clone(),
            app: Client::new(&app).unwrap(),
            clock,
            address,
            policy,
            kit,
        }
    }

    /// The connection of `name` to the authority at `address`.
    pub(crate) async fn connection(&self, realm: &str, name: &str, address: &str) -> Connection {
        let api_key = self.kit.api_key_of(realm, &format!("client:{name}")).await;
        Connection::new(address, api_key)
    }

    pub(crate) async fn client(&self, name: &str, address: &str, options: ClientOptions) -> Client {
        let connection = self.connection("production", name, address).await;
        Client::with_options(&connection, options).unwrap()
    }

    /// A verifier for the audience `api`, with its bound, through `address`.
    pub(crate) async fn options(&self, bound: Duration, address: &str) -> VerifierOptions {
        let connection = self.connection("production", "admin", address).await;
        VerifierOptions::new(connection, "production", "api")
            .unwrap()
            .staleness_bound(bound)
            .clock(self.clock.shared())
    }

    pub(crate) async fn verifier(&self) -> Verifier {
        let options = self.options(Duration::from_secs(10), &self.address).await;
        let verifier = Verifier::start(options).unwrap();
        soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
        verifier
    }

    /// A viewer's session.
    pub(crate) async fn issue(&self, request: IssueRequest) -> IssueResponse {
        self.app.issue(request).await.unwrap()
    }

    /// Does not wait for any verifier.
    pub(crate) async fn revoke(&self, target: Target) -> RevokeResponse {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        self.admin.revoke(request).await.unwrap()
    }

    /// Removes the rules that begin so, and puts the rest in force.
    pub(crate) async fn take_rules(&self, start: &str) {
        self.policy.take(start);
        self.kit.reload_policy().await;
    }
}

/// A request for a viewer's session for the audience `api`.
pub(crate) fn viewer(subject: &str) -> IssueRequest {
    IssueRequest {
        audience: "api".to_owned(),
        ..tessera_testkit::world::viewer(subject)
    }
}

pub(crate) fn access(issued: &IssueResponse) -> &str {
    &issued.tokens.as_ref().unwrap().access_token
}

pub(crate) fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}
