//! The promises of the READMEs in `policies/examples`, tested with services that verify with the SDK.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tessera_client::{
    Client, Connection, Decision, Scope, TokenRequest, TokenSource, Verifier, VerifierOptions, v1,
};
use tessera_testkit::{TestAuthority, soon, until};
use v1::{IssueRequest, RevokeRequest, revoke_request::Target};

/// An authority on the policy of an example.
struct Example {
    kit: TestAuthority,
}

impl Example {
    async fn start(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples");
        let builder = TestAuthority::builder().with_policy(directory.join(name), "client:dev", &[]);
        let kit = builder.start().await;
        Self { kit }
    }

    async fn connection(&self, realm: &str, client: &str) -> Connection {
        let api_key = self.kit.api_key_of(realm, &format!("client:{client}")).await;
        Connection::new(self.kit.address(), api_key)
    }

    /// A service that verifies tokens for `audience` with the key of `client`.
    async fn service(&self, realm: &str, client: &str, audience: &str) -> Verifier {
        let connection = self.connection(realm, client).await;
        let options = VerifierOptions::new(connection, realm, audience).unwrap();
        let verifier = Verifier::start(options.clock(self.kit.clock().shared())).unwrap();
        soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
        verifier
    }

    /// An access token, or the reason of a refusal.
    async fn token(&self, client: &str, request: IssueRequest) -> Result<String, String> {
        self.token_in("production", client, request).await
    }

    async fn token_in(&self, realm: &str, client: &str, request: IssueRequest) -> Result<String, String> {
        let client = Client::new(&self.connection(realm, client).await).unwrap();
        let issued = client.issue(request).await;
        let issued = issued.map_err(|error| {
            let reason = error.reason().unwrap_or_default().as_str_name();
            reason.trim_start_matches("ERROR_REASON_").to_owned()
        })?;
        Ok(issued.tokens.unwrap().access_token)
    }
}

fn ask(subject: &str, roles: &[&str], scopes: &[&str]) -> IssueRequest {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    IssueRequest {
        subject: subject.to_owned(),
        roles: owned(roles),
        scopes: owned(scopes),
        ..IssueRequest::default()
    }
}

/// Which of these scopes the bearer can use at a service.
fn used<'a>(verifier: &Verifier, token: &str, scopes: &[&'a str]) -> BTreeSet<&'a str> {
    let is_used = |scope: &&&str| {
        let scope = Scope::parse(scope).unwrap();
        matches!(verifier.verify(token, Some(&scope)), Decision::Allow(_))
    };
    scopes.iter().filter(is_used).copied().collect()
}

#[tokio::test]
async fn age_check_a_proof_buys_and_does_nothing_else() {
    let example = Example::start("age-check").await;
    let shop = example.service("production", "dev", "shop").await;
    let all = ["shop/restricted:buy", "shop:manage"];
    let visitor = ask("visitor:7f3a9c", &["role:age-verified"], &[]);
    let proof = example.token("age-check", visitor).await.unwrap();
    assert_eq!(used(&shop, &proof, &all), BTreeSet::from(["shop/restricted:buy"]));
    let Decision::Allow(claims) = shop.verify(&proof, None) else {
        panic!("a good token");
    };
    assert_eq!(claims.subject.as_str(), "visitor:7f3a9c");
    let bob = example.token("shop", ask("user:bob", &[], &[])).await.unwrap();
    assert_eq!(used(&shop, &bob, &all), BTreeSet::from(["shop:manage"]));
    for (subject, roles, reason) in [
        ("user:bob", &["role:age-verified"][..], "CALL_NOT_ALLOWED"),
        ("visitor:7f3a9c", &["role:shopkeeper"], "CALL_NOT_ALLOWED"),
        ("", &["role:age-verified"], "SCOPE_DENIED"),
    ] {
        let asked = ask(subject, roles, &["shop/restricted:buy"]);
        assert_eq!(
            example.token("age-check", asked).await,
            Err(reason.to_owned()),
            "{subject}"
        );
    }
}

#[tokio::test]
async fn api_keys_nothing_of_one_realm_is_accepted_in_the_other() {
    let example = Example::start("api-keys").await;
    let production = example.service("production", "dev", "api").await;
    let sandbox = example.service("sandbox", "dev", "api").await;
    let all = ["invoices:read", "invoices:write"];
    let real = example.token("reports", ask("", &[], &[])).await.unwrap();
    let trial = example
        .token_in("sandbox", "reports", ask("", &[], &[]))
        .await
        .unwrap();
    assert_eq!(used(&production, &real, &all), BTreeSet::from(["invoices:read"]));
    assert_eq!(used(&sandbox, &trial, &all), BTreeSet::from(all));
    assert!(used(&production, &trial, &all).is_empty());
    assert!(used(&sandbox, &real, &all).is_empty());
    // A client that exchanges its key itself gets the same.
    let client = Client::new(&example.connection("production", "reports").await).unwrap();
    let tokens = TokenSource::new(client, TokenRequest::default());
    let token = soon("a token", tokens.token()).await.unwrap();
    assert_eq!(
        used(&production, token.expose(), &all),
        BTreeSet::from(["invoices:read"])
    );
}

