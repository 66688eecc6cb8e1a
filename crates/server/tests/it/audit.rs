//! The audit trail over gRPC: records are found, followed and verified.

use std::time::Duration;

use tessera_core::{Clock, Seconds};
use tessera_proto::v1::{
    AuditAction, AuditFilter, AuditOrder, AuditOutcome, AuditRecord, CreateApiKeyRequest,
    EvictSubscriberRequest, ListAuditRecordsRequest, ReloadRequest, RevokeRequest, TailAuditRecordsRequest,
    VerifyAuditRequest, VerifyAuditResponse, revoke_request::Target, tail_audit_records_response::Message,
};
use tessera_testkit::{
    soon,
    world::{Client, Fragile, World, reason, refresh_token, strings, viewer},
};

async fn list(client: &Client, filter: AuditFilter, order: AuditOrder, page_size: u32) -> Vec<AuditRecord> {
    let (mut records, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditRecordsRequest {
            filter: Some(filter.clone()),
            order: order.into(),
            page_size,
            page_token,
        };
        let page = client
            .audits()
            .list_audit_records(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.records.len() <= 500);
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return records;
        }
    }
}

fn positions(records: &[AuditRecord]) -> Vec<u64> {
    records.iter().map(|record| record.position).collect()
}

fn actions(records: &[AuditRecord]) -> Vec<AuditAction> {
    records.iter().map(AuditRecord::action).collect()
}

/// Records of this realm that match, the oldest first.
async fn found(client: &Client, filter: AuditFilter) -> Vec<AuditRecord> {
    list(client, filter, AuditOrder::OldestFirst, 0).await
}

fn of(actions: &[AuditAction]) -> AuditFilter {
    AuditFilter {
        actions: actions.iter().map(|action| (*action).into()).collect(),
        ..AuditFilter::default()
    }
}

#[tokio::test]
async fn an_eviction_is_recorded_with_its_actor() {
    let world = World::start().await;
    let (_app, admin) = world.app_and_admin().await;
    let request = EvictSubscriberRequest {
        client: "client:app".to_owned(),
        name: "verifier-1".to_owned(),
    };
    admin.revocations().evict_subscriber(request).await.unwrap();
    let records = found(&admin, of(&[AuditAction::SubscriberEvicted])).await;
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(record.actor.as_ref().unwrap().client, "client:admin");
    assert_eq!(
        (record.client.as_str(), record.subscriber.as_str()),
        ("client:app", "verifier-1")
    );
}

/// The record of a stolen token names the person, so that it is found by her.
#[tokio::test]
async fn a_reuse_is_found_by_its_subject() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let issued = app.issue_for("user:ann").await;
    let spent = refresh_token(issued.tokens.as_ref());
    let mut token = spent.clone();
    for _ in 0..2 {
        token = refresh_token(app.refresh(&token).await.unwrap().tokens.as_ref());
    }
    app.refresh(&spent).await.unwrap_err();
    let of_ann = AuditFilter {
        subject: "user:ann".to_owned(),
        ..of(&[AuditAction::RefreshTokenReused])
    };
    assert_eq!(found(&admin, of_ann).await.len(), 1);
}

