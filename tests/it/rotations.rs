//! Signing keys are replaced under load, and no verifier refuses a valid token: those of the three SDKs, one of which
//! is frozen meanwhile, four proxies, and a service that caches `/keys` for as long as allowed.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tessera_client::{ApiKey, Connection, Decision, Mode, Verifier, VerifierOptions};
use tessera_proto::v1::{
    Activation, KeyStatus, ListSigningKeysRequest, RotateSigningKeyRequest, SigningKey,
    signing_key_service_client::SigningKeyServiceClient,
};
use tokio::sync::mpsc;

use crate::{
    peers::Peers,
    proxies::behind::{Behind, Start, caddy, envoy, nginx, traefik},
    sdk::{built_typescript, installed_python},
    serving::Place,
    support::{Client, PATIENCE, access, refresh, soon, viewer},
};

/// The staleness bound of all verifiers here.
const BOUND: Duration = Duration::from_secs(4);
/// How often the key is replaced; `TESSERA_ROTATIONS=20` is the long form.
const ROTATIONS: u32 = 4;
/// In this rotation the service in Python is frozen.
const FROZEN_AT: u32 = 1;

/// The proxies that ask the authority, with their configurations of the documents.
const PROXIES: [(&str, Start); 4] = [
    ("envoy.yaml", envoy),
    ("nginx.conf", nginx),
    ("Caddyfile", caddy),
    ("traefik-dynamic.yaml", traefik),
];

