//! The kit's authority with a policy of its own, and clients of it.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tessera_client::{Client, ClientOptions, Connection, Scope, Verifier, VerifierOptions, v1};
use tessera_policy::Policy;
use tessera_testkit::{TestAuthority, TestClock, soon};
use v1::{IssueRequest, IssueResponse, RevokeRequest, RevokeResponse, revoke_request::Target};

/// `client:admin` may do everything, `client:app` speaks for itself and asserts one role.
const RULES: &str = "\
p, role:viewer, *, videos, read, allow
p, role:viewer, *, videos/*, play, allow
p, role:trial, *, videos/premium/*, play, deny
p, role:editor, *, videos, write, allow
g, role:editor, role:viewer, *
g, client:admin, role:editor, *
g, client:app, role:editor, *
g, client:other, role:viewer, *
p, client:app, *, tessera/subjects/*, issue, allow
p, client:app, *, tessera/roles/role:viewer, assert, allow
p, client:app, *, tessera/roles/role:trial, assert, allow
p, client:admin, *, tessera/subjects/*, issue, allow
p, client:admin, *, tessera/roles/*, assert, allow
p, client:admin, *, tessera/tokens, introspect, allow
p, client:admin, *, tessera/revocations, watch, allow
p, client:admin, *, tessera/revocations, require, allow
p, client:admin, *, tessera/api-keys, *, allow
p, client:admin, *, tessera/subscribers, *, allow
p, client:admin, *, tessera/sessions, *, allow
p, client:admin, *, tessera/keys, *, allow
p, client:admin, *, tessera/realm, revoke, allow
p, client:admin, *, tessera/policies, *, allow
";

const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
sandbox = "for trying out"
[roles]
"role:viewer" = "watches"
"role:trial" = "tries"
"role:editor" = "changes"
[scopes]
"videos:read" = "list videos"
"videos:write" = "change videos"
"videos/{id}:play" = "play one video"
"videos/premium/{id}:play" = "play one premium video"
[audiences]
api = "the API"
player = "the player"
"#;

/// A served authority.
pub(crate) struct World {
    pub(crate) kit: TestAuthority,
    pub(crate) clock: TestClock,
    pub(crate) address: String,
    pub(crate) admin: Client,
    pub(crate) app: Client,
    directory: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(TestClock::new(), "127.0.0.1:0").await
    }

    /// An authority with a clock and at an address that something else has, or had.
    pub(crate) async fn with(clock: TestClock, at: &str) -> Self {
        let directory = TempDir::new().unwrap();
        write_policy(directory.path(), RULES);
        let builder = TestAuthority::builder()
            .with_policy(directory.path(), "client:admin", &["role:viewer"])
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
            directory,
            kit,
        }
    }

    /// How `name` connects to the authority at `address`.
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

    /// The rules without the lines that begin so, put in force.
    pub(crate) async fn take_rules(&self, start: &str) {
        let left: Vec<_> = RULES.lines().filter(|line| !line.starts_with(start)).collect();
        assert!(left.len() < RULES.lines().count(), "no rule begins with {start}");
        write_policy(self.directory.path(), &(left.join("\n") + "\n"));
        self.kit.reload_policy().await;
    }
}

fn write_policy(directory: &Path, rules: &str) {
    let files = Policy::default_files();
    let model = files.iter().find(|(name, _)| *name == "model.conf").unwrap();
    fs::write(directory.join("model.conf"), model.1).unwrap();
    fs::write(directory.join("catalogue.toml"), CATALOGUE).unwrap();
    fs::write(directory.join("policy.csv"), rules).unwrap();
}

pub(crate) fn viewer(subject: &str) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        roles: vec!["role:viewer".to_owned()],
        audience: "api".to_owned(),
        ..IssueRequest::default()
    }
}

pub(crate) fn access(issued: &IssueResponse) -> &str {
    &issued.tokens.as_ref().unwrap().access_token
}

pub(crate) fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}
