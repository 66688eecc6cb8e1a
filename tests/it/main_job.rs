//! The main job, end to end: issue, verify offline, introspect, refresh, replay, reuse, revoke, watch.

use std::collections::BTreeSet;

use tessera_proto::v1::{
    EventKind, IssueRequest, Ping, WatchRequest, WatchResponse, WatchStart, revoke_request::Target,
    watch_request, watch_response::Message, watch_start::From,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    offline::Verifier,
    support::{Authority, Client, access, reason, refresh, soon, viewer},
};

/// Watches everything that happens from now on.
async fn watch(client: &Client) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (say, requests) = mpsc::channel(4);
    let start = WatchStart {
        from: Some(From::Latest(true)),
        ..WatchStart::default()
    };
    say.send(WatchRequest {
        message: Some(watch_request::Message::Start(start)),
    })
    .await
    .unwrap();
    let ping = Ping {
        nonce: b"begun".to_vec(),
    };
    say.send(WatchRequest {
        message: Some(watch_request::Message::Ping(ping)),
    })
    .await
    .unwrap();
    let mut stream = client
        .revocations()
        .watch(ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    loop {
        if matches!(next(&mut stream).await, Message::Checkpoint(checkpoint) if checkpoint.nonce == b"begun")
        {
            return (say, stream);
        }
    }
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Message {
    soon("a message", stream.message())
        .await
        .unwrap()
        .unwrap()
        .message
        .unwrap()
}

async fn next_event(stream: &mut Streaming<WatchResponse>) -> (EventKind, String) {
    loop {
        if let Message::Event(event) = next(stream).await {
            return (event.kind(), event.reason);
        }
    }
}

#[tokio::test]
async fn issue_verify_introspect_refresh_replay_reuse_revoke_watch() {
    let authority = Authority::dev(&[]);
    let client = authority.client("production").await;
    let (_say, mut events) = watch(&client).await;

    let request = IssueRequest {
        labels: vec!["stream:ls_42".to_owned()],
        ..viewer("user:ann")
    };
    let issued = client.issue(request).await.unwrap();
    let first_access = access(issued.tokens.as_ref());

    let verifier = Verifier::fetch(&authority.address).await;
    let claims = verifier.verify(&first_access).unwrap();
    assert_eq!(
        (claims["sub"].as_str(), claims["aud"].as_str()),
        (Some("user:ann"), Some("api"))
    );
    assert_eq!(claims["scope"], "analytics:read live-streams:read videos:read");
    assert_eq!(claims["labels"][0], "stream:ls_42");
    let introspected = client.introspect(&first_access).await;
    assert!(introspected.active);
    assert_eq!(
        (introspected.jti.as_str(), introspected.sub.as_str()),
        (claims["jti"].as_str().unwrap(), "user:ann")
    );

    let first = refresh(issued.tokens.as_ref());
    let refreshed = client.refresh(&first).await.unwrap();
    let second = refresh(refreshed.tokens.as_ref());
    let replayed = client.refresh(&first).await.unwrap();
    assert!(replayed.replayed && refresh(replayed.tokens.as_ref()) == second);
    let third = client.refresh(&second).await.unwrap();
    // Two generations back: a thief, or a client that lost its state. Both are signed out.
    assert_eq!(
        reason(&client.refresh(&first).await.unwrap_err()),
        "REFRESH_TOKEN_REUSED"
    );
    assert_eq!(
        next_event(&mut events).await,
        (EventKind::SessionRevoked, "reuse".to_owned())
    );
    let refused = client.refresh(&refresh(third.tokens.as_ref())).await.unwrap_err();
    assert_eq!(reason(&refused), "SESSION_REVOKED");
    assert!(!client.introspect(&access(third.tokens.as_ref())).await.active);

    let request = IssueRequest {
        labels: vec!["stream:ls_42".to_owned()],
        ..viewer("user:bob")
    };
    let viewing = client.issue(request).await.unwrap();
    assert_eq!(
        client
            .revoke(Target::Label("stream:ls_42".to_owned()))
            .await
            .unwrap()
            .matched,
        1
    );
    assert_eq!(
        next_event(&mut events).await,
        (EventKind::LabelRevoked, String::new())
    );
    assert!(!client.introspect(&access(viewing.tokens.as_ref())).await.active);
    // Offline verification still accepts it: the stream is the remedy.
    assert!(verifier.verify(&access(viewing.tokens.as_ref())).is_some());
}

#[tokio::test]
async fn nothing_of_one_realm_is_accepted_in_the_other() {
    let authority = Authority::dev(&[]);
    let (production, sandbox) = (
        authority.client("production").await,
        authority.client("sandbox").await,
    );
    let issued = production.issue(viewer("user:ann")).await.unwrap();
    assert!(!sandbox.introspect(&access(issued.tokens.as_ref())).await.active);
    assert!(!sandbox.introspect(&refresh(issued.tokens.as_ref())).await.active);
    let refused = sandbox
        .refresh(&refresh(issued.tokens.as_ref()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "REFRESH_TOKEN_INVALID");
    assert_eq!(
        sandbox
            .revoke(Target::SessionId(issued.session_id.clone()))
            .await
            .unwrap()
            .matched,
        0
    );
    let swapped = authority.api_key("production").replace("production", "sandbox");
    let refused = authority
        .with_key(&swapped)
        .await
        .issue(viewer("user:ann"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "CLIENT_AUTH_FAILED");
    assert!(
        production
            .introspect(&access(issued.tokens.as_ref()))
            .await
            .active
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_refreshes_give_one_successor() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::dev_on(directory.path());
    let client = authority.client("production").await;
    let first = refresh(client.issue(viewer("user:ann")).await.unwrap().tokens.as_ref());
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (client, first) = (client.clone(), first.clone());
            tokio::spawn(async move { client.refresh(&first).await })
        })
        .collect();
    let (mut successors, mut rotations) = (BTreeSet::new(), 0);
    for call in calls {
        let answer = call.await.unwrap().unwrap();
        rotations += usize::from(!answer.replayed);
        successors.insert(refresh(answer.tokens.as_ref()));
    }
    assert_eq!((successors.len(), rotations), (1, 1));
    // And it is valid.
    let successor = successors.pop_first().unwrap();
    assert_eq!(client.refresh(&successor).await.unwrap().generation, 3);
}
