//! Secret includes confidential, which includes public, for the time of one reading.

use tessera_proto::v1::IssueRequest;

use super::{Case, ask, ask_as, refusal, refused, seconds, tokens};
use crate::support::soon;

const PUBLIC: &str = "documents/public:read";
const CONFIDENTIAL: &str = "documents/confidential:read";
const SECRET: &str = "documents/secret:read";

#[tokio::test]
async fn a_tier_includes_those_below_and_none_above() {
    let case = Case::start("clearance").await;
    let room = case.service("reading-room").await;
    // Without a requested scope: everything that the policy grants.
    assert_eq!(
        tokens(&room, ask("user:ann", &[])).await.scopes,
        [CONFIDENTIAL, PUBLIC, SECRET]
    );
    assert_eq!(
        tokens(&room, ask("user:bob", &[])).await.scopes,
        [CONFIDENTIAL, PUBLIC]
    );
    assert_eq!(refusal(&room, ask("user:bob", &[SECRET])).await, "SCOPE_DENIED");
    assert_eq!(refusal(&room, ask("user:guest", &[PUBLIC])).await, "SCOPE_DENIED");
    // A reader of everything may request less.
    assert_eq!(tokens(&room, ask("user:ann", &[PUBLIC])).await.scopes, [PUBLIC]);
}

#[tokio::test]
async fn a_clearance_comes_from_the_policy_and_not_from_a_client() {
    let case = Case::start("clearance").await;
    let room = case.service("reading-room").await;
    for role in ["role:secret", "role:confidential", "role:public"] {
        let asserted = ask_as(role, "user:bob", &[]);
        assert_eq!(refusal(&room, asserted).await, "CALL_NOT_ALLOWED", "{role}");
    }
    assert_eq!(refusal(&room, ask("", &[PUBLIC])).await, "SCOPE_DENIED");
    // It has no effect in the other realm.
    let sandbox_admin = case.authority.client("sandbox").await;
    let key = case.key_for(&sandbox_admin, "reading-room").await;
    let trial = case.authority.with_key(&key).await;
    assert_eq!(tokens(&trial, ask("user:ann", &[])).await.scopes, [PUBLIC]);
    assert_eq!(refusal(&trial, ask("user:ann", &[SECRET])).await, "SCOPE_DENIED");
}

/// Ann reads something secret, with these lifetimes of the access token and of the session.
fn reading(access: i64, session: i64) -> IssueRequest {
    IssueRequest {
        access_ttl: seconds(access),
        session_ttl: seconds(session),
        ..ask("user:ann", &[SECRET])
    }
}

#[tokio::test]
async fn access_is_as_short_as_it_was_asked_to_be() {
    let case = Case::start("clearance").await;
    let room = case.service("reading-room").await;
    let read = tokens(&room, reading(300, 900)).await;
    assert_eq!((read.expires_in, read.refresh_expires_in), (300, 900));
    let told = room.introspect(&read.access_token).await;
    assert_eq!(told.exp - told.iat, 300);
    let renewed = room.refresh(&read.refresh_token).await.unwrap().tokens.unwrap();
    assert_eq!(renewed.expires_in, 300);
    assert!(renewed.refresh_expires_in <= 900);
    // No access token outlives the session.
    assert!(tokens(&room, reading(900, 300)).await.expires_in <= 300);
}

#[tokio::test]
async fn the_reading_is_over_when_its_time_is() {
    let case = Case::start("clearance").await;
    let room = case.service("reading-room").await;
    let read = tokens(&room, reading(1, 2)).await;
    let is_over = async { while room.introspect(&read.access_token).await.active {} };
    soon("the end of the access token", is_over).await;
    let is_over = async { while room.introspect(&read.refresh_token).await.active {} };
    soon("the end of the session", is_over).await;
    assert_eq!(
        refused(room.refresh(&read.refresh_token).await),
        "SESSION_EXPIRED"
    );
}

#[tokio::test]
async fn longer_than_the_realm_allows_is_refused_and_not_cut() {
    let case = Case::start("clearance").await;
    let room = case.service("reading-room").await;
    let (day, most) = (24 * 60 * 60, 90 * 24 * 60 * 60);
    for (access, session) in [(day + 1, most), (300, most + 1), (0, 900), (300, 0), (-1, 900)] {
        let asked = reading(access, session);
        assert_eq!(refusal(&room, asked).await, "FIELD_INVALID", "{access} {session}");
    }
    assert_eq!(tokens(&room, reading(day, most)).await.expires_in, 86_400);
}
