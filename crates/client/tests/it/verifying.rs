//! The answers of a verifier, which makes no call for them.

use std::{sync::Arc, time::Duration};

use tessera_client::{Decision, DenyReason, Mode, Verifier, VerifierOptions, v1::revoke_request::Target};
use tessera_core::{ManualClock, Seconds};
use tessera_testkit::{Proxy, soon, until};

use crate::{
    fake::{Script, watch_server, watch_server_with},
    world::{World, access, scope, viewer},
};

const DAY: Duration = Duration::from_secs(86_400);

fn reason(decision: Decision) -> DenyReason {
    match decision {
        Decision::Deny(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn allows(verifier: &Verifier, token: &str) -> bool {
    matches!(
        verifier.verify(token, Some(&scope("videos:read"))),
        Decision::Allow(_)
    )
}

fn is_revoked(verifier: &Verifier, token: &str) -> bool {
    matches!(verifier.verify(token, None), Decision::Deny(DenyReason::Revoked))
}

#[tokio::test]
async fn each_kind_of_revocation_turns_allow_into_deny() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let bound = || v1_with_label("user:ann");
    let kid = world.kit.authority().signing_keys().published_keys(None)[0].clone();
    assert_eq!(kid.realm.as_str(), "production");
    type Aim = fn(&tessera_client::v1::IssueResponse) -> Target;
    let aims: [(&str, Aim); 6] = [
        ("token", |issued| Target::Token(access(issued).to_owned())),
        ("session", |issued| Target::SessionId(issued.session_id.clone())),
        ("subject", |_| Target::Subject("user:ann".to_owned())),
        ("client", |_| Target::Client("client:app".to_owned())),
        ("label", |_| Target::Label("stream:1".to_owned())),
        ("realm", |_| Target::WholeRealm(true)),
    ];
    for (what, aim) in aims {
        let (other, issued) = (world.issue(viewer("user:bob")).await, world.issue(bound()).await);
        assert!(allows(&verifier, access(&issued)), "{what}");
        assert!(allows(&verifier, access(&other)), "{what}");
        world.revoke(aim(&issued)).await;
        until(what, || is_revoked(&verifier, access(&issued))).await;
        let others_too = matches!(what, "client" | "realm");
        assert_eq!(is_revoked(&verifier, access(&other)), others_too, "{what}");
        // Tokens that are issued later are valid.
        assert!(allows(&verifier, access(&world.issue(bound()).await)), "{what}");
    }
    let issued = world.issue(bound()).await;
    assert!(allows(&verifier, access(&issued)));
    world.revoke(Target::KeyId(kid.id.to_string())).await;
    until("key", || {
        matches!(
            verifier.verify(access(&issued), None),
            Decision::Deny(DenyReason::Revoked | DenyReason::UnknownKey)
        )
    })
    .await;
    // The next key arrives on the stream.
    let issued = world.issue(bound()).await;
    let began = std::time::Instant::now();
    until("the new key", || allows(&verifier, access(&issued))).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the checkpoint says it, not the unknown key"
    );
}

fn v1_with_label(subject: &str) -> tessera_client::v1::IssueRequest {
    tessera_client::v1::IssueRequest {
        labels: vec!["stream:1".to_owned()],
        ..viewer(subject)
    }
}

#[tokio::test]
async fn a_scope_that_policy_takes_is_gone_and_the_others_stay() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let request = tessera_client::v1::IssueRequest {
        scopes: vec!["videos:read".to_owned(), "videos/v1:play".to_owned()],
        ..viewer("user:ann")
    };
    let issued = world.issue(request).await;
    let (read, play) = (scope("videos:read"), scope("videos/v1:play"));
    let claims = verifier.verify(access(&issued), Some(&read));
    assert_eq!(claims.claims().unwrap().scopes.len(), 2);
    assert_eq!(
        reason(verifier.verify(access(&issued), Some(&scope("videos:write")))),
        DenyReason::ScopeMissing {
            required: scope("videos:write")
        }
    );
    world.take_rules("p, role:viewer, *, videos, read").await;
    let taken = DenyReason::ScopeTaken {
        required: read.clone(),
    };
    until(
        "narrowed",
        || matches!(verifier.verify(access(&issued), Some(&read)), Decision::Deny(reason) if reason == taken),
    )
    .await;
    let left = verifier.verify(access(&issued), Some(&play));
    assert_eq!(left.claims().unwrap().scopes.to_string(), "videos/v1:play");
}

