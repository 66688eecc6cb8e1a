//! The routes of OAuth 2.0: token (RFC 6749), introspection (RFC 7662), revocation (RFC 7009).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tessera_authority::{IssueRequest, Principal, TokenSet};
use tessera_proto::v1;
use tonic::Status;
use utoipa::ToSchema;

use super::Visit;
use crate::{
    convert,
    edge::{Edge, log_revocation},
    status::{self, IntoStatus},
};

mod client;
mod error;

use client::Credentials;
use error::Failure;
pub(super) use error::OAuthError;

/// Asks for a refresh token, which RFC 6749 §4.4.3 advises against where nobody asks.
const OFFLINE_ACCESS: &str = "offline_access";

/// What `POST /oauth2/token` takes.
#[derive(Deserialize, ToSchema)]
pub(super) struct TokenForm {
    /// `client_credentials` or `refresh_token`.
    grant_type: String,
    scope: Option<String>,
    audience: Option<String>,
    refresh_token: Option<String>,
}

/// What introspection and revocation take.
#[derive(Deserialize, ToSchema)]
pub(super) struct TokenToLookAt {
    token: String,
}

/// What `POST /oauth2/token` gives (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    scope: String,
}

/// What introspection says of an active token; of any other only `active`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer that is made member by member")]
pub(super) struct IntrospectionAnswer {
    active: bool,
    scope: Option<String>,
    client_id: Option<String>,
    sub: Option<String>,
    exp: Option<i64>,
}

/// `POST /oauth2/token`.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, body = TokenAnswer),
        (status = 400, body = OAuthError),
        (status = 401, body = OAuthError),
        (status = 408, body = OAuthError),
        (status = 413, body = OAuthError),
        (status = 429, body = OAuthError),
        (status = 503, body = OAuthError),
    )
)]
pub(super) async fn token(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    answer(edge, request, async |visit, principal| {
        let form: TokenForm = form(&visit.body)?;
        let tokens = match form.grant_type.as_str() {
            "client_credentials" => issue(&visit.edge, &principal, form).await?,
            "refresh_token" => refresh(&visit.edge, &principal, form).await?,
            _ => return Err(Failure::unsupported_grant_type()),
        };
        Ok(json!(TokenAnswer::from(tokens)))
    })
    .await
}

/// `POST /oauth2/introspect`.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    request_body(content = TokenToLookAt, content_type = "application/x-www-form-urlencoded"),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, body = IntrospectionAnswer),
        (status = 400, body = OAuthError),
        (status = 401, body = OAuthError),
        (status = 408, body = OAuthError),
        (status = 413, body = OAuthError),
        (status = 429, body = OAuthError),
        (status = 503, body = OAuthError),
    )
)]
pub(super) async fn introspect(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    answer(edge, request, async |visit, principal| {
        let form: TokenToLookAt = form(&visit.body)?;
        let token = convert::token("token", form.token)?;
        let introspection = visit.edge.authority.introspect(&principal, &token).await;
        let introspection = introspection.map_err(IntoStatus::into_status)?;
        Ok(introspection_json(&convert::introspect_response(introspection)))
    })
    .await
}

/// `POST /oauth2/revoke`. A token that is not known is answered as one that is.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    request_body(content = TokenToLookAt, content_type = "application/x-www-form-urlencoded"),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, body = Object),
        (status = 400, body = OAuthError),
        (status = 401, body = OAuthError),
        (status = 408, body = OAuthError),
        (status = 413, body = OAuthError),
        (status = 429, body = OAuthError),
        (status = 503, body = OAuthError),
    )
)]
pub(super) async fn revoke(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    answer(edge, request, async |visit, principal| {
        let form: TokenToLookAt = form(&visit.body)?;
        let wire = v1::RevokeRequest {
            target: Some(v1::revoke_request::Target::Token(form.token)),
            ..v1::RevokeRequest::default()
        };
        let request = convert::revoke_request(wire)?;
        let revoked = visit.edge.authority.revoke(&principal, &request).await;
        let revoked = revoked.map_err(IntoStatus::into_status)?;
        log_revocation(&visit.exchange, &request, &revoked);
        Ok(json!({}))
    })
    .await
}

async fn issue(edge: &Edge, principal: &Principal, form: TokenForm) -> Result<TokenSet, Status> {
    let scopes = form.scope.unwrap_or_default();
    let (offline, scopes): (Vec<_>, Vec<_>) = scopes
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .partition(|scope| *scope == OFFLINE_ACCESS);
    let wire = v1::IssueRequest {
        scopes: scopes.into_iter().map(str::to_owned).collect(),
        audience: form.audience.unwrap_or_default(),
        ..v1::IssueRequest::default()
    };
    let request = IssueRequest {
        without_refresh: offline.is_empty(),
        ..convert::issue_request(&wire)?
    };
    let issued = edge.authority.issue(principal, &request).await;
    issued
        .map(|issued| issued.tokens)
        .map_err(IntoStatus::into_status)
}

