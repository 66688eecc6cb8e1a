//! A checking service asserts that a visitor is old enough, and nothing else.

use std::collections::BTreeSet;

use tessera_proto::v1::IssueRequest;

use super::{Case, ask, ask_as, refusal, seconds, texts, tokens};
use crate::offline::Verifier;

/// A random name for one visit.
const VISITOR: &str = "visitor:7f3a9c";
const VERIFIED: &str = "role:age-verified";

/// All claims of a token without a label.
const CLAIMS: &str = "aud client_id exp gen iat iss jti nbf pol realm rev roles scope sid sub";

/// A proof of age: one token, for as long as it takes to pay.
fn proof() -> IssueRequest {
    IssueRequest {
        access_ttl: seconds(600),
        without_refresh: true,
        ..ask_as(VERIFIED, VISITOR, &[])
    }
}

#[tokio::test]
async fn a_proof_of_age_says_that_and_not_who() {
    let case = Case::start("age-check").await;
    let check = case.service("age-check").await;
    let proven = tokens(&check, proof()).await;
    assert_eq!((proven.expires_in, proven.refresh_token.as_str()), (600, ""));

    let claims = Verifier::fetch(&case.authority.address)
        .await
        .verify(&proven.access_token)
        .unwrap();
    let names: BTreeSet<_> = claims.as_object().unwrap().keys().cloned().collect();
    assert_eq!(Vec::from_iter(names).join(" "), CLAIMS);
    let said = |name: &str| claims[name].as_str().unwrap().to_owned();
    assert_eq!(
        (said("sub").as_str(), said("client_id").as_str()),
        (VISITOR, "client:age-check")
    );
    assert_eq!(
        (said("aud").as_str(), said("scope").as_str()),
        ("shop", "shop/restricted:buy")
    );
    assert_eq!(claims["roles"], serde_json::json!([VERIFIED]));
}

#[tokio::test]
async fn the_check_can_say_nothing_else() {
    let case = Case::start("age-check").await;
    let check = case.service("age-check").await;
    let keeper = ask_as("role:shopkeeper", VISITOR, &[]);
    assert_eq!(refusal(&check, keeper).await, "CALL_NOT_ALLOWED");
    let both = IssueRequest {
        roles: texts(&[VERIFIED, "role:shopkeeper"]),
        ..ask(VISITOR, &[])
    };
    assert_eq!(refusal(&check, both).await, "CALL_NOT_ALLOWED");
    assert_eq!(
        refusal(&check, ask_as("role:grown-up", VISITOR, &[])).await,
        "ROLE_UNKNOWN"
    );
    let managing = ask_as(VERIFIED, VISITOR, &["shop:manage"]);
    assert_eq!(refusal(&check, managing).await, "SCOPE_DENIED");
    // Without a specific visitor, or asserted by the visitor itself, it has no value.
    assert_eq!(
        refusal(&check, ask(VISITOR, &["shop/restricted:buy"])).await,
        "SCOPE_DENIED"
    );
    let itself = ask_as(VERIFIED, "", &["shop/restricted:buy"]);
    assert_eq!(refusal(&check, itself).await, "SCOPE_DENIED");
}

#[tokio::test]
async fn it_speaks_for_visitors_and_for_no_user() {
    let case = Case::start("age-check").await;
    let check = case.service("age-check").await;
    // Bob runs the shop by policy: a token for him could manage it, so no client may request one.
    for user in ["user:bob", "user:ann", "client:dev", "visitor"] {
        let asked = ask_as(VERIFIED, user, &["shop/restricted:buy"]);
        assert_eq!(refusal(&check, asked).await, "CALL_NOT_ALLOWED", "{user}");
    }
    let shop = case.service("shop").await;
    assert_eq!(tokens(&shop, ask("user:bob", &[])).await.scopes, ["shop:manage"]);
    // No other client speaks for visitors, not even the administrator.
    for other in [&shop, &case.admin] {
        assert_eq!(refusal(other, proof()).await, "CALL_NOT_ALLOWED");
    }
}