#[tokio::test]
async fn what_was_done_is_found_by_who_what_and_when() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let ann = app.issue_for("user:ann").await;
    let began = world.clock.now().as_seconds();
    world.clock.advance(Seconds::HOUR);
    let bob = app.issue_for("user:bob").await;
    let request = RevokeRequest {
        target: Some(Target::Subject("user:ann".to_owned())),
        reason: "left".to_owned(),
        ..RevokeRequest::default()
    };
    admin.tokens().revoke(request).await.unwrap();

    let by_subject = AuditFilter {
        subject: "user:ann".to_owned(),
        ..AuditFilter::default()
    };
    let records = found(&admin, by_subject).await;
    assert_eq!(actions(&records), [AuditAction::Issued, AuditAction::Revoked]);
    let [issued, revoked] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(issued.session_id, ann.session_id);
    let actor = issued.actor.clone().unwrap();
    assert_eq!(
        (actor.client.as_str(), actor.address.as_str()),
        ("client:app", "127.0.0.1")
    );
    assert_eq!(revoked.actor.as_ref().unwrap().client, "client:admin");
    assert_eq!(
        (revoked.target.as_str(), revoked.reason.as_str()),
        ("subject user:ann", "left")
    );
    assert_eq!(revoked.ended_sessions, 1);

    let by_session = AuditFilter {
        session_id: bob.session_id.clone(),
        ..AuditFilter::default()
    };
    assert_eq!(actions(&found(&admin, by_session).await), [AuditAction::Issued]);
    let by_decision = AuditFilter {
        decision_id: issued.decision_id.clone(),
        ..AuditFilter::default()
    };
    assert_eq!(positions(&found(&admin, by_decision).await), [issued.position]);
    let later = AuditFilter {
        since: Some(prost_types::Timestamp {
            seconds: began + 1,
            nanos: 0,
        }),
        ..of(&[AuditAction::Issued])
    };
    assert_eq!(found(&admin, later).await[0].session_id, bob.session_id);
    let by_client = AuditFilter {
        client: "client:admin".to_owned(),
        ..of(&[AuditAction::Revoked, AuditAction::Issued])
    };
    assert_eq!(positions(&found(&admin, by_client).await), [revoked.position]);
}

#[tokio::test]
async fn pages_of_both_orders_have_each_record_once() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    for _ in 0..23 {
        app.issue_for("user:ann").await;
    }
    let filter = of(&[AuditAction::Issued]);
    let mut oldest = positions(&list(&admin, filter.clone(), AuditOrder::OldestFirst, 5).await);
    assert_eq!(oldest.len(), 23);
    for size in [1, 7, 23, 500] {
        let newest = positions(&list(&admin, filter.clone(), AuditOrder::NewestFirst, size).await);
        assert!(newest.iter().rev().eq(&oldest), "{size}: {newest:?}");
    }
    oldest.dedup();
    assert_eq!(oldest.len(), 23);
}

/// Reads backwards over more later records than are read at once.
#[tokio::test]
async fn the_newest_of_long_ago_are_found_behind_many_that_are_newer() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    for _ in 0..600 {
        app.issue_for("user:ann").await;
    }
    let then = world.clock.now().as_seconds();
    world.clock.advance(Seconds::HOUR);
    for _ in 0..620 {
        app.issue_for("user:ann").await;
    }
    let filter = AuditFilter {
        until: Some(prost_types::Timestamp {
            seconds: then,
            nanos: 0,
        }),
        ..of(&[AuditAction::Issued])
    };
    let oldest = positions(&list(&admin, filter.clone(), AuditOrder::OldestFirst, 450).await);
    let newest = positions(&list(&admin, filter, AuditOrder::NewestFirst, 450).await);
    assert_eq!(oldest.len(), 600);
    assert!(newest.iter().rev().eq(&oldest), "{newest:?}");
}

#[tokio::test]
async fn nobody_sees_another_realm_or_without_permission() {
    let world = World::start().await;
    let sandbox = world.client("sandbox", "admin").await;
    let app = world.client("production", "app").await;
    app.issue_for("user:ann").await;
    let seen = found(&sandbox, AuditFilter::default()).await;
    assert!(!seen.is_empty() && seen.iter().all(|record| record.realm == "sandbox"));

    let refused = app
        .audits()
        .list_audit_records(ListAuditRecordsRequest::default())
        .await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        "PermissionDenied / CALL_NOT_ALLOWED"
    );
    let refused = app
        .audits()
        .tail_audit_records(TailAuditRecordsRequest::default())
        .await;
    assert_eq!(
        reason(&refused.unwrap_err()),
        "PermissionDenied / CALL_NOT_ALLOWED"
    );
    let mut verified = app
        .audits()
        .verify_audit(VerifyAuditRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        reason(&verified.message().await.unwrap_err()),
        "PermissionDenied / CALL_NOT_ALLOWED"
    );
}

