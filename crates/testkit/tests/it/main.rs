//! Tests of the kit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tessera_client::{
    Client, ClientOptions, Decision, DenyReason, Scope, Verifier,
    v1::{IntrospectRequest, RefreshRequest, revoke_request::Target},
};
use tessera_testkit::{Proxy, TestAuthority, TestClock, soon, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn denied(verifier: &Verifier, token: &str) -> DenyReason {
    match verifier.verify(token, None) {
        Decision::Deny(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn allows(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token, None).claims().is_some()
}

#[tokio::test]
async fn revoking_answers_when_every_verifier_knows() {
    let authority = TestAuthority::start().await;
    let verifiers = [authority.verifier("api").await, authority.verifier("api").await];
    for round in 0..20 {
        let session = authority
            .issue("user:ann", &["videos:read", "videos:write"])
            .await;
        assert!(
            verifiers
                .iter()
                .all(|verifier| allows(verifier, &session.access_token))
        );
        if round % 2 == 0 {
            authority.revoke_session(&session).await;
        } else {
            authority.revoke_subject("user:ann").await;
        }
        for verifier in &verifiers {
            assert_eq!(denied(verifier, &session.access_token), DenyReason::Revoked);
        }
    }
}

#[tokio::test]
async fn one_clock_moves_the_authority_and_its_verifiers() {
    let authority = TestAuthority::start().await;
    let verifier = authority.verifier("api").await;
    let session = authority.issue("user:ann", &["videos:read"]).await;
    let claims = verifier
        .verify(&session.access_token, None)
        .claims()
        .cloned()
        .unwrap();
    assert_eq!(claims.issued_at, authority.clock().now());
    assert_eq!(
        (claims.subject.as_str(), claims.audience.as_str()),
        ("user:ann", "api")
    );
    let an_hour = Duration::from_secs(3600);
    authority.clock().advance(an_hour + Duration::from_secs(31));
    assert_eq!(denied(&verifier, &session.access_token), DenyReason::Expired);
    let introspected = authority.client().introspect(IntrospectRequest {
        token: session.access_token.clone(),
        ..IntrospectRequest::default()
    });
    assert!(!introspected.await.unwrap().active);
    authority.clock().turn_back(an_hour);
    assert!(allows(&verifier, &session.access_token));
    // The session outlives its access token.
    let refreshed = authority.client().refresh(RefreshRequest {
        refresh_token: session.refresh_token.clone(),
        ..RefreshRequest::default()
    });
    assert_eq!(refreshed.await.unwrap().generation, 2);
    let shown = format!("{session:?} {authority:?}");
    assert!(
        !shown.contains("v4.public") && !shown.contains("tsr_") && !shown.contains("tsk_"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_stall_holds_up_services_and_not_the_test() {
    let authority = TestAuthority::start().await;
    let options = authority
        .verifier_options("api")
        .staleness_bound(Duration::from_millis(300));
    let verifier = Verifier::start(options).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let _patient = authority.verifier("api").await;
    let session = authority.issue("user:ann", &["videos:read"]).await;
    authority.stall();
    // Neither issuing nor revoking waits for a verifier that is held up.
    let revoking = authority.revoke(Target::Token(session.access_token.clone()));
    let revoked = tokio::time::timeout(Duration::from_secs(2), revoking).await;
    revoked.expect("not to wait for the patient one");
    let second = authority.issue("user:ann", &["videos:read"]).await;
    let is_stale = |token: &str| matches!(verifier.verify(token, None), Decision::Stale { .. });
    until("stale", || is_stale(&second.access_token)).await;
    authority.resume();
    until("fresh again", || allows(&verifier, &second.access_token)).await;
    assert_eq!(denied(&verifier, &session.access_token), DenyReason::Revoked);
    // A client that connects with the kit's connection is held up too.
    let client = Client::new(&authority.connection()).unwrap();
    client.list_keys("production").await.unwrap();
    authority.stall();
    let held_up = tokio::time::timeout(Duration::from_millis(100), client.list_keys("production"));
    assert!(held_up.await.is_err());
}

#[tokio::test]
async fn a_policy_of_its_own_is_in_force_and_reloaded() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &[u8]| fs::write(directory.path().join(name), text).unwrap();
    let bundled = tessera_policy::Policy::default_files();
    file(
        "model.conf",
        bundled.iter().find(|(name, _)| *name == "model.conf").unwrap().1,
    );
    let catalogue = "[realms]\nproduction = \"it\"\n[roles]\n[scopes]\n\"orders:read\" = \"read\"\n[audiences]\norders = \"it\"\nstock = \"another\"\n";
    file("catalogue.toml", catalogue.as_bytes());
    let rules = "p, client:shop, *, tessera/subjects/*, issue, allow\np, client:shop, *, tessera/revocations, watch, allow\np, client:shop, *, tessera/revocations, require, allow\n";
    let allowed = format!("{rules}p, user:ann, *, orders, read, allow\n");
    file("policy.csv", allowed.as_bytes());
    let clock = TestClock::new();
    let authority = TestAuthority::builder()
        .with_policy(directory.path(), "client:shop", &[])
        .clock(clock.clone())
        .start()
        .await;
    let verifier = authority.verifier("orders").await;
    let session = authority.issue("user:ann", &["orders:read"]).await;
    let read = Scope::parse("orders:read").unwrap();
    assert!(
        verifier
            .verify(&session.access_token, Some(&read))
            .claims()
            .is_some()
    );
    file("policy.csv", rules.as_bytes());
    authority.reload_policy().await;
    until("taken", || {
        verifier
            .verify(&session.access_token, Some(&read))
            .claims()
            .is_none()
    })
    .await;
    let other = authority.api_key_of("production", "client:other").await;
    assert!(other.expose() != authority.api_key().expose());
    clock.advance(Duration::from_secs(7200));
    assert_eq!(authority.clock().now(), clock.now());
}

#[tokio::test]
async fn it_stops_and_another_takes_its_place() {
    let mut authority = TestAuthority::start().await;
    let verifier = authority.verifier("api").await;
    let at = authority
        .direct_address()
        .trim_start_matches("http://")
        .to_owned();
    authority.stop().await;
    until("the verifier notices", || verifier.status().problem.is_some()).await;
    let options = ClientOptions {
        deadline: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    let client = Client::with_options(&authority.connection(), options).unwrap();
    assert!(client.list_keys("production").await.is_err());
    let second = TestAuthority::builder().listen(&at).start().await;
    assert_eq!(second.direct_address(), authority.direct_address());
    assert!(second.client().list_keys("production").await.is_ok());
}

#[tokio::test]
async fn one_that_was_killed_goes_on_with_what_it_had() {
    let mut authority = TestAuthority::start().await;
    let verifier = authority.verifier("api").await;
    let (kept, revoked) = (
        authority.issue("user:ann", &["videos:read"]).await,
        authority.issue("user:bob", &["videos:read"]).await,
    );
    let address = authority.direct_address().to_owned();
    let target = Target::SessionId(revoked.session_id.clone());
    let request = tessera_client::v1::RevokeRequest {
        target: Some(target),
        ..Default::default()
    };
    authority.client().revoke(request).await.unwrap();
    authority.kill().await;
    let quick = ClientOptions {
        deadline: Duration::from_millis(100),
        ..ClientOptions::default()
    };
    let client = Client::with_options(&authority.connection(), quick).unwrap();
    assert!(client.list_keys("production").await.is_err());
    authority.restart().await;
    assert_eq!(authority.direct_address(), address);
    until("the event", || {
        !allows(&verifier, &revoked.access_token) && allows(&verifier, &kept.access_token)
    })
    .await;
    let refreshed = authority.client().refresh(RefreshRequest {
        refresh_token: kept.refresh_token.clone(),
        ..RefreshRequest::default()
    });
    assert_eq!(refreshed.await.unwrap().generation, 2);
    // It can be killed more than once, and stopped.
    authority.restart().await;
    authority.revoke_subject("user:ann").await;
    until("the next event", || !allows(&verifier, &kept.access_token)).await;
    authority.stop().await;
    authority.stop().await;
}

/// Data of one connection arrives in order; data of an old connection may arrive after later data of a new one, even if
/// the old one was cut.
#[tokio::test]
async fn a_proxy_mixes_connections_and_not_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(&format!("http://{}", listener.local_addr().unwrap())).await;
    let connect = async || {
        let near = TcpStream::connect(proxy.address().trim_start_matches("http://"));
        let near = near.await.unwrap();
        near.set_nodelay(true).unwrap();
        (near, listener.accept().await.unwrap().0)
    };
    let (mut old, mut old_far) = connect().await;
    proxy.stall();
    for byte in 0..50 {
        old.write_all(&[byte]).await.unwrap();
    }
    // Only data that has reached the proxy is in transit.
    old.flush().await.unwrap();
    tokio::task::yield_now().await;
    proxy.resume();
    proxy.disorder(Duration::from_millis(200));
    old.write_all(&[50]).await.unwrap();
    let mut bytes = vec![0; 51];
    soon("all of the old one", old_far.read_exact(&mut bytes))
        .await
        .unwrap();
    assert!(bytes.is_sorted() && bytes.last() == Some(&50));
    // Sometimes the new connection is faster than the old one; and data in transit survives the cut.
    soon("a new one that is first", async {
        loop {
            let (mut old, mut old_far) = connect().await;
            let (mut new, mut new_far) = connect().await;
            old.write_all(b"old").await.unwrap();
            new.write_all(b"new").await.unwrap();
            let (mut one, mut other) = ([0; 3], [0; 3]);
            new_far.read_exact(&mut other).await.unwrap();
            let came_at = Instant::now();
            proxy.cut();
            old_far.read_exact(&mut one).await.unwrap();
            assert_eq!((&one, &other), (b"old", b"new"));
            assert_eq!(old.read(&mut [0]).await.unwrap_or_default(), 0);
            if came_at.elapsed() > Duration::from_millis(50) {
                return;
            }
        }
    })
    .await;
}
