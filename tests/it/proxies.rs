//! Real proxies before a service, with the configurations that the documents show.

pub(crate) mod behind;

use std::fs;

use behind::{Answer, Behind, Start, caddy, envoy, nginx, traefik};
use tempfile::TempDir;
use tessera_proto::v1::{IssueRequest, revoke_request::Target};

use crate::{
    peers::Peers,
    support::{Authority, access, copy_directory, root, viewer},
};

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn envoy_lets_through_what_the_authority_lets_through() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::start(&peers, "envoy.yaml", envoy);
    guarded.passes_and_refuses(403).await;
    guarded.closes_without_the_authority(Some(503), 503).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn nginx_lets_through_what_the_authority_lets_through() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::start(&peers, "nginx.conf", nginx);
    guarded.passes_and_refuses(503).await;
    guarded.closes_without_the_authority(Some(503), 503).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn caddy_lets_through_what_the_authority_lets_through() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::start(&peers, "Caddyfile", caddy);
    guarded.passes_and_refuses(403).await;
    guarded.closes_without_the_authority(Some(504), 502).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn traefik_lets_through_what_the_authority_lets_through() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::start(&peers, "traefik-dynamic.yaml", traefik);
    guarded.passes_and_refuses(404).await;
    // Traefik waits half a minute for a silent authority, and this can't be configured.
    guarded.closes_without_the_authority(None, 500).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn envoy_asks_over_http_and_the_policy_says_what_paths_need() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::by_routes(&peers, "envoy-http.yaml", envoy);
    guarded.passes_and_refuses(403).await;
    guarded.plays_what_the_token_is_for().await;
    guarded.obeys_the_host().await;
    guarded.closes_without_the_authority(Some(503), 503).await;
}

/// gRPC without `context_extensions`, for a mesh that can't pass data of a route.
#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn envoy_says_no_scope_and_the_policy_says_what_paths_need() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::by_routes(&peers, "envoy.yaml", |peers, config, directory| {
        let text = fs::read_to_string(config).unwrap();
        let start = text.find("                        - match:").unwrap();
        let end = text.find("  clusters:").unwrap();
        let everything = "                        - match: { prefix: / }\n                          route: { cluster: videos }\n";
        fs::write(config, format!("{}{everything}{}", &text[..start], &text[end..])).unwrap();
        envoy(peers, config, directory)
    });
    guarded.passes_and_refuses(403).await;
    guarded.plays_what_the_token_is_for().await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn nginx_says_no_scope_and_the_policy_says_what_paths_need() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::by_routes(&peers, "nginx-routes.conf", nginx);
    guarded.passes_and_refuses(403).await;
    guarded.plays_what_the_token_is_for().await;
    guarded.obeys_the_host().await;
    guarded.closes_without_the_authority(Some(503), 503).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn caddy_says_no_scope_and_the_policy_says_what_paths_need() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::by_routes(&peers, "Caddyfile-routes", caddy);
    guarded.passes_and_refuses(403).await;
    guarded.plays_what_the_token_is_for().await;
    guarded.obeys_the_host().await;
    guarded.closes_without_the_authority(Some(504), 502).await;
}

#[tokio::test]
#[ignore = "needs peers: docs/peers.md"]
async fn traefik_says_no_scope_and_the_policy_says_what_paths_need() {
    let Some(peers) = Peers::installed() else { return };
    let guarded = Guarded::by_routes(&peers, "traefik-routes.yaml", traefik);
    guarded.passes_and_refuses(403).await;
    guarded.plays_what_the_token_is_for().await;
    guarded.obeys_the_host().await;
    guarded.closes_without_the_authority(None, 500).await;
}

/// The usual policy with films that can be played, and the routes that the documents show.
fn policy_with_routes() -> TempDir {
    let directory = TempDir::new().unwrap();
    copy_directory(&root().join("policies"), directory.path());
    let catalogue = directory.path().join("catalogue.toml");
    let more = "[scopes]\n\"videos/{id}:play\" = \"play one video\"\n";
    let content = fs::read_to_string(&catalogue).unwrap();
    fs::write(&catalogue, content.replacen("[scopes]\n", more, 1)).unwrap();
    let rules = directory.path().join("policy.csv");
    let more = "\np, role:viewer, *, videos/*, play, allow\n";
    fs::write(&rules, fs::read_to_string(&rules).unwrap() + more).unwrap();
    fs::copy(
        root().join("docs/proxies/routes.toml"),
        directory.path().join("routes.toml"),
    )
    .unwrap();
    directory
}