/// Each kind of call, of streams and of HTTP, once; repetitions are counted.
#[tokio::test]
async fn refused_calls_are_recorded_and_counted() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    for _ in 0..5 {
        app.policies().reload(ReloadRequest::default()).await.unwrap_err();
    }
    app.audits()
        .tail_audit_records(TailAuditRecordsRequest::default())
        .await
        .unwrap_err();
    let refused = AuditFilter {
        outcome: AuditOutcome::Refused.into(),
        ..of(&[AuditAction::CallRefused])
    };
    let records = found(&admin, refused.clone()).await;
    let calls = |records: &[AuditRecord]| {
        let calls = records
            .iter()
            .map(|record| (record.call.clone(), record.required.clone(), record.times));
        calls.collect::<Vec<_>>()
    };
    let expected = |call: &str, required: &str, times| (call.to_owned(), required.to_owned(), times);
    let first = [
        expected("Reload", "tessera/policies:apply", 1),
        expected("TailAuditRecords", "tessera/audit:read", 1),
    ];
    assert_eq!(calls(&records), first);
    assert_eq!(records[0].actor.as_ref().unwrap().client, "client:app");
    world.clock.advance(Seconds(61));
    soon("the others are recorded together", async {
        while found(&admin, refused.clone()).await.len() < 3 {
            tokio::task::yield_now().await;
            world.authority.refusals().flush(false).await.unwrap();
        }
    })
    .await;
    let last = found(&admin, refused).await.pop().unwrap();
    assert_eq!((last.call.as_str(), last.times), ("Reload", 4));
}

/// A key with a wrong secret, a revoked one, and one from another address; an unknown key is not recorded.
#[tokio::test]
async fn refused_credentials_are_recorded_with_the_key_and_the_address() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let made = async |allow_from: &[&str]| {
        let request = CreateApiKeyRequest {
            name: "shop".to_owned(),
            allow_from: strings(allow_from),
            ..CreateApiKeyRequest::default()
        };
        admin
            .api_keys()
            .create_api_key(request)
            .await
            .unwrap()
            .into_inner()
    };
    let (revoked, elsewhere) = (made(&[]).await, made(&["192.0.2.0/24"]).await);
    let id = revoked.api_key.unwrap().id;
    admin.revoke(Target::ApiKeyId(id.clone())).await.unwrap();
    for _ in 0..3 {
        for key in [&revoked.secret, &elsewhere.secret, "tsk_production_none"] {
            let client = world.with_key(key);
            client.issue(viewer("user:ann")).await.unwrap_err();
        }
    }
    let credentials = of(&[AuditAction::CredentialRefused]);
    assert!(
        found(&admin, credentials.clone()).await.is_empty(),
        "a stranger waits for none"
    );
    world.authority.refusals().flush(false).await.unwrap();
    let records = found(&admin, credentials).await;
    let keys: Vec<_> = records.iter().map(|record| record.api_key_id.clone()).collect();
    assert_eq!(
        keys,
        [id, elsewhere.api_key.unwrap().id],
        "each once, more are counted"
    );
    for record in &records {
        let actor = record.actor.clone().unwrap();
        assert_eq!((actor.client.as_str(), actor.address.as_str()), ("", "127.0.0.1"));
        assert_eq!(
            (record.client.as_str(), record.outcome()),
            ("client:shop", AuditOutcome::Refused)
        );
    }
}

/// A caller that sends a refresh token of another client's session is recorded, and the session continues.
#[tokio::test]
async fn a_refresh_token_in_the_wrong_hands_is_recorded() {
    let world = World::start().await;
    let (app, other, admin) = (
        world.client("production", "app").await,
        world.client("production", "other").await,
        world.client("production", "admin").await,
    );
    let issued = app.issue_for("user:ann").await;
    let token = refresh_token(issued.tokens.as_ref());
    for _ in 0..3 {
        other.refresh(&token).await.unwrap_err();
    }
    let records = found(&admin, of(&[AuditAction::WrongClient])).await;
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(record.session_id, issued.session_id);
    assert_eq!(record.client, "client:app");
    assert_eq!(record.actor.clone().unwrap().client, "client:other");
    app.refresh(&token).await.unwrap();
}