async fn refresh(edge: &Edge, principal: &Principal, form: TokenForm) -> Result<TokenSet, Status> {
    let Some(refresh_token) = form.refresh_token else {
        let missing = ("refresh_token".to_owned(), "must be given".to_owned());
        return Err(status::invalid_fields(vec![missing]));
    };
    let scopes = form.scope.unwrap_or_default();
    let scopes = scopes
        .split(' ')
        .filter(|scope| !scope.is_empty() && *scope != OFFLINE_ACCESS);
    let request = convert::refresh_request(v1::RefreshRequest {
        request_id: String::new(),
        refresh_token,
        scopes: scopes.map(str::to_owned).collect(),
    })?;
    let refreshed = edge.authority.refresh(principal, &request).await;
    refreshed
        .map(|refreshed| refreshed.tokens)
        .map_err(IntoStatus::into_status)
}

/// A refusal before the request was read.
pub(super) fn refused(status: &Status) -> Response {
    Failure::of(status).into_response()
}

/// Reads a request, lets its client in, and answers in the words of OAuth 2.0.
async fn answer(
    edge: Arc<Edge>,
    request: Request,
    handle: impl AsyncFnOnce(&Visit, Principal) -> Result<Value, Failure>,
) -> Response {
    let visit = match Visit::read(edge, request).await {
        Ok(visit) => visit,
        Err(unread) => return Failure::from(unread).into_response(),
    };
    let mut failure = None;
    let answered = visit.edge.endpoint(&visit.exchange, async {
        match attend(&visit, handle).await {
            Ok(value) => Ok(value),
            Err(failed) => {
                let status = failed.status();
                failure = Some(failed);
                Err(status)
            }
        }
    });
    match answered.await {
        Ok(value) => no_store((StatusCode::OK, Json(value)).into_response()),
        // Without a failure of its own, the edge refused it: overload, or the time was over.
        Err(status) => failure.unwrap_or_else(|| Failure::of(&status)).into_response(),
    }
}

async fn attend(
    visit: &Visit,
    handle: impl AsyncFnOnce(&Visit, Principal) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let kind = visit
        .headers
        .get(header::CONTENT_TYPE)
        .map(header::HeaderValue::as_bytes);
    if kind.is_some_and(|kind| !is_form(kind)) {
        return Err(Failure::invalid_request(
            "the body must be a form: application/x-www-form-urlencoded",
        ));
    }
    let credentials = Credentials::of(visit)?;
    let principal = credentials.let_in(visit).await?;
    handle(visit, principal).await
}

fn is_form(content_type: &[u8]) -> bool {
    let kind = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    kind.trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// A body of `application/x-www-form-urlencoded`; a parameter that is given twice is refused, one that is
/// not known is passed over (RFC 6749 §3.2).
fn form<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // Otherwise what is no UTF-8 would be read as something else.
    let body = std::str::from_utf8(body).map_err(|_| Failure::invalid_request("the body must be UTF-8"))?;
    serde_urlencoded::from_str(body).map_err(|error| Failure::invalid_request(&format!("{error}")))
}

fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
    response
}

impl From<TokenSet> for TokenAnswer {
    fn from(tokens: TokenSet) -> Self {
        Self {
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in.0.into(),
            refresh_token: tokens.refresh_token.map(|token| token.as_str().to_owned()),
            scope: tokens.scopes.to_string(),
        }
    }
}

/// RFC 7662 §2.2; an inactive token says nothing else.
fn introspection_json(answer: &v1::IntrospectResponse) -> Value {
    if !answer.active {
        return json!({ "active": false });
    }
    let mut json = json!({
        "active": true,
        "token_type": answer.token_type,
        "scope": answer.scope,
        "client_id": answer.client_id,
        "sub": answer.sub,
        "aud": answer.aud,
        "iss": answer.iss,
        "iat": answer.iat,
        "nbf": answer.nbf,
        "exp": answer.exp,
        "realm": answer.realm,
        "family_id": answer.family_id,
        "generation": answer.generation,
        "roles": answer.roles,
        "bindings": answer.bindings,
        "policy_revision": answer.policy_revision,
        "as_of": answer.as_of,
    });
    if let (false, Some(members)) = (answer.jti.is_empty(), json.as_object_mut()) {
        members.insert("jti".to_owned(), json!(answer.jti));
    }
    json
}
