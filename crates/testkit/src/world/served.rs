//! One authority a test, and what tests ask of it.

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tessera_authority::{Authority, Options};
use tessera_core::{
    ClientName, ManualClock, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, Timestamp,
    limits::TOKEN_BYTES_DEFAULT,
};
use tessera_daemon::{RunError, RunOptions};
use tessera_policy::Policy;
use tessera_proto::upstream::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use tessera_proto::v1::{
    self, IntrospectRequest, IntrospectResponse, IssueRequest, IssueResponse, RefreshRequest,
    RefreshResponse, RevokeRequest, RevokeResponse, api_key_service_client::ApiKeyServiceClient,
    key_service_client::KeyServiceClient, policy_service_client::PolicyServiceClient,
    revocation_service_client::RevocationServiceClient, revoke_request::Target,
    session_service_client::SessionServiceClient, signing_key_service_client::SigningKeyServiceClient,
    token_service_client::TokenServiceClient,
};
use tessera_server::{ClientLimits, HttpOptions, Limits, Listeners, ServeOptions};
use tessera_store::{MemoryStore, Store};
use tessera_token::{ServerKey, ServerKeys};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// `client:admin` may do everything, `client:app` speaks for itself and asserts one role, `client:other`
/// only speaks for itself, `client:none` has no scope at all.
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
p, client:admin, *, tessera/api-keys/*, *, allow
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

/// What a world is made with.
pub(crate) struct Setup {
    pub(crate) limits: RealmLimits,
    pub(crate) server: Limits,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) token_bytes_max: usize,
    pub(crate) watch_stall_max: Duration,
    pub(crate) on_policy_loss: OnPolicyLoss,
    pub(crate) policy_watch: bool,
    pub(crate) proxies: bool,
    pub(crate) server_key: ServerKey,
    pub(crate) begins_at: Timestamp,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: RealmLimits::default(),
            server: Limits {
                per_client: ClientLimits::without_rates(),
                ..Limits::default()
            },
            store: Arc::new(MemoryStore::new()),
            token_bytes_max: TOKEN_BYTES_DEFAULT,
            watch_stall_max: Options::WATCH_STALL_MAX,
            on_policy_loss: OnPolicyLoss::Narrow,
            policy_watch: false,
            proxies: true,
            server_key: ServerKey::generate().unwrap(),
            begins_at: Timestamp::from_seconds(1_795_000_000),
        }
    }
}

/// A served authority.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<Authority>,
    /// The policy's directory.
    pub(crate) policy: PolicyDirectory,
    pub(crate) address: SocketAddr,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), RunError>>,
}

/// A directory with a policy, to be edited.
pub(crate) struct PolicyDirectory {
    path: PathBuf,
    /// Removes it at the end.
    _made: Option<TempDir>,
}

impl PolicyDirectory {
    pub(crate) fn new() -> Self {
        let made = TempDir::new().unwrap();
        let directory = Self {
            path: made.path().to_owned(),
            _made: Some(made),
        };
        let model = Policy::default_files()
            .iter()
            .find(|(name, _)| *name == "model.conf")
            .unwrap();
        directory.write("model.conf", std::str::from_utf8(model.1).unwrap());
        directory.write("catalogue.toml", CATALOGUE);
        directory.write("policy.csv", RULES);
        directory
    }

    /// A directory that somebody else made.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _made: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// The rules without the lines that begin so.
    pub(crate) fn take(&self, start: &str) {
        let left: Vec<_> = RULES.lines().filter(|line| !line.starts_with(start)).collect();
        assert!(left.len() < RULES.lines().count(), "no rule begins with {start}");
        self.write("policy.csv", &(left.join("\n") + "\n"));
    }

    /// The rules with more lines.
    pub(crate) fn add(&self, lines: &str) {
        self.write("policy.csv", &format!("{RULES}{lines}\n"));
    }

    /// The rules as they were.
    pub(crate) fn restore(&self) {
        self.write("policy.csv", RULES);
    }
}

/// A client of the world: its channel and its API key.
#[derive(Clone)]
pub(crate) struct Client {
    channel: InterceptedService<Channel, Bearer>,
    pub(crate) api_key: String,
}

/// Sends an API key, or none where it is empty.
#[derive(Clone)]
pub(crate) struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value: MetadataValue<Ascii> = format!("Bearer {}", self.0).parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) fn realm(name: &str) -> RealmName {
    RealmName::parse(name).unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::in_directory(setup, PolicyDirectory::new()).await
    }

    pub(crate) async fn in_directory(setup: Setup, policy: PolicyDirectory) -> Self {
        let clock = Arc::new(ManualClock::new(setup.begins_at));
        let realms = RealmKind::ALL.map(|kind| Realm {
            name: realm(kind.as_str()),
            kind,
            issuer: format!("https://auth.example.org/{kind}"),
            limits: setup.limits.clone(),
            on_policy_loss: setup.on_policy_loss,
        });
        let authority = Authority::open(Options {
            store: setup.store,
            policy: Policy::load(policy.path()).unwrap_or_else(|error| panic!("{error}")),
            policy_directory: Some(policy.path().to_owned()),
            realms: realms.to_vec(),
            server_keys: ServerKeys::new(setup.server_key, Vec::new()),
            key_rotation: tessera_authority::KeyRotation::default(),
            clock: clock.clone(),
            token_bytes_max: setup.token_bytes_max,
            verified_tokens_max: 1000,
            watch_stall_max: setup.watch_stall_max,
            staleness_bound_max: Options::STALENESS_BOUND_MAX,
        });
        let authority = authority.await.unwrap();
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let options = RunOptions {
            server: ServeOptions {
                limits: setup.server,
                http: HttpOptions {
                    cors_origins: vec!["https://app.example.org".parse().unwrap()],
                    proxies: setup.proxies,
                    public_url: Some("https://auth.example.org/tessera".to_owned()),
                },
                ..ServeOptions::default()
            },
            policy_watch: setup.policy_watch,
            ..RunOptions::default()
        };
        let listeners = Listeners { public, admin: None };
        let serving = tokio::spawn(tessera_daemon::run(
            listeners,
            authority.clone(),
            options,
            async {
                let _ = stopped.await;
            },
        ));
        // A small window, so that a client which does not read is noticed after kilobytes, not megabytes.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint
            .initial_stream_window_size(65_535)
            .connect()
            .await
            .unwrap();
        Self {
            clock,
            authority,
            policy,
            address,
            channel,
            stop: Some(stop),
            serving,
        }
    }

    /// A client with a new API key.
    pub(crate) async fn client(&self, realm_name: &str, name: &str) -> Client {
        let client = ClientName::from_short(name).unwrap();
        let new = self
            .authority
            .create_operator_api_key(&realm(realm_name), client)
            .await
            .unwrap();
        self.with_key(new.secret.expose())
    }

    /// A caller with this API key; empty for none.
    pub(crate) fn with_key(&self, api_key: &str) -> Client {
        let channel = InterceptedService::new(self.channel.clone(), Bearer(api_key.to_owned()));
        Client {
            channel,
            api_key: api_key.to_owned(),
        }
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel.clone())
    }

    /// As Envoy calls.
    pub(crate) fn authorization(&self) -> AuthorizationClient<Channel> {
        AuthorizationClient::new(self.channel())
    }

    /// Without any credential.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Asks the server to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

impl Client {
    /// What its calls go over, with its API key.
    pub(crate) fn intercepted(&self) -> InterceptedService<Channel, Bearer> {
        self.channel.clone()
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<InterceptedService<Channel, Bearer>> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub(crate) fn sessions(&self) -> SessionServiceClient<InterceptedService<Channel, Bearer>> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub(crate) fn api_keys(&self) -> ApiKeyServiceClient<InterceptedService<Channel, Bearer>> {
        ApiKeyServiceClient::new(self.channel.clone())
    }

    pub(crate) fn revocations(&self) -> RevocationServiceClient<InterceptedService<Channel, Bearer>> {
        RevocationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn signing_keys(&self) -> SigningKeyServiceClient<InterceptedService<Channel, Bearer>> {
        SigningKeyServiceClient::new(self.channel.clone())
    }

    pub(crate) fn policies(&self) -> PolicyServiceClient<InterceptedService<Channel, Bearer>> {
        PolicyServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn issue(&self, request: IssueRequest) -> Result<IssueResponse, Status> {
        let request = IssueRequest {
            audience: if request.audience.is_empty() {
                "api".to_owned()
            } else {
                request.audience
            },
            ..request
        };
        self.tokens()
            .issue(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A viewer's session for a subject.
    pub(crate) async fn issue_for(&self, subject: &str) -> IssueResponse {
        self.issue(viewer(subject)).await.unwrap()
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<RefreshResponse, Status> {
        self.refresh_with(refresh_token, &[]).await
    }

    pub(crate) async fn refresh_with(
        &self,
        refresh_token: &str,
        scopes: &[&str],
    ) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest {
            request_id: String::new(),
            refresh_token: refresh_token.to_owned(),
            scopes: strings(scopes),
        };
        self.tokens()
            .refresh(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn introspect(&self, token: &str) -> IntrospectResponse {
        let request = IntrospectRequest {
            token: token.to_owned(),
            at_least_as_fresh: String::new(),
        };
        self.tokens().introspect(request).await.unwrap().into_inner()
    }

    pub(crate) async fn revoke(&self, target: Target) -> Result<RevokeResponse, Status> {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        self.tokens()
            .revoke(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

pub(crate) fn viewer(subject: &str) -> IssueRequest {
    IssueRequest {
        subject: subject.to_owned(),
        roles: strings(&["role:viewer"]),
        ..IssueRequest::default()
    }
}

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The refresh token of a set.
pub(crate) fn refresh_token(tokens: Option<&v1::TokenSet>) -> String {
    tokens.unwrap().refresh_token.clone()
}

/// The access token of a set.
pub(crate) fn access_token(tokens: Option<&v1::TokenSet>) -> String {
    tokens.unwrap().access_token.clone()
}

/// The code and the reason of a refusal, as `CODE / REASON`. Every error has a reason of ours.
pub(crate) fn reason(status: &Status) -> String {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "tessera");
    format!("{:?} / {}", status.code(), info.reason)
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let violations = status
        .get_details_bad_request()
        .map_or_else(Vec::new, |bad| bad.field_violations);
    violations.into_iter().map(|violation| violation.field).collect()
}

pub(crate) fn per_second(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), happens)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened"))
}
