//! Viewers of a live stream hold tokens for it. When it ends, one call ends all of these tokens.

use tessera_proto::v1::{
    EventKind, IssueRequest, RevokeRequest, RevokeResponse, TokenSet, WatchResponse, revocation_event,
    revoke_request::Target, watch_response::Message,
};
use tonic::{Status, Streaming};

use super::{Case, ask, ask_as, next, next_event, refusal, refused, texts, tokens, watch};
use crate::support::Client;

/// A token request for one stream.
fn ticket(subject: &str, stream: &str) -> IssueRequest {
    IssueRequest {
        labels: texts(&[&format!("stream:{stream}")]),
        ..ask_as("role:viewer", subject, &[&format!("live-streams/{stream}:watch")])
    }
}

/// The target of the revocation.
fn stream(name: &str) -> Target {
    Target::Label(format!("stream:{name}"))
}

/// The same in an event.
fn bound_to(name: &str) -> revocation_event::Target {
    revocation_event::Target::Label(format!("stream:{name}"))
}

/// The first message that a watcher receives; a refusal arrives there too.
async fn first_message(client: &Client) -> Result<Option<WatchResponse>, Status> {
    watch(client).await?.message().await
}

async fn is_in(edge: &Client, viewer: &TokenSet) -> bool {
    edge.introspect(&viewer.access_token).await.active
}

/// The watcher is told of exactly this revocation.
async fn hears_of(ended: &RevokeResponse, watching: &mut Streaming<WatchResponse>) {
    let heard = next_event(watching).await;
    assert_eq!(heard.kind(), EventKind::LabelRevoked);
    assert_eq!(heard.cursor, ended.cursor);
    assert_eq!(heard.target, Some(bound_to("ls_42")));
}

#[tokio::test]
async fn the_end_of_a_stream_is_the_end_of_its_viewers_only() {
    let case = Case::start("live-stream").await;
    let box_office = case.service("box-office").await;
    let (control, edge) = (case.service("live-control").await, case.service("edge").await);
    let mut watching = watch(&edge).await.unwrap();
    while !matches!(next(&mut watching).await, Message::SnapshotEnd(_)) {}

    let ann = tokens(&box_office, ticket("user:ann", "ls_42")).await;
    let bob = tokens(&box_office, ticket("user:bob", "ls_42")).await;
    let bob = box_office
        .refresh(&bob.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    let elsewhere = tokens(&box_office, ticket("user:ann", "ls_43")).await;
    for viewer in [&ann, &bob, &elsewhere] {
        assert!(is_in(&edge, viewer).await);
    }

    let ended = control.revoke(stream("ls_42")).await.unwrap();
    assert_eq!(ended.matched, 2);
    hears_of(&ended, &mut watching).await;
    for viewer in [&ann, &bob] {
        assert!(!is_in(&edge, viewer).await);
        let renewed = box_office.refresh(&viewer.refresh_token).await;
        assert_eq!(refused(renewed), "SESSION_REVOKED");
    }
    assert!(is_in(&edge, &elsewhere).await);
    let renewed = box_office.refresh(&elsewhere.refresh_token).await.unwrap();
    assert_eq!(renewed.tokens.unwrap().scopes, ["live-streams/ls_43:watch"]);
}

#[tokio::test]
async fn an_edge_that_was_away_hears_of_the_end() {
    let case = Case::start("live-stream").await;
    let box_office = case.service("box-office").await;
    let (control, edge) = (case.service("live-control").await, case.service("edge").await);
    tokens(&box_office, ticket("user:ann", "ls_42")).await;
    control.revoke(stream("ls_42")).await.unwrap();

    let mut watching = watch(&edge).await.unwrap();
    let item = loop {
        if let Message::SnapshotItem(item) = next(&mut watching).await {
            break item;
        }
    };
    assert_eq!(item.target, Some(bound_to("ls_42")));
}

#[tokio::test]
async fn a_second_show_under_the_same_label_begins_anew() {
    let case = Case::start("live-stream").await;
    let box_office = case.service("box-office").await;
    let (control, edge) = (case.service("live-control").await, case.service("edge").await);
    let afternoon = tokens(&box_office, ticket("user:ann", "ls_42")).await;
    control.revoke(stream("ls_42")).await.unwrap();

    // The revocation ends everything that was issued until then, and not the label.
    let evening = tokens(&box_office, ticket("user:ann", "ls_42")).await;
    assert!(!is_in(&edge, &afternoon).await);
    assert!(is_in(&edge, &evening).await);
    assert_eq!(control.revoke(stream("ls_42")).await.unwrap().matched, 1);
    assert_eq!(control.revoke(stream("ls_42")).await.unwrap().matched, 0);
}

#[tokio::test]
async fn each_service_has_its_own_part() {
    let case = Case::start("live-stream").await;
    let box_office = case.service("box-office").await;
    let (control, edge) = (case.service("live-control").await, case.service("edge").await);
    let ann = tokens(&box_office, ticket("user:ann", "ls_42")).await;

    for nobody in [&box_office, &edge] {
        assert_eq!(refused(nobody.revoke(stream("ls_42")).await), "CALL_NOT_ALLOWED");
        let counting = RevokeRequest {
            validate_only: true,
            target: Some(stream("ls_42")),
            ..RevokeRequest::default()
        };
        assert_eq!(
            refused(nobody.tokens().revoke(counting).await),
            "CALL_NOT_ALLOWED"
        );
    }
    let ending = tokens(&control, ask("", &["live-streams/ls_42:end"])).await;
    assert_eq!(ending.scopes, ["live-streams/ls_42:end"]);
    for nobody in [&control, &edge] {
        assert_eq!(
            refusal(nobody, ticket("user:bob", "ls_42")).await,
            "CALL_NOT_ALLOWED"
        );
    }
    for nobody in [&control, &box_office] {
        assert_eq!(refused(first_message(nobody).await), "CALL_NOT_ALLOWED");
    }
    assert_eq!(refused(edge.refresh(&ann.refresh_token).await), "CLIENT_MISMATCH");
    let ending = ask_as("role:viewer", "user:ann", &["live-streams/ls_42:end"]);
    assert_eq!(refusal(&box_office, ending).await, "SCOPE_DENIED");
    assert!(is_in(&edge, &ann).await);
}