#[tokio::test]
async fn rental_a_token_plays_one_film_for_a_day_at_most() {
    let example = Example::start("rental").await;
    let player = example.service("production", "dev", "player").await;
    let all = ["videos/v42:play", "videos/v43:play", "videos:write"];
    let rent = |scopes: &[&str]| ask("user:ann", &["role:renter"], scopes);
    let rented = example.token("shop", rent(&["videos/v42:play"])).await.unwrap();
    assert_eq!(used(&player, &rented, &all), BTreeSet::from(["videos/v42:play"]));
    let denied = example.token("shop", rent(&["videos/cinema/v99:play"])).await;
    assert_eq!(denied, Err("SCOPE_DENIED".to_owned()));
    let studio = example.token("studio", ask("", &[], &[])).await.unwrap();
    assert_eq!(used(&player, &studio, &all), BTreeSet::from(["videos:write"]));
    example
        .kit
        .clock()
        .advance(Duration::from_hours(24) + Duration::from_secs(31));
    assert!(used(&player, &rented, &all).is_empty());
}

#[tokio::test]
async fn live_stream_one_call_ends_the_viewers_of_one_stream() {
    let example = Example::start("live-stream").await;
    let edge = example.service("production", "edge", "edge").await;
    let all = ["live-streams/ls_42:watch", "live-streams/ls_43:watch"];
    let ticket = async |subject, stream: &str| {
        let scope = format!("live-streams/{stream}:watch");
        let request = IssueRequest {
            labels: vec![format!("stream:{stream}")],
            ..ask(subject, &["role:viewer"], &[&scope])
        };
        example.token("box-office", request).await.unwrap()
    };
    let (ann, bob) = (
        ticket("user:ann", "ls_42").await,
        ticket("user:bob", "ls_43").await,
    );
    assert_eq!(used(&edge, &ann, &all), BTreeSet::from([all[0]]));
    assert_eq!(used(&edge, &bob, &all), BTreeSet::from([all[1]]));
    let control = Client::new(&example.connection("production", "live-control").await).unwrap();
    let request = RevokeRequest {
        target: Some(Target::Label("stream:ls_42".to_owned())),
        ..RevokeRequest::default()
    };
    assert_eq!(control.revoke(request).await.unwrap().matched, 1);
    until("the stream is over", || used(&edge, &ann, &all).is_empty()).await;
    assert_eq!(used(&edge, &bob, &all), BTreeSet::from([all[1]]));
}

#[tokio::test]
async fn clearance_a_tier_includes_those_below() {
    let example = Example::start("clearance").await;
    let tiers = [
        "documents/secret:read",
        "documents/confidential:read",
        "documents/public:read",
    ];
    for (realm, subject, expected) in [
        ("production", "user:ann", &tiers[..]),
        ("production", "user:bob", &tiers[1..]),
        ("production", "user:cat", &[]),
        ("sandbox", "user:ann", &tiers[2..]),
        ("sandbox", "user:bob", &[]),
    ] {
        let archive = example.service(realm, "dev", "archive").await;
        let token = example
            .token_in(realm, "reading-room", ask(subject, &[], &[]))
            .await;
        let found = token.map_or_else(|_| BTreeSet::new(), |token| used(&archive, &token, &tiers));
        assert_eq!(found, expected.iter().copied().collect(), "{subject} in {realm}");
    }
}

#[tokio::test]
async fn clinic_one_deny_decides() {
    let example = Example::start("clinic").await;
    let systems = example.service("production", "dev", "clinic").await;
    let all = [
        "schedules:read",
        "schedules:write",
        "patients/p_7:read",
        "patients/sealed/p_7:read",
    ];
    for (subject, expected) in [
        ("user:ann", &[all[0], all[2], all[3]][..]),
        ("user:intern-1", &[all[0], all[2]]),
        ("user:bob", &[all[0], all[1]]),
    ] {
        let token = example.token("ward", ask(subject, &[], &all)).await.unwrap();
        let expected = expected.iter().copied().collect();
        assert_eq!(used(&systems, &token, &all), expected, "{subject}");
    }
}

#[tokio::test]
async fn bank_a_token_opens_one_service_for_two_minutes() {
    let example = Example::start("bank").await;
    let accounts = example.service("production", "accounts", "accounts").await;
    let payments = example.service("production", "payments", "payments").await;
    let all = ["accounts:read", "accounts:close", "payments:create"];
    let visit = |audience: &str, scope: &str| IssueRequest {
        audience: audience.to_owned(),
        access_ttl: Some(Duration::from_secs(120).try_into().unwrap()),
        ..ask("user:ann", &["role:customer"], &[scope])
    };
    let looking = example
        .token("mobile-bank", visit("accounts", "accounts:read"))
        .await
        .unwrap();
    let paying = example
        .token("mobile-bank", visit("payments", "payments:create"))
        .await
        .unwrap();
    assert_eq!(used(&accounts, &looking, &all), BTreeSet::from(["accounts:read"]));
    assert_eq!(
        used(&payments, &paying, &all),
        BTreeSet::from(["payments:create"])
    );
    assert!(used(&payments, &looking, &all).is_empty());
    assert!(used(&accounts, &paying, &all).is_empty());
    let closing = visit("accounts", "accounts:close");
    assert_eq!(
        example.token("mobile-bank", closing).await,
        Err("SCOPE_DENIED".to_owned())
    );
    example.kit.clock().advance(Duration::from_secs(120 + 31));
    assert!(used(&accounts, &looking, &all).is_empty());
}

#[test]
fn every_example_is_held_here() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples");
    let tests = include_str!("examples.rs");
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let start = format!("Example::start(\"{name}\")");
        assert!(!entry.path().is_dir() || tests.contains(&start), "{name}");
    }
}