#[tokio::test]
async fn every_wrong_token_has_its_reason() {
    let world = World::start().await;
    let verifier = world.verifier().await;
    let issued = world.issue(viewer("user:ann")).await;
    let token = access(&issued);
    let denied = |token: &str| reason(verifier.verify(token, None));
    assert_eq!(denied("v4.public.nothing"), DenyReason::Malformed);
    assert_eq!(denied(&"x".repeat(5000)), DenyReason::Malformed);
    let mut forged = token.to_owned();
    let at = "v4.public.".len() + 8;
    let other = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    assert!(matches!(
        denied(&forged),
        DenyReason::BadSignature | DenyReason::Malformed
    ));
    let dot = token.rfind('.').unwrap();
    let mut wrong_signature = token.to_owned();
    let other = if &token[dot - 5..dot - 4] == "A" { "B" } else { "A" };
    wrong_signature.replace_range(dot - 5..dot - 4, other);
    assert_eq!(denied(&wrong_signature), DenyReason::BadSignature);
    let player = tessera_client::v1::IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    };
    assert_eq!(
        denied(access(&world.issue(player).await)),
        DenyReason::WrongAudience
    );
    let sandbox = world.connection("sandbox", "app", &world.address).await;
    let sandbox = tessera_client::Client::new(&sandbox).unwrap();
    assert_eq!(
        denied(access(&sandbox.issue(viewer("user:ann")).await.unwrap())),
        DenyReason::WrongRealm
    );
    let elsewhere = World::start().await;
    assert_eq!(
        denied(access(&elsewhere.issue(viewer("user:ann")).await)),
        DenyReason::UnknownKey
    );

    // Leeway on both sides; `nbf` is ten seconds before the token was issued.
    world.clock.turn_back(Duration::from_secs(41));
    assert_eq!(denied(token), DenyReason::NotYetValid);
    world.clock.advance(Duration::from_secs(1));
    assert!(allows(&verifier, token));
    world.clock.advance(Duration::from_secs(40 + 3600 + 29));
    assert!(allows(&verifier, token));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(denied(token), DenyReason::Expired);
}

#[tokio::test]
async fn nothing_is_allowed_before_the_first_snapshot() {
    let world = World::start().await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let proxy = Proxy::to(&world.address).await;
    proxy.stall();
    let options = world.options(Duration::from_secs(2), proxy.address()).await;
    let verifier = Verifier::start(options).unwrap();
    for mode in [Mode::FailClosed, Mode::FailOpen { max: DAY }] {
        let decision = verifier.verify_with(&token, None, mode).await;
        assert!(
            matches!(decision, Decision::Stale { behind: None, .. }),
            "{decision:?}"
        );
    }
    assert!(!verifier.status().is_ready);
    proxy.resume();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert!(allows(&verifier, &token));
    assert!(!format!("{verifier:?}").contains("tsk_"));
}

/// Keys may be there while the set is empty because nothing arrived yet: only a checkpoint that answers a ping, after
/// everything before it was understood, makes it fresh.
#[tokio::test]
async fn keys_without_a_fresh_snapshot_allow_nothing() {
    let world = World::start().await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let player = tessera_client::v1::IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    };
    let player = access(&world.issue(player).await).to_owned();
    for script in [
        Script::SnapshotNeverEnds,
        Script::CheckpointsWithoutNonce,
        Script::UnknownEvent,
    ] {
        let address = watch_server(&world, script).await;
        let verifier = Verifier::start(world.options(Duration::from_millis(400), &address).await).unwrap();
        if script == Script::CheckpointsWithoutNonce {
            let accepts = || {
                matches!(
                    verifier.verify(&player, None),
                    Decision::Deny(DenyReason::WrongAudience)
                )
            };
            until("keys", accepts).await;
        }
        until("a problem", || verifier.status().problem.is_some()).await;
        let decision = verifier.verify(&token, None);
        assert!(
            matches!(decision, Decision::Stale { behind: None, .. }),
            "{script:?}: {decision:?}"
        );
        assert!(!verifier.status().is_ready, "{script:?}");
        let understood = verifier.status().problem.unwrap();
        assert_eq!(
            understood.contains("not understood"),
            script == Script::UnknownEvent,
            "{understood}"
        );
    }
}

