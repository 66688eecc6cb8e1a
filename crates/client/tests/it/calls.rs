//! Calls: what is retried, and what is not.

use std::time::Duration;

use http::HeaderValue;
use tessera_client::{
    Client, ClientOptions, Decision, ErrorKind, Mode, Verifier,
    v1::{ErrorReason, IntrospectRequest, RefreshRequest},
};
use tessera_testkit::{Proxy, soon, until};
use tonic::Code;

use crate::{
    fake::gate,
    world::{World, access, viewer},
};

fn quick() -> ClientOptions {
    ClientOptions {
        deadline: Duration::from_secs(5),
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
    }
}

#[tokio::test]
async fn only_unavailable_and_aborted_are_tried_again() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let app = world.client("app", &address, quick()).await;
    gate.fail(&[Code::Unavailable, Code::Aborted, Code::Unavailable]);
    app.issue(viewer("user:ann")).await.unwrap();
    assert_eq!(gate.issues(), 4);
    for code in [
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Unknown,
        Code::Cancelled,
    ] {
        let before = gate.issues();
        gate.fail(&[code]);
        let error = app.issue(viewer("user:ann")).await.unwrap_err();
        assert_eq!((error.code(), gate.issues()), (code, before + 1));
    }
}

#[tokio::test]
async fn each_attempt_has_the_headers_of_its_caller_and_never_another_credential() {
    tokio::task_local! { static TRACE: &'static str; }
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let connection = world
        .connection("production", "app", &address)
        .await
        .headers(|headers| {
            let _ = TRACE.try_with(|trace| headers.insert("traceparent", HeaderValue::from_static(trace)));
            headers.insert("authorization", HeaderValue::from_static("Bearer another"));
        });
    let app = Client::with_options(&connection, quick()).unwrap();
    gate.fail(&[Code::Unavailable]);
    TRACE.scope("one", app.issue(viewer("user:ann"))).await.unwrap();
    TRACE.scope("two", app.issue(viewer("user:ann"))).await.unwrap();
    app.issue(viewer("user:ann")).await.unwrap();
    assert_eq!(gate.traces(), ["one", "one", "two"]);
}

/// A call is cut off after several failures; the same table is in the tests of the other SDKs.
#[tokio::test]
async fn a_call_that_its_deadline_cuts_off_says_how_the_attempt_before_failed() {
    let cut_off = "DeadlineExceeded: the deadline passed; the call may still have its effect";
    let before = "; the attempt before failed: ";
    for (faults, expected) in [
        (vec![], cut_off.to_owned()),
        (
            vec![Code::Unavailable],
            format!("{cut_off}{before}Unavailable: scripted"),
        ),
        (
            vec![Code::Unavailable, Code::Aborted],
            format!("{cut_off}{before}Aborted: scripted"),
        ),
    ] {
        let world = World::start().await;
        let (gate, address) = gate(&world).await;
        let options = ClientOptions {
            deadline: Duration::from_secs(600),
            ..quick()
        };
        let app = world.client("app", &address, options).await;
        gate.fail(&faults);
        gate.hold(true);
        let issuing = tokio::spawn(async move { app.issue(viewer("user:ann")).await });
        until("the last attempt", || gate.answered() == 1).await;
        assert_eq!(gate.issues(), faults.len() + 1);
        // The test moves the clock, so that the load of the machine does not decide which attempt is cut off.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(601)).await;
        let error = issuing.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert_eq!(error.to_string(), expected);
        assert_eq!(
            (error.code(), error.kind(), error.reason()),
            (Code::DeadlineExceeded, ErrorKind::Passing, None)
        );
    }
}

#[tokio::test]
async fn a_call_without_time_for_a_retry_ends_at_once_with_the_last_failure() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let hour = Duration::from_secs(3600);
    let options = ClientOptions {
        deadline: Duration::from_secs(600),
        backoff: hour,
        backoff_max: hour,
    };
    let app = world.client("app", &address, options).await;
    gate.fail(&[Code::Unavailable]);
    let error = app.issue(viewer("user:ann")).await.unwrap_err();
    assert_eq!((error.code(), gate.issues()), (Code::Unavailable, 1));
}

