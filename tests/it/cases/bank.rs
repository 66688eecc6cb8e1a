//! Short-lived tokens with one audience each: a token for one service is refused by another.

use tessera_proto::v1::{IntrospectResponse, IssueRequest, revoke_request::Target};

use super::{Case, ask_as, refusal, refused, seconds, tokens};
use crate::{offline::Verifier, support::Client};

/// A service that verifies by itself: the signature, then whether the token is for its audience.
struct Service {
    audience: &'static str,
    verifier: Verifier,
}

impl Service {
    async fn of(case: &Case, audience: &'static str) -> Self {
        let verifier = Verifier::fetch(&case.authority.address).await;
        Self { audience, verifier }
    }

    /// The scopes with which it admits the bearer.
    fn lets_in(&self, token: &str) -> Option<String> {
        let claims = self.verifier.verify(token)?;
        let is_for_me = claims["aud"] == self.audience;
        is_for_me.then(|| claims["scope"].as_str().unwrap().to_owned())
    }
}

/// Two minutes at one service for ann.
fn visit(audience: &str, scope: &str) -> IssueRequest {
    IssueRequest {
        audience: audience.to_owned(),
        access_ttl: seconds(120),
        ..ask_as("role:customer", "user:ann", &[scope])
    }
}

async fn account_token(mobile: &Client) -> String {
    tokens(mobile, visit("accounts", "accounts:read"))
        .await
        .access_token
}

#[tokio::test]
async fn a_token_opens_one_service_and_no_other() {
    let case = Case::start("bank").await;
    let mobile = case.service("mobile-bank").await;
    let (accounts, payments) = (
        Service::of(&case, "accounts").await,
        Service::of(&case, "payments").await,
    );

    let looking = account_token(&mobile).await;
    let paying = tokens(&mobile, visit("payments", "payments:create")).await;
    assert_eq!(paying.expires_in, 120);
    assert_eq!(accounts.lets_in(&looking).as_deref(), Some("accounts:read"));
    assert_eq!(
        payments.lets_in(&paying.access_token).as_deref(),
        Some("payments:create")
    );
    assert_eq!(payments.lets_in(&looking), None);
    assert_eq!(accounts.lets_in(&paying.access_token), None);

    // A refresh does not change the audience.
    let renewed = mobile
        .refresh(&paying.refresh_token)
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert_eq!(
        payments.lets_in(&renewed.access_token).as_deref(),
        Some("payments:create")
    );
    assert_eq!(accounts.lets_in(&renewed.access_token), None);
}

#[tokio::test]
async fn a_token_is_for_exactly_one_service() {
    let case = Case::start("bank").await;
    let mobile = case.service("mobile-bank").await;
    assert_eq!(
        refusal(&mobile, visit("", "accounts:read")).await,
        "FIELD_INVALID"
    );
    assert_eq!(
        refusal(&mobile, visit("acounts", "accounts:read")).await,
        "AUDIENCE_UNKNOWN"
    );
    let both = visit("accounts payments", "accounts:read");
    assert_eq!(refusal(&mobile, both).await, "FIELD_INVALID");
}

#[tokio::test]
async fn another_service_is_told_nothing() {
    let case = Case::start("bank").await;
    let mobile = case.service("mobile-bank").await;
    let (payments, fraud) = (
        case.service("payments").await,
        case.service("fraud-control").await,
    );
    let looking = account_token(&mobile).await;

    // Inactive, and nothing else: as for a token that never existed.
    assert_eq!(payments.introspect(&looking).await, IntrospectResponse::default());
    assert_eq!(
        payments.introspect("v4.public.nonsense").await,
        IntrospectResponse::default()
    );
    // The client that it was issued to may introspect it, and so may a client with a rule for it.
    for entitled in [&mobile, &fraud] {
        let told = entitled.introspect(&looking).await;
        assert_eq!((told.active, told.aud.as_str()), (true, "accounts"));
    }
    assert_eq!(
        refused(payments.revoke(Target::Token(looking.clone())).await),
        "CALL_NOT_ALLOWED"
    );
    assert!(mobile.introspect(&looking).await.active);
    assert_eq!(
        mobile
            .revoke(Target::Token(looking.clone()))
            .await
            .unwrap()
            .matched,
        1
    );
    assert!(!fraud.introspect(&looking).await.active);
}

/// A clerk at the counter closes an account.
fn closing() -> IssueRequest {
    IssueRequest {
        audience: "accounts".to_owned(),
        ..ask_as("role:clerk", "clerk:12", &["accounts:close"])
    }
}

#[tokio::test]
async fn each_client_speaks_for_its_own_people() {
    let case = Case::start("bank").await;
    let (mobile, counter) = (case.service("mobile-bank").await, case.service("counter").await);
    assert_eq!(tokens(&counter, closing()).await.scopes, ["accounts:close"]);
    let customer = visit("accounts", "accounts:close");
    assert_eq!(refusal(&mobile, customer).await, "SCOPE_DENIED");
    let promoted = IssueRequest {
        subject: "user:ann".to_owned(),
        ..closing()
    };
    assert_eq!(refusal(&mobile, promoted).await, "CALL_NOT_ALLOWED");
    assert_eq!(refusal(&mobile, closing()).await, "CALL_NOT_ALLOWED");
    for other in ["counter", "payments", "fraud-control"] {
        let asked = visit("payments", "payments:create");
        assert_eq!(
            refusal(&case.service(other).await, asked).await,
            "CALL_NOT_ALLOWED"
        );
    }
}
