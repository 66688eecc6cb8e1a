//! Several addresses: verifiers and calls continue at another one if one does not work.

use std::time::{Duration, Instant};

use tessera_client::{
    Client, ClientOptions, Connection, ErrorKind, TokenRequest, TokenSource, Verifier, VerifierOptions,
    v1::{RefreshRequest, revoke_request::Target},
};
use tessera_testkit::{Proxy, soon, until};
use tonic::Code;

use crate::{
    authorizing::Log,
    fake::gate,
    world::{World, access, viewer},
};

/// Nothing listens there.
const NOBODY: &str = "http://127.0.0.1:1";
const BOUND: Duration = Duration::from_secs(4);

/// The wait between two attempts is so long that a test which needs one fails.
fn impatient() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_secs(10),
        backoff: Duration::from_secs(60),
        backoff_max: Duration::from_secs(60),
    }
}

async fn connection(world: &World, name: &str, addresses: &[&str]) -> Connection {
    let api_key = world
        .kit
        .api_key_of("production", &format!("client:{name}"))
        .await;
    Connection::to_any_of(addresses.iter().copied(), api_key).in_order()
}

async fn client(world: &World, addresses: &[&str], options: ClientOptions) -> Client {
    Client::with_options(&connection(world, "app", addresses).await, options).unwrap()
}

async fn verifier(world: &World, addresses: &[&str]) -> Verifier {
    let connection = connection(world, "admin", addresses).await;
    let options = VerifierOptions::new(connection, "production", "api").unwrap();
    let verifier = Verifier::start(options.staleness_bound(BOUND).clock(world.clock.shared())).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    verifier
}

fn allows(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token, None).claims().is_some()
}

/// Waits until a condition holds; at each check a valid token must be allowed.
async fn until_all_along(what: &str, verifier: &Verifier, good: &str, holds: impl Fn() -> bool) {
    until(what, || {
        assert!(allows(verifier, good), "{what}: {:?}", verifier.status());
        holds()
    })
    .await;
}

#[tokio::test]
async fn a_verifier_whose_node_freezes_moves_within_its_bound() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let world = World::start().await;
    let good = access(&world.issue(viewer("user:ann")).await).to_owned();
    let doomed = world.issue(viewer("user:bob")).await;
    let (one, two) = (Proxy::to(&world.address).await, Proxy::to(&world.address).await);
    // An address that refuses is included: it costs no time.
    let verifier = verifier(&world, &[one.address(), NOBODY, two.address()]).await;
    assert_eq!(verifier.status().address, one.address());
    one.stall();
    let frozen_at = Instant::now();
    world.revoke(Target::SessionId(doomed.session_id.clone())).await;
    until_all_along("the revocation", &verifier, &good, || {
        !allows(&verifier, access(&doomed))
    })
    .await;
    assert!(frozen_at.elapsed() < BOUND, "{:?}", frozen_at.elapsed());
    let status = verifier.status();
    assert_eq!((status.address.as_str(), status.snapshots), (two.address(), 1));
    // It logs the move when the other address has worked for a while.
    let moved = || {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("another address"));
        line.map(str::to_owned)
    };
    until_all_along("the log", &verifier, &good, || moved().is_some()).await;
    let line = moved().unwrap();
    for said in [
        format!("address=\"{}\"", two.address()),
        format!("before=\"{}\"", one.address()),
        "why=\"the stream is silent\"".to_owned(),
    ] {
        assert!(line.contains(&said), "{line}");
    }
    // It stays there when the first one is available again, and can return from there later.
    one.resume();
    two.stall();
    until_all_along("the way back", &verifier, &good, || {
        verifier.status().address == one.address()
    })
    .await;
    until_all_along("an answer", &verifier, &good, || {
        verifier.status().problem.is_none()
    })
    .await;
    assert_eq!(verifier.status().snapshots, 1);
}

#[tokio::test]
async fn a_verifier_whose_node_is_not_ready_moves() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    gate.fail(&[Code::Unavailable; 100]);
    let began = Instant::now();
    let verifier = verifier(&world, &[&address, &world.address]).await;
    assert_eq!(verifier.status().address, world.address);
    assert_eq!(gate.streams(), 1, "after {:?}", began.elapsed());
}

#[tokio::test]
async fn what_waiting_does_not_help_ends_ready_at_once() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    gate.fail(&[Code::PermissionDenied; 100]);
    let connection = connection(&world, "admin", &[&address, &world.address]).await;
    let options = VerifierOptions::new(connection, "production", "api").unwrap();
    let verifier = Verifier::start(options).unwrap();
    let refused = soon("an error", verifier.ready(Duration::MAX)).await.unwrap_err();
    assert!(refused.is_permanent, "{refused}");
    assert_eq!(refused.address, address);
    assert!(
        refused
            .to_string()
            .starts_with("the verifier is not ready, and waiting does not help: http://")
    );
}

