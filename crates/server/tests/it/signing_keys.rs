//! Signing keys are replaced without an effect on clients.

use tessera_core::Seconds;
use tessera_proto::v1::{
    Ack, Activation, KeyStatus, ListSigningKeysRequest, Ping, RotateSigningKeyRequest,
    RotateSigningKeyResponse, SigningKey, WatchRequest, WatchStart, watch_request::Message,
    watch_response::Message as Heard, watch_start::From,
};
use tessera_proto::v1::{ListSessionsRequest, RevokeRequest, revoke_request::Target};
use tonic::Status;

use tessera_testkit::{
    soon,
    world::{Client, Fragile, World, access_token, reason},
};

async fn rotate(admin: &Client, activation: Activation) -> Result<SigningKey, Status> {
    let request = RotateSigningKeyRequest {
        activation: activation.into(),
    };
    let rotated = admin.signing_keys().rotate_signing_key(request).await;
    rotated.map(|response: tonic::Response<RotateSigningKeyResponse>| response.into_inner().key.unwrap())
}

async fn keys(admin: &Client) -> Vec<SigningKey> {
    let mut client = admin.signing_keys();
    let listed = client.list_signing_keys(ListSigningKeysRequest {}).await;
    listed.unwrap().into_inner().keys
}

async fn statuses(admin: &Client) -> Vec<KeyStatus> {
    keys(admin).await.iter().map(SigningKey::status).collect()
}

/// Runs the due steps of the authority.
async fn advance(world: &World) {
    let keys = world.authority.signing_keys();
    keys.advance_signing_keys().await.unwrap();
}