fn scoped(subject: &str, role: &str, scopes: &[&str]) -> IssueRequest {
    IssueRequest {
        roles: vec![role.to_owned()],
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..viewer(subject)
    }
}

/// A service behind a proxy that asks an authority.
struct Guarded {
    authority: Authority,
    service: Behind,
}

impl Guarded {
    fn start(peers: &Peers, config: &str, start: Start) -> Self {
        Self::behind(Authority::dev(&[]), peers, config, start)
    }

    /// A proxy on a policy with routes.
    fn by_routes(peers: &Peers, config: &str, start: Start) -> Self {
        let policy = policy_with_routes();
        let authority = Authority::dev(&["--policy", policy.path().to_str().unwrap()]);
        Self::behind(authority, peers, config, start)
    }

    fn behind(authority: Authority, peers: &Peers, config: &str, start: Start) -> Self {
        let service = Behind::start(peers, &authority.address, config, start);
        Self { authority, service }
    }

    /// `closed` is the status of a path that the configuration does not name.
    async fn passes_and_refuses(&self, closed: u16) {
        let client = self.authority.client("production").await;
        let ann = client
            .issue(scoped("user:ann", "role:viewer", &["videos:read"]))
            .await
            .unwrap();
        let both = ["videos:read", "videos:write"];
        let bob = client.issue(scoped("user:bob", "role:editor", &both));
        let reader = format!("Bearer {}", access(ann.tokens.as_ref()));
        let writer = format!("Bearer {}", access(bob.await.unwrap().tokens.as_ref()));
        let trial = self
            .authority
            .client("sandbox")
            .await
            .issue(viewer("user:ann"))
            .await;
        let trial = format!("Bearer {}", access(trial.unwrap().tokens.as_ref()));

        let read = self.ask("GET /videos/1?scope=videos:none", &[("authorization", &reader)]);
        read.reached_as("user:ann", "videos:read");
        assert_eq!(read.seen("authorization"), [reader.as_str()]);
        let write = self.ask("POST /videos", &[("authorization", &writer)]);
        write.reached_as("user:bob", "videos:read videos:write");

        self.ask("GET /videos", &[])
            .refused(401, r#"Bearer realm="tessera""#);
        let invalid = r#"Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed""#;
        for bad in ["Bearer garbage", &trial] {
            self.ask("GET /videos", &[("authorization", bad)])
                .refused(401, invalid);
        }
        let lacking = r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:write""#;
        self.ask("POST /videos", &[("authorization", &reader)])
            .refused(403, lacking);
        // A query that a client adds to its path does not affect the check.
        self.ask(
            "POST /videos?scope=any&realm=sandbox",
            &[("authorization", &reader)],
        )
        .refused(403, lacking);
        let twice = self.ask(
            "GET /videos",
            &[("authorization", &reader), ("authorization", &reader)],
        );
        assert!(matches!(twice.status, 400 | 401), "{twice:?}");
        let unlisted = self.ask("GET /other", &[("authorization", &writer)]);
        assert_eq!(unlisted.status, closed, "{unlisted:?}");
        // The service might read it as another path, which was not checked.
        let hidden = self.ask("GET /videos/..%2fother", &[("authorization", &reader)]);
        for refused in [twice, unlisted, hidden] {
            assert!(!refused.reached, "{refused:?}");
        }
        self.no_claim_of_a_client_survives(&reader);

        client.revoke(Target::SessionId(ann.session_id)).await.unwrap();
        self.ask("GET /videos", &[("authorization", &reader)])
            .refused(401, invalid);
    }

    /// The scope has its parameter from the path, with every method, regardless of what the client adds.
    async fn plays_what_the_token_is_for(&self) {
        let client = self.authority.client("production").await;
        let ann = client.issue(scoped("user:ann", "role:viewer", &["videos/v1:play"]));
        let token = format!("Bearer {}", access(ann.await.unwrap().tokens.as_ref()));
        let with = [
            ("authorization", token.as_str()),
            ("x-original-uri", "/health"),
            ("x-original-method", "GET"),
        ];
        for line in [
            "GET /videos/v1/play?t=1&scope=any",
            "POST /videos/%761/play",
            "OPTIONS /videos/v1/play",
        ] {
            self.ask(line, &with[..1])
                .reached_as("user:ann", "videos/v1:play");
        }
        let lacking = r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos/v2:play""#;
        self.ask("GET /videos/v2/play", &with[..1]).refused(403, lacking);
        self.ask("OPTIONS /videos/v2/play", &with[..1])
            .refused(403, lacking);
        for line in [
            "GET /videos/v1/play/..%2f..%2fv2/play",
            "GET /videos/v2%2fplay",
            "GET /videos/%252e%252e/play",
            "GET /health;/../videos/v2/play",
            "GET /videos/v2;a/play",
        ] {
            let unclear = self.ask(line, &with[..1]);
            assert!(
                matches!(unclear.status, 400 | 403) && !unclear.reached,
                "{line}: {unclear:?}"
            );
        }
        // A client's own header about its path is ignored.
        let said = self.ask("GET /videos/v2/play", &with);
        assert!(said.status != 200 && !said.reached, "{said:?}");
    }

    /// The host is the one in the client's request, and a wildcard matches one more label.
    async fn obeys_the_host(&self) {
        let client = self.authority.client("production").await;
        let ann = client.issue(scoped("user:ann", "role:viewer", &["videos:read"]));
        let token = format!("Bearer {}", access(ann.await.unwrap().tokens.as_ref()));
        let ask = |host: &str| {
            let headers = [("host", host), ("authorization", token.as_str())];
            self.ask("GET /clips/1", &headers)
        };
        for host in ["eu.clips.example.org", "EU.clips.example.org:8080"] {
            ask(host).reached_as("user:ann", "videos:read");
        }
        let lacking = r#"Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:write""#;
        ask("admin.clips.example.org").refused(403, lacking);
        for host in ["clips.example.org", "a.eu.clips.example.org"] {
            let closed = ask(host);
            assert_eq!(
                (closed.status, closed.reached),
                (403, false),
                "{host}: {closed:?}"
            );
        }
    }

    fn no_claim_of_a_client_survives(&self, reader: &str) {
        let spoofed = [
            ("x-tessera-subject", "user:root"),
            ("X-Tessera-Scopes", "everything"),
            ("x-tessera-subject", "user:twice"),
            ("x_tessera_subject", "user:root"),
            ("x-other", "stays"),
        ];
        let with_token = [&spoofed[..], &[("authorization", reader)]].concat();
        let seen = self.ask("GET /videos", &with_token);
        seen.reached_as("user:ann", "videos:read");
        assert_eq!(seen.seen("x-other"), ["stays"]);
        assert!(seen.seen("x_tessera_subject").is_empty(), "{seen:?}");
        let open = self.ask("GET /health", &spoofed[..3]);
        assert_eq!(open.status, 200, "{open:?}");
        for name in ["x-tessera-subject", "x-tessera-scopes"] {
            assert!(open.seen(name).is_empty(), "{open:?}");
        }
    }

    /// First the authority does not answer, if the proxy then gives up soon; then nothing listens.
    async fn closes_without_the_authority(self, if_silent: Option<u16>, if_gone: u16) {
        let client = self.authority.client("production").await;
        let bob = client
            .issue(scoped("user:bob", "role:viewer", &["videos:read"]))
            .await
            .unwrap();
        let token = format!("Bearer {}", access(bob.tokens.as_ref()));
        let ask = || self.service.ask("GET /videos", &[("authorization", &token)]);
        ask().reached_as("user:bob", "videos:read");
        if let Some(if_silent) = if_silent {
            self.authority.pause();
            let silent = ask();
            assert_eq!((silent.status, silent.reached), (if_silent, false), "{silent:?}");
        }
        self.authority.kill();
        let gone = ask();
        assert_eq!((gone.status, gone.reached), (if_gone, false), "{gone:?}");
    }

    fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        self.service.ask(line, headers)
    }
}