#[tokio::test]
async fn a_stalled_connection_turns_allow_into_stale_and_back() {
    let world = World::start().await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let doomed = world.issue(viewer("user:ann")).await;
    let proxy = Proxy::to(&world.address).await;
    let bound = Duration::from_millis(600);
    let verifier = Verifier::start(world.options(bound, proxy.address()).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert!(allows(&verifier, &token));
    proxy.stall();
    let stalled_at = std::time::Instant::now();
    world.revoke(Target::SessionId(doomed.session_id.clone())).await;
    until("stale", || !allows(&verifier, &token)).await;
    // Its last ping was answered before the stall; the rest is this machine's scheduling.
    assert!(
        stalled_at.elapsed() < bound + Duration::from_millis(150),
        "{:?}",
        stalled_at.elapsed()
    );
    let Decision::Stale {
        behind: Some(behind), ..
    } = verifier.verify(&token, None)
    else {
        panic!("stale")
    };
    assert!(behind > bound);

    // Per route: open up to a limit, or ask the authority (it can't be reached past the proxy, so the token stays
    // stale).
    let open = verifier
        .verify_with(&token, None, Mode::FailOpen { max: DAY })
        .await;
    assert!(open.claims().is_some());
    let limited = Mode::FailOpen {
        max: Duration::from_millis(601),
    };
    until("beyond the limit", || {
        verifier.status().behind.unwrap() > Duration::from_millis(601)
    })
    .await;
    let closed = verifier.verify_with(&token, None, limited).await;
    assert!(matches!(closed, Decision::Stale { .. }), "{closed:?}");

    proxy.resume();
    until("fresh again", || allows(&verifier, &token)).await;
    assert!(is_revoked(&verifier, access(&doomed)));
}

#[tokio::test]
async fn a_stale_route_may_ask_the_authority() {
    let world = World::start().await;
    let issued = world.issue(viewer("user:ann")).await;
    let player = tessera_client::v1::IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    };
    let player = world.issue(player).await;
    // No checkpoint makes it fresh; calls work.
    let address = watch_server(&world, Script::CheckpointsWithoutNonce).await;
    let verifier = Verifier::start(world.options(Duration::from_secs(1), &address).await).unwrap();
    let read = scope("videos:read");
    let ask = async |token: &str, scope: &tessera_client::Scope| {
        verifier.verify_with(token, Some(scope), Mode::Introspect).await
    };
    assert!(ask(access(&issued), &read).await.claims().is_some());
    assert_eq!(
        reason(ask(access(&issued), &scope("videos:write")).await),
        DenyReason::ScopeMissing {
            required: scope("videos:write")
        }
    );
    assert_eq!(
        reason(ask(access(&player), &read).await),
        DenyReason::WrongAudience
    );
    // A verifier without any key asks too, and the answer is for another audience.
    let address = watch_server(&world, Script::SnapshotNeverEnds).await;
    let keyless = Verifier::start(world.options(Duration::from_secs(1), &address).await).unwrap();
    let asked = async |token: &str| keyless.verify_with(token, Some(&read), Mode::Introspect).await;
    assert_eq!(reason(asked(access(&player)).await), DenyReason::WrongAudience);
    assert!(asked(access(&issued)).await.claims().is_some());
    world.revoke(Target::SessionId(issued.session_id.clone())).await;
    assert_eq!(reason(ask(access(&issued), &read).await), DenyReason::Inactive);
    assert_eq!(reason(asked(access(&issued)).await), DenyReason::Inactive);
}

/// A key that the stream did not announce: the first token that it signed causes the keys to be read again.
#[tokio::test]
async fn an_unknown_key_makes_the_keys_be_read() {
    let world = World::start().await;
    let player = || tessera_client::v1::IssueRequest {
        audience: "player".to_owned(),
        ..viewer("user:ann")
    };
    let address = watch_server(&world, Script::CheckpointsWithoutNonce).await;
    let verifier = Verifier::start(world.options(Duration::from_secs(1), &address).await).unwrap();
    let accepts = |token: &str| {
        matches!(
            verifier.verify(token, None),
            Decision::Deny(DenyReason::WrongAudience)
        )
    };
    let first = world.issue(player()).await;
    until("keys", || accepts(access(&first))).await;
    let kid = world.kit.authority().signing_keys().published_keys(None)[0]
        .id
        .to_string();
    world.revoke(Target::KeyId(kid)).await;
    let second = world.issue(player()).await;
    assert!(!accepts(access(&second)));
    until("the new key", || accepts(access(&second))).await;
    assert!(
        !accepts(access(&first)),
        "what the revoked key signed is not even looked at"
    );
}

