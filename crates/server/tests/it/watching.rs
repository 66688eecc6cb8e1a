//! Watch, through the whole server.

use std::time::Duration;

use tessera_authority::Trigger;
use tessera_core::Seconds;
use tessera_proto::v1::{
    Ack, AwaitPropagationRequest, Checkpoint, EventKind, EvictSubscriberRequest, ListSubscribersRequest,
    Ping, RevocationEvent, RevokeResponse, Subscriber, WatchFilter, WatchRequest, WatchResponse, WatchStart,
    revoke_request::Target, watch_request, watch_response::Message, watch_start::From,
};
use tessera_server::Limits;
use tessera_testkit::{
    soon,
    world::{Client, Setup, World, access_token, reason, refresh_token, strings},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

struct Watch {
    say: mpsc::Sender<WatchRequest>,
    stream: Streaming<WatchResponse>,
}

fn start(from: From) -> WatchStart {
    WatchStart {
        from: Some(from),
        ..WatchStart::default()
    }
}

impl Watch {
    async fn begin(client: &Client, start: WatchStart) -> Self {
        let (say, requests) = mpsc::channel(16);
        let first = WatchRequest {
            message: Some(watch_request::Message::Start(start)),
        };
        say.send(first).await.unwrap();
        let stream = client
            .revocations()
            .watch(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self { say, stream }
    }

    async fn say(&self, message: watch_request::Message) {
        self.say
            .send(WatchRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Result<Message, Status> {
        let message = soon("a message", self.stream.message()).await?;
        Ok(message.expect("the stream goes on").message.unwrap())
    }

    /// The next event; checkpoints are skipped.
    async fn event(&mut self) -> RevocationEvent {
        loop {
            match self.next().await.unwrap() {
                Message::Event(event) => return event,
                Message::Checkpoint(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns everything up to the checkpoint that answers a ping.
    async fn until_echo(&mut self) -> (Vec<RevocationEvent>, Checkpoint) {
        self.say(watch_request::Message::Ping(Ping {
            nonce: b"nonce".to_vec(),
        }))
        .await;
        let mut events = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Message::Event(event) => events.push(event),
                Message::Checkpoint(checkpoint) if checkpoint.nonce == b"nonce" => {
                    return (events, checkpoint);
                }
                Message::Checkpoint(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    }
}

#[tokio::test]
async fn every_path_that_ends_authority_is_heard_in_order_without_a_gap() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let mut watch = Watch::begin(&admin, start(From::Latest(true))).await;
    watch.until_echo().await;

    // A policy change is one event in each realm, so this part has gaps.
    end_by_policy(&world, &app).await;
    let (by_policy, began) = watch.until_echo().await;
    let mut heard: Vec<_> = by_policy
        .iter()
        .map(|event| (event.kind(), event.reason.clone()))
        .collect();
    // Sessions are walked in the order of their ids, which is random within a millisecond.
    heard.sort();

    let revoked = end_by_each_call(&world, &app, &admin).await;

    let mut sequence = began.through_sequence;
    loop {
        let event = watch.event().await;
        sequence += 1;
        assert_eq!(event.sequence, sequence, "no gap");
        heard.push((event.kind(), event.reason.clone()));
        if event.cursor == revoked.cursor {
            break;
        }
    }
    let expected = [
        (EventKind::SessionRevoked, "policy"),
        (EventKind::ScopesNarrowed, ""),
        (EventKind::PolicyApplied, ""),
        (EventKind::TokenRevoked, ""),
        (EventKind::SessionRevoked, "reuse"),
        (EventKind::SessionRevoked, "revoked"),
        (EventKind::SubjectRevoked, ""),
        (EventKind::ClientRevoked, ""),
        (EventKind::LabelRevoked, ""),
        (EventKind::RealmRevoked, ""),
        (EventKind::ApiKeyRevoked, ""),
        (EventKind::SessionRevoked, "api_key_revoked"),
        (EventKind::KeyPublished, ""),
        (EventKind::KeyActivated, ""),
        (EventKind::KeyRevoked, ""),
    ];
    assert_eq!(heard, expected.map(|(kind, reason)| (kind, reason.to_owned())));
    // A kind without an event in this test could be missing unnoticed.
    let kinds = (1..).map_while(|number| EventKind::try_from(number).ok());
    let silent = kinds.filter(|kind| !heard.iter().any(|(heard, _)| heard == kind));
    assert_eq!(silent.collect::<Vec<_>>(), []);
}

/// A policy change that ends one session, and removes a scope from another.
async fn end_by_policy(world: &World, app: &Client) {
    for (subject, scopes) in [
        ("user:ann", vec!["videos:read", "videos/v1:play"]),
        ("user:bob", vec!["videos/v1:play"]),
    ] {
        let request = tessera_proto::v1::IssueRequest {
            scopes: strings(&scopes),
            ..tessera_testkit::world::viewer(subject)
        };
        app.issue(request).await.unwrap();
    }
    world.policy.take("p, role:viewer, *, videos/*, play");
    world.authority.policies().reload(Trigger::Call).await.unwrap();
}

/// Causes every end that calls can cause, one after the other; returns the answer of the last call.
async fn end_by_each_call(world: &World, app: &Client, admin: &Client) -> RevokeResponse {
    let one = app.issue_for("user:ann").await;
    app.revoke(Target::Token(access_token(one.tokens.as_ref())))
        .await
        .unwrap();
    let spent = refresh_token(one.tokens.as_ref());
    app.refresh(&spent).await.unwrap();
    world.clock.advance(Seconds(11));
    app.refresh(&spent).await.unwrap_err();
    app.revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
        .await
        .unwrap();
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    admin
        .revoke(Target::Client("client:app".to_owned()))
        .await
        .unwrap();
    admin.revoke(Target::Label("stream:1".to_owned())).await.unwrap();
    admin.revoke(Target::WholeRealm(true)).await.unwrap();
    let doomed = world.client("production", "app").await;
    doomed.issue_for("user:bob").await;
    let id = doomed.api_key["tsk_production_".len()..][..16].to_owned();
    admin.revoke(Target::ApiKeyId(id)).await.unwrap();
    let kid = world.authority.signing_keys().published_keys(None)[0]
        .id
        .to_string();
    admin.revoke(Target::KeyId(kid)).await.unwrap()
}

#[tokio::test]
async fn a_ping_is_answered_after_everything_that_was_durable_before_it() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let mut watch = Watch::begin(&admin, start(From::Latest(true))).await;
    watch.until_echo().await;
    for _ in 0..20 {
        let revoked = app
            .revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
            .await
            .unwrap();
        let (events, checkpoint) = watch.until_echo().await;
        assert_eq!(events.last().unwrap().cursor, revoked.cursor);
        assert_eq!(checkpoint.through, revoked.cursor);
        assert!(!checkpoint.policy_revision.is_empty() && !checkpoint.key_set.is_empty());
    }
}

/// Even if the backlog is more than is read from the log, or fits in transit, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_after_a_long_backlog() {
    const BACKLOG: u64 = 5000;
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let end = async || {
        admin
            .revoke(Target::Subject("user:ann".to_owned()))
            .await
            .unwrap()
    };
    let first = end().await;
    let mut last = first.cursor.clone();
    for _ in 0..BACKLOG {
        last = end().await.cursor;
    }
    let mut watch = Watch::begin(&admin, start(From::Cursor(first.cursor))).await;
    let (events, checkpoint) = watch.until_echo().await;
    assert_eq!(events.len() as u64, BACKLOG);
    assert_eq!(checkpoint.through, last);
}

#[tokio::test]
async fn a_stream_resumes_after_its_cursor() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let end = async || {
        app.revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
            .await
            .unwrap()
    };
    let (first, second, third) = (end().await, end().await, end().await);
    let mut watch = Watch::begin(&admin, start(From::Cursor(first.cursor))).await;
    assert_eq!(watch.event().await.cursor, second.cursor);
    assert_eq!(watch.event().await.cursor, third.cursor);
    let mut earliest = Watch::begin(&admin, start(From::Earliest(true))).await;
    assert_eq!(earliest.event().await.sequence, 1);
}

#[tokio::test]
async fn a_snapshot_has_what_is_live_and_the_stream_goes_on_after_it() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let session = app.issue_for("user:ann").await.session_id;
    app.revoke(Target::SessionId(session.clone())).await.unwrap();
    world.clock.advance(Seconds::days(2));
    admin
        .revoke(Target::Subject("user:bob".to_owned()))
        .await
        .unwrap();

    let mut watch = Watch::begin(&admin, start(From::Snapshot(true))).await;
    assert!(matches!(watch.next().await.unwrap(), Message::SnapshotBegin(_)));
    let Message::SnapshotItem(item) = watch.next().await.unwrap() else {
        panic!("an item")
    };
    // The first revocation affects no live token.
    assert_eq!(item.kind(), EventKind::SubjectRevoked);
    let Message::SnapshotEnd(end) = watch.next().await.unwrap() else {
        panic!("the end")
    };
    assert_eq!((end.items, end.cursor.as_str()), (1, item.cursor.as_str()));
    let revoked = admin.revoke(Target::Label("stream:1".to_owned())).await.unwrap();
    assert_eq!(watch.event().await.cursor, revoked.cursor);
}

#[tokio::test]
async fn a_filter_hides_events_and_still_moves_checkpoints() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let filter = WatchFilter {
        audiences: strings(&["player"]),
        clients: Vec::new(),
        kinds: vec![EventKind::SessionRevoked.into()],
    };
    let start_at = |from| WatchStart {
        filter: Some(filter.clone()),
        ..start(from)
    };
    let mut watch = Watch::begin(&admin, start_at(From::Latest(true))).await;
    watch.until_echo().await;
    let hidden = app
        .revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
        .await
        .unwrap();
    admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let (events, checkpoint) = watch.until_echo().await;
    assert!(events.is_empty(), "{events:?}");
    assert!(checkpoint.through_sequence > tessera_core::Cursor::parse(&hidden.cursor).unwrap().sequence.0);
    let request = tessera_proto::v1::IssueRequest {
        audience: "player".to_owned(),
        ..tessera_testkit::world::viewer("user:ann")
    };
    let shown = app.issue(request).await.unwrap();
    app.revoke(Target::SessionId(shown.session_id.clone()))
        .await
        .unwrap();
    let event = watch.event().await;
    // A cursor of a filtered stream resumes that stream only.
    let mut same = Watch::begin(&admin, start_at(From::Cursor(event.cursor.clone()))).await;
    same.until_echo().await;
    let mut other = Watch::begin(&admin, start(From::Cursor(event.cursor))).await;
    assert_eq!(reason(&other.end().await), "InvalidArgument / CURSOR_INVALID");
}

#[tokio::test]
async fn a_misspelled_audience_is_refused_with_the_nearest_one() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    for from in [From::Snapshot(true), From::Latest(true), From::Earliest(true)] {
        let filter = WatchFilter {
            audiences: strings(&["api", "plyer"]),
            ..WatchFilter::default()
        };
        let start = WatchStart {
            filter: Some(filter),
            ..start(from)
        };
        let refused = Watch::begin(&admin, start).await.end().await;
        assert_eq!(reason(&refused), "InvalidArgument / AUDIENCE_UNKNOWN");
        assert!(
            refused.message().contains("did you mean `player`?"),
            "{}",
            refused.message()
        );
    }
}

#[tokio::test]
async fn checklist_39_a_watcher_hears_its_own_realm_only() {
    let world = World::start().await;
    let (sandbox, admin) = (
        world.client("sandbox", "app").await,
        world.client("production", "admin").await,
    );
    let mut watch = Watch::begin(&admin, start(From::Latest(true))).await;
    watch.until_echo().await;
    sandbox
        .revoke(Target::SessionId(sandbox.issue_for("user:ann").await.session_id))
        .await
        .unwrap();
    let (events, _) = watch.until_echo().await;
    assert!(events.is_empty(), "{events:?}");
}

/// A stream may outlast the call that began it, but not the right to begin it.
#[tokio::test]
async fn a_stream_ends_with_its_api_key_and_with_the_right_to_watch() {
    let world = World::start().await;
    let (admin, doomed) = (
        world.client("production", "admin").await,
        world.client("production", "admin").await,
    );
    let mut of_doomed = Watch::begin(&doomed, start(From::Latest(true))).await;
    let mut watch = Watch::begin(&admin, start(From::Latest(true))).await;
    watch.until_echo().await;
    of_doomed.until_echo().await;
    let id = doomed.api_key["tsk_production_".len()..][..16].to_owned();
    admin.revoke(Target::ApiKeyId(id)).await.unwrap();
    assert_eq!(
        reason(&of_doomed.end().await),
        "Unauthenticated / CLIENT_AUTH_FAILED"
    );
    world
        .policy
        .take("p, client:admin, *, tessera/revocations, watch");
    world.authority.policies().reload(Trigger::Call).await.unwrap();
    assert_eq!(reason(&watch.end().await), "PermissionDenied / CALL_NOT_ALLOWED");
}

#[tokio::test]
async fn what_a_subscriber_says_wrong_is_answered() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let mut no_place = Watch::begin(&admin, WatchStart::default()).await;
    assert_eq!(reason(&no_place.end().await), "InvalidArgument / FIELD_INVALID");
    let unnamed = WatchStart {
        required: true,
        ..start(From::Latest(true))
    };
    assert_eq!(
        reason(&Watch::begin(&admin, unnamed).await.end().await),
        "InvalidArgument / FIELD_INVALID"
    );
    let mut typo = Watch::begin(&admin, start(From::Cursor("x".to_owned()))).await;
    assert_eq!(reason(&typo.end().await), "InvalidArgument / CURSOR_INVALID");
    let mut twice = Watch::begin(&admin, start(From::Latest(true))).await;
    twice
        .say(watch_request::Message::Start(start(From::Latest(true))))
        .await;
    assert_eq!(reason(&twice.end().await), "InvalidArgument / FIELD_INVALID");
    let mut ack = Watch::begin(&admin, start(From::Latest(true))).await;
    ack.say(watch_request::Message::Ack(Ack {
        cursor: "x".to_owned(),
    }))
    .await;
    assert_eq!(reason(&ack.end().await), "InvalidArgument / CURSOR_INVALID");
    let app = world.client("production", "app").await;
    let mut not_allowed = Watch::begin(&app, start(From::Latest(true))).await;
    assert_eq!(
        reason(&not_allowed.end().await),
        "PermissionDenied / CALL_NOT_ALLOWED"
    );
}

#[tokio::test]
async fn a_stopping_server_gives_watchers_their_cursor() {
    let mut world = World::start().await;
    let admin = world.client("production", "admin").await;
    let revoked = admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let mut watch = Watch::begin(&admin, start(From::Latest(true))).await;
    watch.until_echo().await;
    world.stop();
    let status = watch.end().await;
    assert_eq!(reason(&status), "Unavailable / DRAINING");
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!(info.metadata.get("cursor"), Some(&revoked.cursor));
    soon("the server stops", &mut world.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_fence_waits_for_required_subscribers() {
    // The server's own limit, since a client's deadline would race with the client library's timer.
    let server = Limits {
        call_time_max: Duration::from_secs(1),
        ..Limits::default()
    };
    let world = World::with(Setup {
        server,
        ..Setup::default()
    })
    .await;
    let (app, admin) = world.app_and_admin().await;
    let required = WatchStart {
        subscriber: "verifier-1".to_owned(),
        required: true,
        ..start(From::Latest(true))
    };
    let mut watch = Watch::begin(&admin, required).await;
    watch.until_echo().await;
    let revoked = app
        .revoke(Target::SessionId(app.issue_for("user:ann").await.session_id))
        .await
        .unwrap();
    let fence = async || {
        let request = AwaitPropagationRequest {
            cursor: revoked.cursor.clone(),
        };
        let mut client = admin.revocations();
        client
            .await_propagation(request)
            .await
            .map(tonic::Response::into_inner)
    };
    assert_eq!(
        reason(&fence().await.unwrap_err()),
        "DeadlineExceeded / DEADLINE_EXCEEDED"
    );
    let event = watch.event().await;
    watch
        .say(watch_request::Message::Ack(Ack { cursor: event.cursor }))
        .await;
    let passed = soon("the fence", fence()).await.unwrap();
    assert_eq!((passed.acknowledged, passed.failed_closed), (1, 0));
}

/// Begins a required watch, or returns its error.
async fn require(client: &Client, name: &str, bound: i64) -> Result<Watch, Status> {
    let required = WatchStart {
        subscriber: name.to_owned(),
        required: true,
        staleness_bound: tessera_testkit::world::seconds(bound),
        ..start(From::Latest(true))
    };
    let mut watch = Watch::begin(client, required).await;
    match watch.next().await {
        Ok(_) => Ok(watch),
        Err(status) => Err(status),
    }
}

#[tokio::test]
async fn to_be_required_takes_a_permission_and_has_a_bound() {
    let world = World::start().await;
    let (admin, other) = (
        world.client("production", "admin").await,
        world.client("production", "other").await,
    );
    world
        .policy
        .add("p, client:other, *, tessera/revocations, watch, allow");
    world.authority.policies().reload(Trigger::Signal).await.unwrap();
    let refused = require(&other, "verifier-1", 5).await.err().unwrap();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    assert!(
        refused.message().contains("tessera/revocations:require"),
        "{refused}"
    );
    let refused = require(&admin, "verifier-1", 61).await.err().unwrap();
    assert_eq!(tessera_testkit::world::fields(&refused), ["staleness_bound"]);
    require(&admin, "verifier-1", 60).await.unwrap();
}

#[tokio::test]
async fn subscribers_are_listed_and_evicted_by_those_who_may() {
    let world = World::start().await;
    let (admin, app) = (
        world.client("production", "admin").await,
        world.client("production", "app").await,
    );
    let mut watch = require(&admin, "verifier-1", 5).await.unwrap();
    let list = |client: &Client| {
        let mut client = client.revocations();
        async move { client.list_subscribers(ListSubscribersRequest {}).await }
    };
    let refused = list(&app).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let listed = list(&admin).await.unwrap().into_inner().subscribers;
    let of = |subscriber: &Subscriber| {
        (
            subscriber.client.clone(),
            subscriber.name.clone(),
            subscriber.connected,
        )
    };
    assert_eq!(
        listed.iter().map(of).collect::<Vec<_>>(),
        [("client:admin".to_owned(), "verifier-1".to_owned(), true)]
    );
    let evict = |client: &Client| {
        let request = EvictSubscriberRequest {
            client: "admin".to_owned(),
            name: "verifier-1".to_owned(),
        };
        let mut client = client.revocations();
        async move { client.evict_subscriber(request).await }
    };
    let refused = evict(&app).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    assert_eq!(evict(&admin).await.unwrap().into_inner().streams, 1);
    let ended = loop {
        if let Err(status) = watch.next().await {
            break status;
        }
    };
    assert_eq!(reason(&ended), "Unavailable / SUBSCRIBER_EVICTED");
    let refused = require(&admin, "verifier-1", 5).await.err().unwrap();
    assert_eq!(reason(&refused), "Unavailable / SUBSCRIBER_EVICTED");
    require(&admin, "verifier-2", 5).await.unwrap();
}

/// A caller's forged cursor is evidence of nothing.
#[tokio::test]
async fn a_forged_cursor_is_refused_and_raises_no_alarm() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let revoked = admin
        .revoke(Target::Subject("user:ann".to_owned()))
        .await
        .unwrap();
    let cursor = tessera_core::Cursor::parse(&revoked.cursor).unwrap();
    let forged = tessera_core::Cursor {
        sequence: tessera_core::Sequence(u64::MAX / 2),
        ..cursor
    };
    let refused = admin
        .revocations()
        .await_propagation(AwaitPropagationRequest {
            cursor: forged.to_string(),
        })
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / CURSOR_INVALID");
    let mut watch = Watch::begin(&admin, start(From::Cursor(forged.to_string()))).await;
    assert_eq!(
        reason(&watch.next().await.unwrap_err()),
        "InvalidArgument / CURSOR_INVALID"
    );
    assert!(!world.authority.was_rolled_back());
}