#[tokio::test]
async fn a_lost_answer_to_issue_gives_the_same_session() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let proxy = Proxy::to(&address).await;
    let app = world.client("app", proxy.address(), quick()).await;
    gate.hold(true);
    let issuing = tokio::spawn(async move { app.issue(viewer("user:ann")).await });
    until("answered", || gate.answered() == 1).await;
    proxy.cut();
    gate.hold(false);
    let issued = soon("the retry", issuing).await.unwrap().unwrap();
    assert_eq!(gate.issues(), 2);
    let subject = tessera_client::v1::revoke_request::Target::Subject("user:ann".to_owned());
    let revoked = world.revoke(subject).await;
    assert_eq!(revoked.matched, 1, "one session: {}", issued.session_id);
}

#[tokio::test]
async fn a_lost_answer_to_refresh_gives_the_same_successor_and_no_reuse() {
    let world = World::start().await;
    let (gate, address) = gate(&world).await;
    let proxy = Proxy::to(&address).await;
    let app = world.client("app", proxy.address(), quick()).await;
    let issued = app.issue(viewer("user:ann")).await.unwrap();
    let request = |token: &str| RefreshRequest {
        refresh_token: token.to_owned(),
        ..RefreshRequest::default()
    };
    gate.hold(true);
    let refreshing = tokio::spawn({
        let (app, request) = (app.clone(), request(&issued.tokens.unwrap().refresh_token));
        async move { app.refresh(request).await }
    });
    until("answered", || gate.answered() == 2).await;
    proxy.cut();
    gate.hold(false);
    let refreshed = soon("the retry", refreshing).await.unwrap().unwrap();
    assert_eq!(
        (refreshed.generation, refreshed.replayed, gate.refreshes()),
        (2, true, 2)
    );
    // The successor belongs to the session, which continues.
    let tokens = refreshed.tokens.unwrap();
    assert_eq!(
        app.refresh(request(&tokens.refresh_token))
            .await
            .unwrap()
            .generation,
        3
    );
}

#[tokio::test]
async fn an_error_has_the_authoritys_reason() {
    let world = World::start().await;
    let error = world.app.issue(viewer("no\nname")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::FieldInvalid));
    assert_eq!(error.kind(), ErrorKind::Permanent);
    let request = RefreshRequest {
        refresh_token: "tsr_x".to_owned(),
        ..RefreshRequest::default()
    };
    let error = world.app.refresh(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignIn);
    assert!(
        error.to_string().starts_with("REFRESH_TOKEN_INVALID: "),
        "{error}"
    );
    let issued = world.issue(viewer("user:ann")).await;
    let request = IntrospectRequest {
        token: access(&issued).to_owned(),
        ..IntrospectRequest::default()
    };
    assert!(world.app.introspect(request).await.unwrap().active);
    assert_eq!(world.app.list_keys("production").await.unwrap().len(), 1);
    assert!(!format!("{:?}", world.app).contains("tsk_"));
}

/// The request of the token waits equally long.
#[tokio::test]
async fn a_verifier_asks_about_a_token_no_longer_than_its_deadline() {
    let world = World::start().await;
    let issued = world.issue(viewer("user:ann")).await;
    let proxy = Proxy::to(&world.address).await;
    proxy.stall();
    let deadline = Duration::from_millis(100);
    let options = world.options(Duration::from_secs(10), proxy.address()).await;
    let options = options.calls(ClientOptions { deadline, ..quick() });
    let verifier = Verifier::start(options).unwrap();
    let began = std::time::Instant::now();
    let asked = verifier
        .verify_with(access(&issued), None, Mode::Introspect)
        .await;
    let took = began.elapsed();
    assert!(matches!(asked, Decision::Stale { .. }), "{asked:?}");
    assert!(took >= deadline && took < Duration::from_secs(1), "{took:?}");
}