#[tokio::test]
async fn a_verifier_resumes_and_starts_again_where_the_log_is_another() {
    let mut world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let verifier = Verifier::start(world.options(Duration::from_secs(10), proxy.address()).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let one = world.issue(viewer("user:ann")).await;
    world.revoke(Target::SessionId(one.session_id.clone())).await;
    until("revoked", || is_revoked(&verifier, access(&one))).await;
    // Expired by now, except for the leeway: a snapshot would leave it out, and a resumed stream still has it.
    let three = world.issue(viewer("user:ann")).await;
    world.revoke(Target::Token(access(&three).to_owned())).await;
    until("revoked", || is_revoked(&verifier, access(&three))).await;
    world.clock.advance(Duration::from_secs(3605));
    let two = world.issue(viewer("user:ann")).await;
    proxy.cut();
    world.revoke(Target::SessionId(two.session_id.clone())).await;
    until("resumed", || is_revoked(&verifier, access(&two))).await;
    assert_eq!(verifier.status().entries, 3);
    assert!(is_revoked(&verifier, access(&three)));

    // Another authority, with another log, replaces the first.
    let at = world.address.trim_start_matches("http://").to_owned();
    world.kit.stop().await;
    let second = World::with(world.clock.clone(), &at).await;
    let kept = verifier.status();
    assert!(
        kept.entries == 3 && kept.is_ready,
        "what was known stays in force"
    );
    // The second authority does not know the API key, so this verifier can't continue; a verifier with a valid key
    // starts there.
    until("refused", || {
        verifier.status().problem.is_some_and(|p| p.contains("API key"))
    })
    .await;
    assert!(is_revoked(&verifier, access(&two)));
    let verifier = Verifier::start(second.options(Duration::from_secs(10), &second.address).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert_eq!(verifier.status().entries, 0);
}

/// The position is too old for the log: a snapshot replaces the set.
#[tokio::test]
async fn a_cursor_that_expired_means_a_new_snapshot() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.address).await;
    let verifier = Verifier::start(world.options(Duration::from_secs(10), proxy.address()).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let one = world.issue(viewer("user:ann")).await;
    world.revoke(Target::SessionId(one.session_id.clone())).await;
    until("revoked", || is_revoked(&verifier, access(&one))).await;
    proxy.stall();
    proxy.cut();
    world.clock.advance(2 * DAY);
    world.revoke(Target::Subject("user:bob".to_owned())).await;
    world.clock.advance(2 * DAY);
    let two = world.issue(viewer("user:ann")).await;
    world.revoke(Target::SessionId(two.session_id.clone())).await;
    let horizon = world.clock.now();
    world
        .kit
        .authority()
        .purging()
        .purge(horizon, Seconds::days(90))
        .await
        .unwrap();
    assert_eq!(verifier.status().entries, 1, "the old set stays in force");
    proxy.resume();
    until("the new set", || is_revoked(&verifier, access(&two))).await;
    assert_eq!(verifier.status().entries, 1, "it replaced the old one");
}

/// While a new snapshot arrives, nothing that is revoked becomes valid again.
#[tokio::test]
async fn a_snapshot_is_in_force_when_it_is_complete() {
    let world = World::start().await;
    let issued = world.issue(viewer("user:ann")).await;
    let far_away = prost_types::Timestamp {
        seconds: i64::from(u32::MAX),
        nanos: 0,
    };
    let revoked = tessera_client::v1::RevocationEvent {
        kind: tessera_client::v1::EventKind::SessionRevoked.into(),
        realm: "production".to_owned(),
        occurred_at: Some(prost_types::Timestamp::default()),
        relevant_until: Some(far_away),
        target: Some(tessera_client::v1::revocation_event::Target::SessionId(
            issued.session_id.clone(),
        )),
        ..Default::default()
    };
    let script = Script::SecondSnapshotNeverEnds;
    let (gate, address) = watch_server_with(&world, script, revoked).await;
    let proxy = Proxy::to(&address).await;
    let options = world.options(Duration::from_millis(300), proxy.address()).await;
    let verifier = Verifier::start(options).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert!(is_revoked(&verifier, access(&issued)));
    proxy.cut();
    // The second stream was given up for the third, so it was read to its end.
    until("a third stream", || {
        assert!(is_revoked(&verifier, access(&issued)));
        gate.streams() >= 3
    })
    .await;
}

/// The authority leaves out of a snapshot the revocations of tokens that have expired by its own clock, so no leeway
/// may make such a token valid again.
#[tokio::test]
async fn a_snapshot_does_not_revive_a_revoked_token_within_the_leeway() {
    let world = World::start().await;
    let issued = world.issue(viewer("user:ann")).await;
    world.revoke(Target::Token(access(&issued).to_owned())).await;
    // Expired, but within the leeway: the snapshot still has it.
    world.clock.advance(Duration::from_secs(3600 + 25));
    let verifier = world.verifier().await;
    assert!(is_revoked(&verifier, access(&issued)));
    world.clock.advance(Duration::from_secs(40));
    let verifier = world.verifier().await;
    assert_eq!(verifier.status().entries, 0);
    assert!(!allows(&verifier, access(&issued)));
}

/// A verifier whose clock is far behind would accept the token.
#[tokio::test]
async fn what_a_snapshot_left_out_is_refused_by_a_clock_that_is_behind() {
    let world = World::start().await;
    let issued = world.issue(viewer("user:ann")).await;
    world.revoke(Target::Token(access(&issued).to_owned())).await;
    let behind = Arc::new(ManualClock::new(world.clock.now()));
    world.clock.advance(Duration::from_secs(3600 + 61));
    let options = world.options(Duration::from_secs(10), &world.address).await;
    let verifier = Verifier::start(options.clock(behind)).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    assert_eq!(verifier.status().entries, 0);
    assert_eq!(
        reason(verifier.verify(access(&issued), None)),
        DenyReason::Expired
    );
}

/// Its stream would be as quiet as if nothing were ever revoked.
#[tokio::test]
async fn a_stream_of_another_realm_says_nothing_about_these_tokens() {
    let world = World::start().await;
    let token = access(&world.issue(viewer("user:ann")).await).to_owned();
    let sandbox = world.connection("sandbox", "admin", &world.address).await;
    let options = VerifierOptions::new(sandbox, "production", "api").unwrap();
    let verifier = Verifier::start(options.clock(world.clock.shared())).unwrap();
    until("a problem", || verifier.status().problem.is_some()).await;
    let problem = verifier.status().problem.unwrap();
    assert!(problem.contains("of the realm `sandbox`"), "{problem}");
    assert!(matches!(
        verifier.verify(&token, None),
        Decision::Stale { behind: None, .. }
    ));
}

#[tokio::test]
async fn entries_leave_when_they_can_matter_no_more() {
    let world = World::start().await;
    let verifier = Verifier::start(world.options(Duration::from_millis(400), &world.address).await).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    let issued = world.issue(viewer("user:ann")).await;
    world.revoke(Target::Token(access(&issued).to_owned())).await;
    until("revoked", || is_revoked(&verifier, access(&issued))).await;
    // Expired for the authority, and still within the leeway.
    world.clock.advance(Duration::from_secs(3600 + 59));
    let through = world.revoke(Target::Subject("user:bob".to_owned())).await;
    until("the next", || {
        verifier.status().through.0 >= sequence(&through.cursor)
    })
    .await;
    until_checked(&verifier).await;
    assert_eq!(verifier.status().entries, 2);
    world.clock.advance(Duration::from_secs(2));
    until("one forgotten", || verifier.status().entries == 1).await;
    world.clock.advance(2 * DAY);
    until("all forgotten", || verifier.status().entries == 0).await;
    // Clocks that go back make nothing valid again: the token stays expired until a new snapshot says that it is
    // revoked.
    world.clock.turn_back(2 * DAY + Duration::from_secs(3600));
    assert!(!allows(&verifier, access(&issued)));
    until("a new snapshot", || is_revoked(&verifier, access(&issued))).await;
    assert_eq!(verifier.status().entries, 2);
}

/// Waits for a checkpoint that answers a ping made from now on.
async fn until_checked(verifier: &Verifier) {
    let began = std::time::Instant::now();
    until("a checkpoint", || {
        verifier.status().behind.unwrap() < began.elapsed()
    })
    .await;
}

fn sequence(cursor: &str) -> u64 {
    tessera_core::Cursor::parse(cursor).unwrap().sequence.0
}

/// `AwaitPropagation` succeeds because the verifier reported that it has applied it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_hears_a_required_verifier() {
    let world = World::start().await;
    let options = world.options(Duration::from_secs(60), &world.address).await;
    let verifier = Verifier::start(options.subscriber("api-1").unwrap().required(true)).unwrap();
    soon("ready", verifier.ready(Duration::MAX)).await.unwrap();
    for _ in 0..20 {
        let issued = world.issue(viewer("user:ann")).await;
        assert!(allows(&verifier, access(&issued)));
        let revoked = world.revoke(Target::SessionId(issued.session_id.clone())).await;
        let fence = soon("the fence", world.admin.await_propagation(&revoked.cursor))
            .await
            .unwrap();
        assert_eq!((fence.acknowledged, fence.failed_closed), (1, 0));
        assert!(is_revoked(&verifier, access(&issued)));
    }
}

#[tokio::test]
async fn options_that_the_authority_would_refuse_are_refused_at_once() {
    let world = World::start().await;
    let options = async |bound| world.options(Duration::from_millis(bound), &world.address).await;
    assert!(Verifier::start(options(99).await).is_err());
    assert!(Verifier::start(options(100).await.required(true)).is_err());
    assert!(Verifier::start(options(100).await.leeway(Seconds(61))).is_err());
}