/// A service in another process, which checks tokens.
struct Service {
    name: &'static str,
    process: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Service {
    async fn start(name: &'static str, command: &mut Command, place: &Place, api_key: &str) -> Self {
        let mut process = command
            .env("TESSERA_ADDR", &place.address)
            .env("TESSERA_API_KEY", api_key)
            .env("BOUND", BOUND.as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (print, lines) = mpsc::unbounded_channel();
        let printed = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                let _ = print.send(line);
            }
        });
        let mut service = Self { name, process, lines };
        assert_eq!(service.line().await, "ready");
        service
    }

    async fn line(&mut self) -> String {
        let line = soon(self.name, self.lines.recv()).await;
        line.unwrap_or_else(|| panic!("{} ended", self.name))
    }

    async fn verdict(&mut self, token: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{token}").unwrap();
        self.line().await
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An authority's keys, and all verifiers of their tokens.
struct World {
    client: Client,
    proxied: Vec<(&'static str, Behind)>,
    rust: Verifier,
    python: Service,
    others: Vec<Service>,
    /// A token from before the last rotation.
    older: String,
}

impl World {
    async fn token(client: &Client) -> String {
        let issued = client.issue(viewer("user:ann")).await.unwrap();
        access(issued.tokens.as_ref())
    }

    /// All services except the frozen one accept a new token, and one from before the rotation.
    async fn look(&mut self, is_frozen: bool) {
        let new = Self::token(&self.client).await;
        for token in [&new, &self.older] {
            let decision = self.rust.verify_with(token, None, Mode::FailClosed).await;
            assert!(matches!(decision, Decision::Allow(_)), "Rust: {decision:?}");
            let python = (!is_frozen).then_some(&mut self.python);
            for service in python.into_iter().chain(&mut self.others) {
                assert_eq!(service.verdict(token).await, "allow", "{}", service.name);
            }
            let bearer = format!("Bearer {token}");
            for (name, service) in &self.proxied {
                let answer = service.ask("GET /videos", &[("authorization", &bearer)]);
                assert!(answer.status == 200 && answer.reached, "{name}: {answer:?}");
            }
        }
        self.older = new;
    }

    async fn keys(&self) -> Vec<SigningKey> {
        let mut keys = SigningKeyServiceClient::new(self.client.channel.clone());
        let listed = keys.list_signing_keys(ListSigningKeysRequest {}).await;
        listed.unwrap().into_inner().keys
    }

    /// The next key signs; meanwhile all services check tokens.
    async fn rotate(&mut self, is_frozen: bool) {
        let request = RotateSigningKeyRequest {
            activation: Activation::WhenKnown.into(),
        };
        let mut keys = SigningKeyServiceClient::new(self.client.channel.clone());
        let new = keys
            .rotate_signing_key(request)
            .await
            .unwrap()
            .into_inner()
            .key
            .unwrap();
        let mut waited_for = Vec::new();
        let signs = async {
            loop {
                self.look(is_frozen).await;
                let key = self
                    .keys()
                    .await
                    .into_iter()
                    .find(|key| key.kid == new.kid)
                    .unwrap();
                if key.status() == KeyStatus::Active {
                    return;
                }
                waited_for.extend(key.waits_for);
            }
        };
        soon("the new key signs", signs).await;
        self.look(is_frozen).await;
        let waits = waited_for.iter().any(|name| name == "python");
        assert!(waits || !is_frozen, "nobody waited for the one that is frozen");
    }

    /// The frozen service continues: it refuses as stale until it has caught up, and for no other reason.
    async fn thaw(&mut self) {
        self.python.signal("CONT");
        let token = Self::token(&self.client).await;
        let catches_up = async {
            loop {
                match self.python.verdict(&token).await.as_str() {
                    "allow" => return,
                    other => assert_eq!(other, "stale"),
                }
            }
        };
        soon("the frozen service has caught up", catches_up).await;
    }
}

async fn start(place: &Place, peers: &Peers, api_key: &str) -> (World, [tempfile::TempDir; 2]) {
    let (python, typescript) = (installed_python(peers), built_typescript(peers));
    let client = Client::connect(&place.address, api_key).await;
    let connection = Connection::new(place.address.clone(), ApiKey::parse(api_key).unwrap());
    let options = VerifierOptions::new(connection, "production", "api").unwrap();
    let options = options.subscriber("rust").unwrap().required(true);
    let rust = Verifier::start(options.staleness_bound(BOUND)).unwrap();
    rust.ready(PATIENCE).await.unwrap();
    let mut script = peers.python();
    script
        .arg("tests/peers/rotation.py")
        .env("PYTHONPATH", python.path().join("installed"));
    let python_service = Service::start("Python", &mut script, place, api_key).await;
    let mut script = peers.node();
    script.arg("tests/peers/rotation.mjs").env(
        "TESSERA_SDK",
        typescript.path().join("sdk/typescript/dist/src/index.js"),
    );
    let typescript_service = Service::start("TypeScript", &mut script, place, api_key).await;
    let mut script = peers.python();
    script.arg("tests/peers/rotation_cached.py");
    let copy = Service::start("a copy of /keys", &mut script, place, api_key).await;
    let older = World::token(&client).await;
    let world = World {
        proxied: PROXIES
            .map(|(config, start)| (config, Behind::start(peers, &place.address, config, start)))
            .into(),
        rust,
        python: python_service,
        others: vec![typescript_service, copy],
        older,
        client,
    };
    (world, [python, typescript])
}

/// Sessions that begin and continue all the time; each token is active.
fn load(client: &Client, ends: &Arc<AtomicBool>, calls: &Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    let (client, ends, calls) = (client.clone(), Arc::clone(ends), Arc::clone(calls));
    tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            let issued = client.issue(viewer("user:bob")).await.unwrap();
            let refreshed = client.refresh(&refresh(issued.tokens.as_ref())).await.unwrap();
            for tokens in [issued.tokens.as_ref(), refreshed.tokens.as_ref()] {
                assert!(client.introspect(&access(tokens)).await.active);
            }
            calls.fetch_add(4, Ordering::Relaxed);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs peers: docs/peers.md"]
async fn no_verifier_in_any_language_refuses_a_good_token_over_rotations() {
    let Some(peers) = Peers::installed() else { return };
    let rotations = env::var("TESSERA_ROTATIONS").map_or(ROTATIONS, |count| count.parse().unwrap());
    let place = Place::new();
    place.edit("tessera.toml", "publish_for = \"10m\"", "publish_for = \"2s\"");
    let api_key = place.first_key("production");
    let api_key = api_key["secret"].as_str().unwrap();
    let authority = place.serve_as(|_| {});
    let (mut world, _installed) = start(&place, &peers, api_key).await;
    let (ends, calls) = (Arc::default(), Arc::default());
    let loads = [0; 2].map(|_| load(&world.client, &ends, &calls));
    for rotation in 0..rotations {
        let is_frozen = rotation == FROZEN_AT;
        if is_frozen {
            world.python.signal("STOP");
        }
        world.rotate(is_frozen).await;
        if is_frozen {
            world.thaw().await;
        }
    }
    ends.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    println!(
        "{rotations} rotations under {} calls: no good token was refused",
        calls.load(Ordering::Relaxed)
    );
    assert!(authority.stop().success());
}
