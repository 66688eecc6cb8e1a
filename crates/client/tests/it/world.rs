//! An authority in this process with a clock that tests move, and clients of it.

use std::{fs, sync::Arc, time::Duration};

use tempfile::TempDir;
use tessera_authority::{Authority, Options};
use tessera_client::{ApiKey, Client, ClientOptions, Connection, Scope, Verifier, VerifierOptions, v1};
use tessera_core::{
    ClientName, ManualClock, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, Seconds, Timestamp,
};
use tessera_policy::Policy;
use tessera_server::{Limits, Listeners, ServeError, ServeOptions, serve};
use tessera_store::{MemoryStore, Store};
use tessera_token::{ServerKey, ServerKeys};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
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
p, client:admin, *, tessera/api-keys, *, allow
p, client:admin, *, tessera/sessions, *, allow
p, client:admin, *, tessera/keys, revoke, allow
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
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: String,
    pub(crate) admin: Client,
    pub(crate) app: Client,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_795_000_000)));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        Self::with(clock, store, "127.0.0.1:0").await
    }

    /// An authority on a store and an address of their own.
    pub(crate) async fn with(clock: Arc<ManualClock>, store: Arc<dyn Store>, at: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let files = Policy::default_files();
        let model = files.iter().find(|(name, _)| *name == "model.conf").unwrap();
        fs::write(folder.path().join("model.conf"), model.1).unwrap();
        fs::write(folder.path().join("catalogue.toml"), CATALOGUE).unwrap();
        fs::write(folder.path().join("policy.csv"), RULES).unwrap();
        let realms = RealmKind::ALL.map(|kind| Realm {
            name: RealmName::parse(kind.as_str()).unwrap(),
            kind,
            issuer: format!("https://auth.example.org/{kind}"),
            limits: RealmLimits::default(),
            on_policy_loss: OnPolicyLoss::Narrow,
        });
        let authority = Authority::open(Options {
            store,
            policy: Policy::load(folder.path()).unwrap(),
            policy_folder: Some(folder.path().to_owned()),
            realms: realms.to_vec(),
            server_keys: ServerKeys::new(ServerKey::generate().unwrap(), Vec::new()),
            clock: clock.clone(),
            verified_tokens_max: 1000,
            watch_stall_max: Options::WATCH_STALL_MAX,
        });
        let authority = authority.await.unwrap();
        let public = TcpListener::bind(at).await.unwrap();
        let address = format!("http://{}", public.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let options = ServeOptions {
            limits: Limits::default(),
            tls: None,
            audit_retention: Seconds::days(90),
            policy_watch: false,
        };
        let listeners = Listeners { public, admin: None };
        let serving = tokio::spawn(serve(listeners, authority.clone(), options, async {
            let _ = stopped.await;
        }));
        let client =
            async |name| Client::new(&connection(&authority, &address, "production", name).await).unwrap();
        Self {
            admin: client("admin").await,
            app: client("app").await,
            clock,
            authority,
            address,
            folder,
            stop: Some(stop),
            serving,
        }
    }

    /// How `name` connects to the authority at `address`.
    pub(crate) async fn connection(&self, realm: &str, name: &str, address: &str) -> Connection {
        connection(&self.authority, address, realm, name).await
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
            .clock(self.clock.clone())
    }

    pub(crate) async fn verifier(&self) -> Verifier {
        let options = self.options(Duration::from_secs(10), &self.address).await;
        let verifier = Verifier::start(options).unwrap();
        soon("ready", verifier.ready()).await;
        verifier
    }

    /// A viewer's session.
    pub(crate) async fn issue(&self, request: IssueRequest) -> IssueResponse {
        self.app.issue(request).await.unwrap()
    }

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
        fs::write(self.folder.path().join("policy.csv"), left.join("\n") + "\n").unwrap();
        self.authority
            .reload(tessera_authority::Trigger::Call)
            .await
            .unwrap();
    }

    /// Asks the server to stop, and waits for it.
    pub(crate) async fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        soon("the server stops", &mut self.serving)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn connection(authority: &Authority, address: &str, realm: &str, name: &str) -> Connection {
    let realm = RealmName::parse(realm).unwrap();
    let client = ClientName::from_short(name).unwrap();
    let key = authority.create_operator_api_key(&realm, client).await.unwrap();
    Connection::new(address, ApiKey::parse(key.secret.expose()).unwrap())
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

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), happens)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