#[tokio::test]
async fn addresses_that_cannot_be_used_together_are_refused() {
    let world = World::start().await;
    for (addresses, expected) in [
        (&[][..], "no address: name at least one"),
        (
            &["https://a:1", "http://b:1"][..],
            "use https:// for all of https://a:1, http://b:1",
        ),
        (
            &["http://127.0.0.1:1", "http://no host"][..],
            "`http://no host` is not an address",
        ),
    ] {
        let connection = connection(&world, "admin", addresses).await;
        let error = Client::new(&connection).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let options = VerifierOptions::new(connection, "production", "api").unwrap();
        assert_eq!(Verifier::start(options).unwrap_err().to_string(), error);
    }
}

#[tokio::test]
async fn a_call_goes_on_at_the_next_address_without_waiting() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    gate.fail(&[Code::Unavailable]);
    let app = client(&world, &[NOBODY, &address, &world.address], impatient()).await;
    app.issue(viewer("user:ann")).await.unwrap();
    assert_eq!(gate.issues(), 1);
    // The next call begins where the last one worked.
    app.issue(viewer("user:ann")).await.unwrap();
    assert_eq!(gate.issues(), 1);
}

#[tokio::test]
async fn a_call_waits_when_each_address_was_tried() {
    let world = World::start().await;
    let ((one, first), (two, second)) = (gate(&world).await, gate(&world).await);
    let options = ClientOptions {
        deadline: Duration::from_millis(600),
        backoff: Duration::from_millis(50),
        backoff_max: Duration::from_millis(50),
    };
    let app = client(&world, &[&first, &second], options).await;
    one.fail(&[Code::Unavailable; 1000]);
    two.fail(&[Code::Unavailable; 1000]);
    let error = app.issue(viewer("user:ann")).await.unwrap_err();
    // An attempt in progress at the deadline is cut off.
    let codes = [Code::Unavailable, Code::DeadlineExceeded];
    assert!(codes.contains(&error.code()), "{error}");
    assert_eq!(error.kind(), ErrorKind::Passing);
    // A wait of 25 ms to 50 ms after each round.
    let rounds = one.issues();
    assert!((2..=25).contains(&rounds), "{rounds}");
    assert!(
        (rounds - 1..=rounds).contains(&two.issues()),
        "{rounds} {}",
        two.issues()
    );
    // Errors that another node would repeat are not retried there.
    one.repair();
    two.repair();
    for code in [Code::PermissionDenied, Code::Unauthenticated, Code::Internal] {
        let before = one.issues() + two.issues();
        one.fail(&[code]);
        two.fail(&[code]);
        assert_eq!(app.issue(viewer("user:ann")).await.unwrap_err().code(), code);
        assert_eq!(one.issues() + two.issues(), before + 1);
        one.repair();
        two.repair();
    }
}

#[tokio::test]
async fn a_call_that_was_done_at_a_lost_node_is_not_done_twice() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let proxy = Proxy::to(&address).await;
    let app = client(&world, &[proxy.address(), &world.address], impatient()).await;
    gate.hold(true);
    let issuing = tokio::spawn({
        let app = app.clone();
        async move { app.issue(viewer("user:ann")).await }
    });
    until("issued", || gate.answered() == 1).await;
    proxy.cut();
    let issued = soon("the other node", issuing).await.unwrap().unwrap();
    // The refresh token is spent at the node that then fails.
    let app = client(&world, &[proxy.address(), &world.address], impatient()).await;
    let refreshing = tokio::spawn({
        let refresh_token = issued.tokens.unwrap().refresh_token;
        let request = RefreshRequest {
            refresh_token,
            ..RefreshRequest::default()
        };
        async move { app.refresh(request).await }
    });
    until("refreshed", || gate.answered() == 2).await;
    proxy.cut();
    let refreshed = soon("the other node", refreshing).await.unwrap().unwrap();
    assert_eq!((refreshed.generation, refreshed.replayed), (2, true));
    let revoked = world.revoke(Target::Subject("user:ann".to_owned())).await;
    assert_eq!(revoked.matched, 1, "one session: {}", issued.session_id);
}

#[tokio::test]
async fn after_a_call_that_nobody_answered_the_next_begins_elsewhere() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    gate.hold(true);
    let options = ClientOptions {
        deadline: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    let connection = connection(&world, "app", &[&address, &world.address]).await;
    let app = Client::with_options(&connection, options).unwrap();
    let error = app.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    // All objects of the connection know it.
    let request = TokenRequest {
        audience: "api".to_owned(),
        ..TokenRequest::default()
    };
    let tokens = TokenSource::new(Client::with_options(&connection, impatient()).unwrap(), request);
    soon("a token", tokens.token()).await.unwrap();
    assert_eq!(gate.issues(), 1);
}
