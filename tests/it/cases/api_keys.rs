//! An API key for disposable tokens, in two realms that share nothing.

use std::collections::BTreeSet;

use tessera_proto::v1::{
    CreateApiKeyRequest, GetSessionRequest, IssueRequest, ListApiKeysRequest, RollApiKeyRequest, TokenSet,
    api_key_service_client::ApiKeyServiceClient, revoke_request::Target,
    session_service_client::SessionServiceClient,
};

use super::{Case, ask, refusal, refused, seconds, tokens};
use crate::{offline::Verifier, support::Client};

#[tokio::test]
async fn a_key_is_traded_for_tokens_and_each_refresh_gives_new_ones() {
    let case = Case::start("api-keys").await;
    let reports = case.service("reports").await;

    let first = tokens(&reports, IssueRequest::default()).await;
    assert_eq!(
        (first.expires_in, first.scopes),
        (3600, vec!["invoices:read".to_owned()])
    );
    let told = reports.introspect(&first.access_token).await;
    assert_eq!((told.sub.as_str(), told.exp - told.iat), ("client:reports", 3600));

    let mut seen = BTreeSet::from([first.access_token, first.refresh_token.clone()]);
    let mut refresh_token = first.refresh_token;
    for generation in 2..=4 {
        let refreshed = reports.refresh(&refresh_token).await.unwrap();
        assert_eq!((refreshed.generation, refreshed.replayed), (generation, false));
        let next = refreshed.tokens.unwrap();
        assert_eq!(next.expires_in, 3600);
        assert!(reports.introspect(&next.access_token).await.active);
        refresh_token.clone_from(&next.refresh_token);
        assert!(seen.insert(next.access_token) && seen.insert(next.refresh_token));
    }
}

#[tokio::test]
async fn a_session_goes_on_without_the_key_that_began_it() {
    let case = Case::start("api-keys").await;
    let reports = case.service("reports").await;
    let first = tokens(&reports, IssueRequest::default()).await;

    let mut keys = ApiKeyServiceClient::new(case.admin.channel.clone());
    let listed = keys
        .list_api_keys(ListApiKeysRequest::default())
        .await
        .unwrap()
        .into_inner();
    let old = listed
        .api_keys
        .into_iter()
        .find(|key| key.client == "client:reports")
        .unwrap();
    let roll = RollApiKeyRequest {
        id: old.id,
        overlap: seconds(0),
        ..RollApiKeyRequest::default()
    };
    let rolled = keys.roll_api_key(roll).await.unwrap().into_inner();

    assert_eq!(
        refused(reports.refresh(&first.refresh_token).await),
        "CLIENT_AUTH_FAILED"
    );
    let reports = case.authority.with_key(&rolled.secret).await;
    assert!(reports.introspect(&first.access_token).await.active);
    assert_eq!(reports.refresh(&first.refresh_token).await.unwrap().generation, 2);
}

#[tokio::test]
async fn no_key_no_right_and_no_other_client_gets_anything() {
    let case = Case::start("api-keys").await;
    let reports = case.service("reports").await;
    let newcomer = case.service("newcomer").await;
    let keyless = case.authority.with_key("").await;
    let mine = tokens(&reports, IssueRequest::default()).await;

    assert_eq!(
        refusal(&keyless, IssueRequest::default()).await,
        "CLIENT_AUTH_FAILED"
    );
    assert_eq!(
        refused(keyless.refresh(&mine.refresh_token).await),
        "CLIENT_AUTH_FAILED"
    );
    assert_eq!(
        refusal(&reports, ask("", &["invoices:write"])).await,
        "SCOPE_DENIED"
    );
    assert_eq!(refusal(&reports, ask("user:ann", &[])).await, "CALL_NOT_ALLOWED");
    assert_eq!(refusal(&newcomer, IssueRequest::default()).await, "SCOPE_DENIED");
    assert_eq!(
        refused(newcomer.refresh(&mine.refresh_token).await),
        "CLIENT_MISMATCH"
    );
    // None of it affected the owner's session.
    assert_eq!(reports.refresh(&mine.refresh_token).await.unwrap().generation, 2);
}

/// `client:reports` in the sandbox.
async fn trial(case: &Case) -> Client {
    let sandbox_admin = case.authority.client("sandbox").await;
    let key = case.key_for(&sandbox_admin, "reports").await;
    case.authority.with_key(&key).await
}

#[tokio::test]
async fn the_sandbox_has_other_rights_and_another_issuer() {
    let case = Case::start("api-keys").await;
    let tried = tokens(&trial(&case).await, IssueRequest::default()).await;
    assert_eq!(tried.scopes, ["invoices:read", "invoices:write"]);

    let verifier = Verifier::fetch(&case.authority.address).await;
    let claims = verifier.verify(&tried.access_token).unwrap();
    let realms = &case.authority.ready["realms"];
    assert_eq!(claims["realm"], "sandbox");
    assert_eq!(claims["iss"], realms["sandbox"]["issuer"]);
    assert_ne!(claims["iss"], realms["production"]["issuer"]);
}

#[tokio::test]
async fn a_key_of_the_sandbox_is_none_of_production() {
    let case = Case::start("api-keys").await;
    let key = case.authority.api_key("sandbox");
    assert!(key.starts_with("tsk_sandbox_"));
    let pretended = case
        .authority
        .with_key(&key.replace("sandbox", "production"))
        .await;
    let asked = pretended.issue(IssueRequest::default()).await;
    assert_eq!(refused(asked), "CLIENT_AUTH_FAILED");
    // An administrator of one realm can't make keys of the other.
    let across = CreateApiKeyRequest {
        name: "reports".to_owned(),
        realm: "sandbox".to_owned(),
        ..CreateApiKeyRequest::default()
    };
    let mut keys = ApiKeyServiceClient::new(case.admin.channel.clone());
    assert_eq!(refused(keys.create_api_key(across).await), "CALL_NOT_ALLOWED");
}

/// Tokens and session are unknown, as if they had never existed.
async fn knows_nothing_of(client: &Client, tried: &TokenSet, session_id: &str) {
    assert!(!client.introspect(&tried.access_token).await.active);
    assert!(!client.introspect(&tried.refresh_token).await.active);
    let renewed = client.refresh(&tried.refresh_token).await;
    assert_eq!(refused(renewed), "REFRESH_TOKEN_INVALID");
    let revoked = client.revoke(Target::SessionId(session_id.to_owned())).await;
    assert_eq!(revoked.unwrap().matched, 0);
    let request = GetSessionRequest {
        session_id: session_id.to_owned(),
    };
    let mut sessions = SessionServiceClient::new(client.channel.clone());
    assert_eq!(refused(sessions.get_session(request).await), "NOT_FOUND");
}

#[tokio::test]
async fn tokens_and_sessions_of_the_sandbox_are_unknown_in_production() {
    let case = Case::start("api-keys").await;
    let trial = trial(&case).await;
    let issued = trial.issue(IssueRequest::default()).await.unwrap();
    let tried = issued.tokens.unwrap();

    // Neither the client of the same name nor the administrator.
    for production in [&case.service("reports").await, &case.admin] {
        knows_nothing_of(production, &tried, &issued.session_id).await;
    }
    assert!(trial.introspect(&tried.access_token).await.active);
    assert_eq!(trial.refresh(&tried.refresh_token).await.unwrap().generation, 2);
}
