//! The calls that are counted, one after the other on one thread, as `authority` is asked by the server: the credential
//! first. No network, and a clock that stands still.

use std::{fs, hint::black_box, path::Path, sync::Arc};

use tessera_authority::{
    ApiKeyTerms, Authority, IssueRequest, KeyRotation, Options, PresentedToken, RefreshRequest,
};
use tessera_core::{
    ClientName, Clock, OnPolicyLoss, Realm, RealmKind, RealmLimits, RealmName, Refreshable, ScopeSet,
    Subject, Timestamp,
};
use tessera_policy::Policy;
use tessera_store::{MemoryStore, Store};
use tessera_store_sled::{SledOptions, SledStore};
use tessera_token::{ServerKey, ServerKeys};
use tokio::task::JoinSet;

/// What is counted: the name of the store, and the calls in their order.
pub(super) const SETTINGS: [(&str, &[Which]); 3] = [
    ("memory", &[Which::Issue, Which::Refresh, Which::Known]),
    (
        "sled",
        &[
            Which::Issue,
            Which::Refresh,
            Which::Known,
            Which::IssueTogether,
            Which::RefreshTogether,
        ],
    ),
    // No verified token is kept: those that are would be others each time.
    (FORGETFUL, &[Which::Unknown]),
];
/// How often all are counted: what happens now and then is not in each.
pub(super) const REPETITIONS: usize = 4;
/// The setting in which every signature is verified.
const FORGETFUL: &str = "memory-without-cache";
/// The name of the function that divides the parts, as callgrind sees it.
pub(super) const MARK: &str = "mark_of_instructions";

/// How many sessions there are, so that what depends on their number shows.
const SESSIONS: u32 = 300;

const CATALOGUE: &str = r#"
[realms]
production = "the real thing"
[roles]
"role:viewer" = "lists"
"role:player" = "plays"
[scopes]
"videos:read" = "list videos"
"videos:write" = "write videos"
[audiences]
api = "the API"
"#;

/// What is called.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Issue,
    Refresh,
    /// Introspect of a token that was asked about before.
    Known,
    /// Introspect of a token that this process did not see.
    Unknown,
    /// Issue, by many callers at once: what a group of calls shares is shared.
    IssueTogether,
    /// Refresh, by many callers at once.
    RefreshTogether,
}

/// How many callers there are at once.
const TOGETHER: u64 = 50;

impl Which {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Refresh => "refresh",
            Self::Known => "introspect-known",
            Self::Unknown => "introspect-unknown",
            Self::IssueTogether => "issue-together",
            Self::RefreshTogether => "refresh-together",
        }
    }

    /// How many of them are counted together.
    pub(super) fn times(self) -> u64 {
        200
    }
}

/// Time is no part of what is counted.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

/// An authority with a client that may issue.
#[derive(Clone)]
struct Caller {
    authority: Arc<Authority>,
    secret: String,
    number: u32,
}

/// Ends a part of the profile: callgrind stops at its name.
#[inline(never)]
fn mark_of_instructions() {
    black_box(());
}

/// Makes all calls on the store of this name.
pub(super) fn make(store: &str, directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let calls = SETTINGS.iter().find(|(name, _)| *name == store).unwrap().1;
    runtime.block_on(async {
        let mut caller = Caller::new(store, directory).await;
        for _ in 0..SESSIONS {
            black_box(caller.issue().await);
        }
        for _ in 0..REPETITIONS {
            for which in calls {
                caller.count(*which).await;
            }
        }
        caller.authority.close().await.unwrap();
    });
}

impl Caller {
    async fn new(store: &str, directory: &Path) -> Self {
        let policy = directory.join("policy");
        fs::create_dir(&policy).unwrap();
        let files = Policy::default_files();
        let model = files.iter().find(|(name, _)| *name == "model.conf").unwrap();
        fs::write(policy.join("model.conf"), model.1).unwrap();
        fs::write(policy.join("catalogue.toml"), CATALOGUE).unwrap();
        fs::write(policy.join("policy.csv"), rules()).unwrap();
        let authority = open(store, directory, &policy).await;
        let realm = RealmName::parse("production").unwrap();
        let client = ClientName::parse("client:app").unwrap();
        let key = authority
            .credentials()
            .create_operator_api_key(&realm, client, ApiKeyTerms::default())
            .await
            .unwrap();
        Self {
            authority,
            secret: key.secret.expose().to_owned(),
            number: 0,
        }
    }