#[tokio::test]
async fn a_tail_begins_where_it_is_told_and_misses_nothing() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    let before = app.issue_for("user:ann").await;
    let tail = async |request| {
        admin
            .audits()
            .tail_audit_records(request)
            .await
            .unwrap()
            .into_inner()
    };
    let mut live = tail(TailAuditRecordsRequest::default()).await;
    assert!(matches!(
        live.message().await.unwrap().unwrap().message,
        Some(Message::Begin(_))
    ));
    let after = app.issue_for("user:bob").await;
    let next = live.message().await.unwrap().unwrap().message;
    let Some(Message::Record(record)) = next else {
        panic!("{next:?}")
    };
    assert_eq!(record.session_id, after.session_id);

    let mut all = tail(TailAuditRecordsRequest {
        after_position: Some(0),
        stop_at_end: true,
        filter: Some(of(&[AuditAction::Issued])),
        ..TailAuditRecordsRequest::default()
    })
    .await;
    let mut sessions = Vec::new();
    while let Some(message) = all.message().await.unwrap() {
        if let Some(Message::Record(record)) = message.message {
            sessions.push(record.session_id);
        }
    }
    assert_eq!(sessions, [before.session_id, after.session_id]);
}

/// A follower whose filter matches nothing reads as fast as it can. Only one reader reads at a time, and the work that
/// a caller has left counts until it ends.
#[tokio::test]
async fn one_reads_the_trail_at_a_time_though_its_caller_has_left() {
    let store = Fragile::new();
    let world = World::on(store.clone()).await;
    let (app, admin) = world.app_and_admin().await;
    app.issue_for("user:ann").await;
    let (reads, release) = store.hold_next_audit_read();
    let leaving = tokio::spawn({
        let admin = admin.clone();
        async move { found(&admin, AuditFilter::default()).await }
    });
    soon("it reads", reads).await.unwrap();
    leaving.abort();
    let (mut next_reads, release_next) = store.hold_next_audit_read();
    let next = tokio::spawn(async move { found(&admin, of(&[AuditAction::Issued])).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut next_reads).await;
    assert!(early.is_err(), "two read at once");
    release.send(()).unwrap();
    soon("the next reads", next_reads).await.unwrap();
    release_next.send(()).unwrap();
    assert_eq!(soon("the next", next).await.unwrap().len(), 1);
}

/// A tail may outlast the call that began it, but not the permission.
#[tokio::test]
async fn a_tail_ends_with_the_key_that_began_it() {
    let world = World::start().await;
    let admin = world.client("production", "admin").await;
    let other = CreateApiKeyRequest {
        name: "admin".to_owned(),
        ..CreateApiKeyRequest::default()
    };
    let made = admin.api_keys().create_api_key(other).await.unwrap().into_inner();
    let key = made.api_key.unwrap();
    let second = world.with_key(&made.secret);
    let mut audits = second.audits();
    let tail = audits.tail_audit_records(TailAuditRecordsRequest::default());
    let mut tail = tail.await.unwrap().into_inner();
    tail.message().await.unwrap();
    admin.revoke(Target::ApiKeyId(key.id)).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match tail.message().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        }
    });
    assert_eq!(
        reason(&ended.await.unwrap().unwrap_err()),
        "Unauthenticated / CLIENT_AUTH_FAILED"
    );
}

async fn verify(admin: &Client) -> VerifyAuditResponse {
    let mut stream = admin
        .audits()
        .verify_audit(VerifyAuditRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        last = Some(message);
    }
    last.unwrap()
}

#[tokio::test]
async fn checkpoints_cover_what_was_before_them() {
    let world = World::start().await;
    let (app, admin) = world.app_and_admin().await;
    app.issue_for("user:ann").await;
    let signed = world.authority.audit().sign_audit().await.unwrap().unwrap();
    assert_eq!(
        world.authority.audit().sign_audit().await.unwrap(),
        None,
        "nothing happened since"
    );
    app.issue_for("user:ann").await;
    let done = verify(&admin).await;
    assert!(done.is_done && done.fault.is_empty(), "{done:?}");
    assert_eq!(done.signed_through, signed);
    assert_eq!(
        (done.signed_checkpoints, done.unknown_checkpoints),
        (2, 0),
        "one for each realm"
    );
    assert_eq!(done.records, done.last_position);
    assert!(done.checkpoint_key.starts_with("k4.public."));
    let checkpoint = found(&admin, of(&[AuditAction::Checkpoint])).await.pop().unwrap();
    assert_eq!(checkpoint.position, signed + 1);
}
