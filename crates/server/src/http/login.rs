//! `POST /auth/api-key` and `POST /auth/refresh`, as the video company's own client libraries call them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tessera_authority::{IssueRequest, PresentedToken, RefreshError, RefreshRequest, TokenSet};
use tessera_core::{Audience, Refreshable, ScopeSet};
use utoipa::ToSchema;

use super::{problem::Problem, request::HttpRequest};
use crate::{edge::Edge, error::ApiError, proxies::default_audience};

/// The body of `POST /auth/api-key`. Unknown members are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct ApiKeyLogin {
    #[serde(rename = "apiKey")]
    api_key: String,
}

/// The body of `POST /auth/refresh`.
#[derive(Deserialize, ToSchema)]
pub(super) struct RefreshLogin {
    #[serde(rename = "refreshToken")]
    refresh_token: String,
}

/// The answer of both.
#[derive(Serialize, ToSchema)]
pub(super) struct AccessToken {
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    access_token: String,
    refresh_token: String,
}

/// Exchanges an API key for tokens of the client itself, with all scopes that policy grants it.
#[utoipa::path(
    post,
    path = "/auth/api-key",
    request_body(content = ApiKeyLogin, content_type = "application/json"),
    responses(
        (status = 200, body = AccessToken),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn api_key(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    answer(edge, request, async |http| {
        let edge = &http.edge;
        let login: ApiKeyLogin = json(&http.body, "apiKey")?;
        let principal = edge.authenticate(&http.exchange, Some(&login.api_key)).await?;
        let request = IssueRequest {
            refreshable: Refreshable::ByBearer,
            audience: audience(edge),
            ..IssueRequest::default()
        };
        Ok(edge
            .authority
            .issuance()
            .issue(&principal, &request)
            .await?
            .tokens)
    })
    .await
}

/// The audience of the endpoint's tokens, which the clients can't name; `None` leaves it to the catalogue, if it has
/// only one.
fn audience(edge: &Edge) -> Option<Audience> {
    default_audience(edge.authority.policy().catalogue())
}

/// Exchanges a refresh token for its successor and an access token. The request needs no other credential.
#[utoipa::path(
    post,
    path = "/auth/refresh",
    request_body(content = RefreshLogin, content_type = "application/json"),
    responses(
        (status = 200, body = AccessToken),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 408, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn refresh(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    answer(edge, request, async |http| {
        let login: RefreshLogin = json(&http.body, "refreshToken")?;
        let request = RefreshRequest {
            request_id: None,
            refresh_token: PresentedToken::new(login.refresh_token),
            scopes: ScopeSet::default(),
            audience: None,
        };
        let token = request.refresh_token.expose();
        http.edge.admit_credential(&http.exchange, token)?;
        match http.edge.authority.issuance().refresh_by_bearer(&request).await {
            Ok(refreshed) => Ok(refreshed.tokens),
            Err(error) => {
                // A token that was made here is not a guess, whatever happened to its session.
                if matches!(error, RefreshError::Invalid) {
                    http.edge.count_refusal(&http.exchange)?;
                }
                Err(error.into())
            }
        }
    })
    .await
}

/// Reads a request, and answers with tokens or a problem.
async fn answer(
    edge: Arc<Edge>,
    request: Request,
    handle: impl AsyncFnOnce(&HttpRequest) -> Result<TokenSet, ApiError>,
) -> Response {
    let http = match HttpRequest::read(edge, request).await {
        Ok(http) => http,
        Err(unread) => return Problem::from(unread).into_response(),
    };
    match http.edge.endpoint(&http.exchange, handle(&http)).await {
        Ok(tokens) => {
            let answer = AccessToken::from(tokens);
            ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(error) => Problem::of(&error).into_response(),
    }
}

impl From<TokenSet> for AccessToken {
    fn from(tokens: TokenSet) -> Self {
        Self {
            token_type: "Bearer",
            expires_in: tokens.expires_in.0.into(),
            access_token: tokens.access_token,
            refresh_token: tokens
                .refresh_token
                .map_or_else(String::new, |token| token.as_str().to_owned()),
        }
    }
}

/// The body as JSON, with any content type: one client sends `text/plain`.
fn json<'a, T: Deserialize<'a>>(body: &'a [u8], member: &str) -> Result<T, ApiError> {
    let wrong = |problem: String| ApiError::invalid_field(member, problem);
    // serde would accept an array of the members instead of the object, too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("the body must be a JSON object with it".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        match error.classify() {
            // The text of the error may quote a value, which may be a secret.
            serde_json::error::Category::Data => wrong(format!("must be a text, given once ({place})")),
            _ => wrong(format!("the body must be a JSON object with it ({place})")),
        }
    })
}