/// Runs the due steps of the authority, until the newest key signs.
async fn until_it_signs(world: &World, admin: &Client) {
    soon("the new key signs", async {
        while statuses(admin).await[0] != KeyStatus::Active {
            advance(world).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Whether a token names the key in its footer.
fn is_signed_by(token: &str, key: &SigningKey) -> bool {
    let footer = token.rsplit('.').next().unwrap();
    let named = format!("{{\"kid\":\"{}\"}}", key.kid);
    footer == base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, named)
}

/// The words of `not_after` in the contract.
#[tokio::test]
async fn a_key_has_an_end_once_it_signs_no_more() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let end_of = async |kid: &str| {
        let keys = keys(&admin).await;
        let key = keys.into_iter().find(|key| key.kid == kid).unwrap();
        (key.status(), key.not_after.map(|end| end.seconds))
    };
    let now = || world.authority.now().as_millis() / 1000;
    let old = keys(&admin).await[0].kid.clone();
    let new = rotate(&admin, Activation::WhenKnown).await.unwrap().kid;
    assert_eq!(end_of(&new).await, (KeyStatus::Published, None));
    assert_eq!(end_of(&old).await, (KeyStatus::Active, None));
    world.clock.advance(Seconds(600));
    until_it_signs(&world, &admin).await;
    let (status, end) = end_of(&old).await;
    assert_eq!((status, end > Some(now())), (KeyStatus::Retired, true));
    assert_eq!(end_of(&new).await, (KeyStatus::Active, None));
    world.clock.advance(Seconds(5));
    admin.revoke(Target::KeyId(new.clone())).await.unwrap();
    assert_eq!(end_of(&new).await, (KeyStatus::Revoked, Some(now())));
}

#[tokio::test]
async fn a_key_is_published_signs_retires_and_is_forgotten() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let before = access_token(app.issue_for("user:ann").await.tokens.as_ref());
    let new = rotate(&admin, Activation::WhenKnown).await.unwrap();
    assert_eq!(statuses(&admin).await, [KeyStatus::Published, KeyStatus::Active]);
    // A repeated request returns the same.
    assert_eq!(rotate(&admin, Activation::WhenKnown).await.unwrap().kid, new.kid);
    world.clock.advance(Seconds(599));
    advance(&world).await;
    assert_eq!(statuses(&admin).await[0], KeyStatus::Published, "for ten minutes");
    world.clock.advance(Seconds(1));
    until_it_signs(&world, &admin).await;
    assert_eq!(statuses(&admin).await, [KeyStatus::Active, KeyStatus::Retired]);
    let after = access_token(app.issue_for("user:ann").await.tokens.as_ref());
    assert!(!is_signed_by(&before, &new) && is_signed_by(&after, &new));
    for token in [&before, &after] {
        assert!(app.introspect(token).await.active);
    }
    // A day is the longest life of a token, and a minute the leeway.
    world.clock.advance(Seconds::DAY);
    advance(&world).await;
    assert_eq!(keys(&admin).await.len(), 2);
    world.clock.advance(Seconds(61));
    advance(&world).await;
    assert_eq!(statuses(&admin).await, [KeyStatus::Active]);
    app.issue_for("user:ann").await;
}

/// If the caller leaves while a key is revoked, the key is still taken out of use.
#[tokio::test]
async fn a_change_whose_caller_has_left_is_used_within_a_second() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (app, admin) = world.app_and_admin().await;
    let old = keys(&admin).await.remove(0);
    let (committed, _answer) = store.hold_next_answer();
    let revoking = tokio::spawn({
        let (admin, kid) = (admin.clone(), old.kid.clone());
        async move { admin.revoke(Target::KeyId(kid)).await }
    });
    soon("it is committed", committed).await.unwrap();
    revoking.abort();
    soon("the key before is out of use", async {
        while statuses(&admin).await != [KeyStatus::Active, KeyStatus::Revoked] {
            advance(&world).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let token = access_token(app.issue_for("user:ann").await.tokens.as_ref());
    assert!(!is_signed_by(&token, &old));
}

/// The same for a client that is disabled.
#[tokio::test]
async fn a_client_is_disabled_although_the_caller_has_left() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (app, admin) = world.app_and_admin().await;
    let request = RevokeRequest {
        target: Some(Target::Client("client:app".to_owned())),
        disable_client: true,
        ..RevokeRequest::default()
    };
    let (committed, _answer) = store.hold_next_answer();
    let disabling = tokio::spawn(async move { admin.tokens().revoke(request).await });
    soon("it is committed", committed).await.unwrap();
    disabling.abort();
    let refused = app.sessions().list_sessions(ListSessionsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn at_once_it_signs_at_once() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let published = rotate(&admin, Activation::WhenKnown).await.unwrap();
    let active = rotate(&admin, Activation::AtOnce).await.unwrap();
    assert_eq!(
        (active.kid.clone(), active.status()),
        (published.kid, KeyStatus::Active)
    );
    let next = rotate(&admin, Activation::AtOnce).await.unwrap();
    assert_eq!(
        statuses(&admin).await,
        [KeyStatus::Active, KeyStatus::Retired, KeyStatus::Retired]
    );
    let token = access_token(app.issue_for("user:ann").await.tokens.as_ref());
    assert!(is_signed_by(&token, &next));
}

/// It signs nothing that a required verifier could not verify.
#[tokio::test]
async fn a_required_verifier_is_waited_for_until_it_has_the_key() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let start = WatchStart {
        from: Some(From::Latest(true)),
        subscriber: "slow".to_owned(),
        required: true,
        staleness_bound: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..WatchStart::default()
    };
    let (says, requests) = tokio::sync::mpsc::channel(1);
    let say = async |message| {
        let request = WatchRequest {
            message: Some(message),
        };
        says.send(request).await.unwrap();
    };
    say(Message::Start(start)).await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = admin.revocations().watch(requests).await.unwrap().into_inner();
    let new = rotate(&admin, Activation::WhenKnown).await.unwrap();
    assert_eq!(new.waits_for, ["slow"]);
    let cursor = loop {
        let heard = soon("the key", stream.message()).await.unwrap().unwrap();
        if let Some(Heard::Event(event)) = heard.message {
            break event.cursor;
        }
    };
    world.clock.advance(Seconds(600));
    advance(&world).await;
    let listed = keys(&admin).await;
    assert_eq!(
        (listed[0].status(), &listed[0].waits_for),
        (KeyStatus::Published, &vec!["slow".to_owned()])
    );
    say(Message::Ack(Ack { cursor })).await;
    until_it_signs(&world, &admin).await;
    assert!(keys(&admin).await.iter().all(|key| key.waits_for.is_empty()));
}

/// A verifier reads the keys at the checkpoint after a key's event, and keeps them from then on. So they must be
/// available then, even if the node that published the key does not use it yet.
#[tokio::test]
async fn at_the_checkpoint_after_a_keys_event_the_key_can_be_read() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let admin = world.client("production", "admin").await;
    let (says, requests) = tokio::sync::mpsc::channel(1);
    let say = async |message| {
        let request = WatchRequest {
            message: Some(message),
        };
        says.send(request).await.unwrap();
    };
    let start = WatchStart {
        from: Some(From::Latest(true)),
        ..WatchStart::default()
    };
    say(Message::Start(start)).await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = admin.revocations().watch(requests).await.unwrap().into_inner();

    let (committed, answer) = store.hold_next_answer();
    let publishing = tokio::spawn({
        let admin = admin.clone();
        async move { rotate(&admin, Activation::WhenKnown).await }
    });
    soon("it is committed", committed).await.unwrap();
    let mut next = async || {
        let heard = soon("a message", stream.message()).await.unwrap().unwrap();
        heard.message.unwrap()
    };
    while !matches!(next().await, Heard::Event(_)) {}
    say(Message::Ping(Ping { nonce: vec![7; 16] })).await;
    while !matches!(next().await, Heard::Checkpoint(checkpoint) if checkpoint.nonce == [7; 16]) {}
    let statuses = statuses(&admin).await;
    assert_eq!(statuses, [KeyStatus::Published, KeyStatus::Active]);
    answer.send(()).unwrap();
    publishing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_is_the_callers_realms_and_needs_its_permission() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let refused = rotate(&app, Activation::AtOnce).await.unwrap_err();
    assert_eq!(reason(&refused), "PermissionDenied / CALL_NOT_ALLOWED");
    let mut client = app.signing_keys();
    let refused = client.list_signing_keys(ListSigningKeysRequest {}).await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        "PermissionDenied / CALL_NOT_ALLOWED"
    );
    let refused = rotate(&admin, Activation::Unspecified).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidArgument / FIELD_INVALID");
    let sandbox = world.client("sandbox", "admin").await;
    let before = keys(&sandbox).await;
    rotate(&admin, Activation::AtOnce).await.unwrap();
    assert_eq!(keys(&sandbox).await, before);
}