    /// Makes the calls of one part, after what they need.
    async fn count(&mut self, which: Which) {
        match which {
            Which::IssueTogether | Which::RefreshTogether => self.count_together(which).await,
            Which::Issue => {
                mark_of_instructions();
                for _ in 0..which.times() {
                    black_box(self.issue().await);
                }
                mark_of_instructions();
            }
            Which::Refresh => {
                let (_, mut token) = self.issue().await;
                mark_of_instructions();
                for _ in 0..which.times() {
                    token = self.refresh(token).await;
                }
                mark_of_instructions();
            }
            Which::Known => {
                let (token, _) = self.issue().await;
                self.introspect(&token).await;
                mark_of_instructions();
                for _ in 0..which.times() {
                    self.introspect(&token).await;
                }
                mark_of_instructions();
            }
            Which::Unknown => {
                let mut tokens = Vec::new();
                for _ in 0..which.times() {
                    tokens.push(self.issue().await.0);
                }
                // What is not kept goes a while after it came.
                for _ in 0..SESSIONS {
                    black_box(self.issue().await);
                }
                mark_of_instructions();
                for token in &tokens {
                    self.introspect(token).await;
                }
                mark_of_instructions();
            }
        }
    }

    /// The same as one call after the other, but for the callers that wait for each other.
    async fn count_together(&mut self, which: Which) {
        let mut tokens = Vec::new();
        for _ in 0..TOGETHER {
            tokens.push(self.issue().await.1);
        }
        mark_of_instructions();
        for _ in 0..which.times() / TOGETHER {
            let mut calls = JoinSet::new();
            for token in std::mem::take(&mut tokens) {
                self.number += 1;
                let mut caller = self.clone();
                calls.spawn(async move {
                    match which {
                        Which::RefreshTogether => caller.refresh(token).await,
                        _ => caller.issue().await.1,
                    }
                });
            }
            tokens = calls.join_all().await;
        }
        mark_of_instructions();
    }

    async fn principal(&self) -> tessera_authority::Principal {
        let from = [127, 0, 0, 1].into();
        self.authority
            .credentials()
            .authenticate(&self.secret, from)
            .await
            .unwrap()
    }

    /// The access token and the refresh token of a new session.
    async fn issue(&mut self) -> (String, String) {
        self.number += 1;
        let request = IssueRequest {
            request_id: None,
            subject: Some(Subject::parse(&format!("user:{}", self.number % 100)).unwrap()),
            roles: Vec::new(),
            scopes: ScopeSet::default(),
            audience: None,
            access_ttl: None,
            session_ttl: None,
            labels: Vec::new(),
            require_all: false,
            without_refresh: false,
            refreshable: Refreshable::ByClient,
        };
        let tokens = self
            .authority
            .issuance()
            .issue(&self.principal().await, &request)
            .await
            .unwrap()
            .tokens;
        let refresh_token = tokens.refresh_token.unwrap().as_str().to_owned();
        (tokens.access_token.as_str().to_owned(), refresh_token)
    }

    async fn refresh(&self, token: String) -> String {
        let request = RefreshRequest {
            request_id: None,
            refresh_token: PresentedToken::new(token),
            scopes: ScopeSet::default(),
            audience: None,
        };
        let refreshed = self
            .authority
            .issuance()
            .refresh(&self.principal().await, &request)
            .await
            .unwrap();
        refreshed.tokens.refresh_token.unwrap().as_str().to_owned()
    }

    async fn introspect(&self, token: &str) {
        let said = self
            .authority
            .access()
            .introspect(&self.principal().await, token)
            .await;
        assert!(black_box(said).unwrap().is_some());
    }
}

fn rules() -> String {
    let mut rules = "\
p, role:viewer, *, videos, read, allow
p, role:player, *, videos, write, allow
p, client:app, *, tessera/subjects/*, issue, allow
p, client:app, *, tessera/tokens, introspect, allow
"
    .to_owned();
    for number in 0..100 {
        rules += &format!("g, user:{number}, role:viewer, *\ng, user:{number}, role:player, *\n");
    }
    rules
}

fn store_named(name: &str, directory: &Path) -> Arc<dyn Store> {
    match name {
        "sled" => {
            let path = directory.join("store");
            Arc::new(SledStore::open(&path, SledOptions::default()).unwrap())
        }
        _ => Arc::new(MemoryStore::new()),
    }
}

async fn open(store: &str, directory: &Path, policy: &Path) -> Arc<Authority> {
    let realm = Realm {
        name: RealmName::parse("production").unwrap(),
        kind: RealmKind::Production,
        issuer: "https://auth.example.org".to_owned(),
        limits: RealmLimits::default(),
        on_policy_loss: OnPolicyLoss::Narrow,
    };
    Authority::open(Options {
        store: store_named(store, directory),
        policy: Policy::load(policy).unwrap(),
        policy_directory: None,
        realms: vec![realm],
        server_keys: Arc::new(ServerKeys::new(ServerKey::generate().unwrap(), Vec::new())),
        key_rotation: KeyRotation::default(),
        clock: Arc::new(Still),
        token_bytes_max: tessera_core::limits::TOKEN_BYTES_DEFAULT,
        verified_tokens_max: if store == FORGETFUL { 0 } else { 1000 },
        watch_stall_max: Options::WATCH_STALL_MAX,
        staleness_bound_max: Options::STALENESS_BOUND_MAX,
    })
    .await
    .unwrap()
}
