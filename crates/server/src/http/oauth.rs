//! The routes of OAuth 2.0: token (RFC 6749), introspection (RFC 7662), revocation (RFC 7009).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tessera_authority::{
    IssueRequest, PresentedToken, Principal, RefreshRequest, RevokeRequest, RevokeTarget, TokenSet,
};
use tessera_core::{
    Audience, Scope,
    limits::{SCOPES_MAX, TOKEN_BYTES_MAX},
};
use tessera_policy::Catalogue;
use utoipa::ToSchema;

use super::request::HttpRequest;
use crate::{
    edge::{Edge, is_of_type, log_revocation},
    error::ApiError,
    fields::Fields,
};

mod answer;
mod client;
pub(super) mod error;
mod form;

pub(super) use answer::{IntrospectionAnswer, TokenAnswer};
use answer::{introspection_json, no_store};
use client::Credentials;
pub(super) use error::OAuthError;
use error::{Failure, Scheme};
use form::Form;

/// Requests a refresh token, which RFC 6749 §4.4.3 advises against unless the client requests it.
const OFFLINE_ACCESS: &str = "offline_access";

/// The form of `POST /oauth2/token`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form that is read parameter by parameter")]
pub(super) struct TokenForm {
    /// `client_credentials` or `refresh_token`.
    grant_type: String,
    scope: Option<String>,
    /// An audience of the catalogue.
    audience: Option<String>,
    /// The address of an audience, as the catalogue has it, or its name (RFC 8707).
    resource: Option<Vec<String>>,
    refresh_token: Option<String>,
}

/// The form of introspection and revocation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a form that is read parameter by parameter")]
pub(super) struct TokenToLookAt {
    token: String,
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
    answer(edge, request, async |http, form, principal| {
        let tokens = match form.required("grant_type")? {
            "client_credentials" => issue(&http.edge, &principal, form).await?,
            "refresh_token" => refresh(&http.edge, &principal, form).await?,
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
    answer(edge, request, async |http, form, principal| {
        // Text that is not a token, including empty text, is not active (RFC 7662 §2.2).
        let token = form.present("token")?;
        let introspection = http.edge.authority.access().introspect(&principal, token).await;
        let introspection = introspection.map_err(ApiError::from)?;
        Ok(introspection_json(introspection.as_ref()))
    })
    .await
}

/// `POST /oauth2/revoke`. An unknown token gets the same answer as a known one.
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
    answer(edge, request, async |http, form, principal| {
        let token = form.present("token")?;
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            // Not a token, so nothing can be revoked: no error (RFC 7009 §2.2).
            return Ok(json!({}));
        }
        let request = RevokeRequest {
            request_id: None,
            reason: String::new(),
            validate_only: false,
            target: RevokeTarget::Token(PresentedToken::new(token.to_owned())),
            disables_client: false,
            with_made_keys: false,
        };
        let revoked = http.edge.authority.sessions().revoke(&principal, &request).await;
        let revoked = revoked.map_err(ApiError::from)?;
        log_revocation(&http.exchange, &request, &revoked);
        Ok(json!({}))
    })
    .await
}

async fn issue(edge: &Edge, principal: &Principal, form: &Form) -> Result<TokenSet, Failure> {
    let (offline, scopes) = scopes(form);
    let mut fields = Fields::default();
    let scopes = fields.list("scopes", &scopes, SCOPES_MAX, Scope::parse);
    let audience = audience(form, &mut fields);
    let (scopes, audience) = fields.finish(Some((scopes, audience)))?;
    let request = IssueRequest {
        scopes: scopes.into_iter().collect(),
        audience: target(edge, form, audience)?,
        without_refresh: !offline,
        ..IssueRequest::default()
    };
    let issued = edge.authority.issuance().issue(principal, &request).await;
    Ok(issued.map_err(ApiError::from)?.tokens)
}

async fn refresh(edge: &Edge, principal: &Principal, form: &Form) -> Result<TokenSet, Failure> {
    let refresh_token = form.required("refresh_token")?.to_owned();
    let (_, scopes) = scopes(form);
    let mut fields = Fields::default();
    let scopes = fields.list("scopes", &scopes, SCOPES_MAX, Scope::parse);
    let audience = audience(form, &mut fields);
    let (scopes, audience) = fields.finish(Some((scopes, audience)))?;
    let request = RefreshRequest {
        request_id: None,
        refresh_token: PresentedToken::new(refresh_token),
        scopes: scopes.into_iter().collect(),
        audience: target(edge, form, audience)?,
    };
    let refreshed = edge.authority.issuance().refresh(principal, &request).await;
    Ok(refreshed.map_err(ApiError::from)?.tokens)
}

fn audience(form: &Form, fields: &mut Fields) -> Option<Audience> {
    let name = form.one("audience").unwrap_or_default();
    fields.optional("audience", name, Audience::parse)
}

/// Whether a refresh token is requested, and the other scopes.
fn scopes(form: &Form) -> (bool, Vec<&str>) {
    let scopes = form.one("scope").unwrap_or_default();
    let (offline, scopes): (Vec<_>, Vec<_>) = scopes
        .split(' ')
        .filter(|scope| !scope.is_empty())
        .partition(|scope| *scope == OFFLINE_ACCESS);
    (!offline.is_empty(), scopes)
}

/// The audience that all `resource` parameters name (RFC 8707); otherwise `audience`. They must agree, as a token is
/// for one audience.
fn target(edge: &Edge, form: &Form, audience: Option<Audience>) -> Result<Option<Audience>, Failure> {
    let policy = edge.authority.policy();
    form.all("resource").try_fold(audience, |before, resource| {
        let named = policy.catalogue().audience_of(resource);
        let named = named.ok_or_else(|| unknown_resource(policy.catalogue(), resource))?;
        match before {
            Some(before) if before != *named => Err(Failure::invalid_target(
                "a token is for one audience, and several are asked for",
            )),
            _ => Ok(Some(named.clone())),
        }
    })
}

/// Why `resource` is none that the catalogue has. It is not repeated: it may be a secret in the wrong parameter.
fn unknown_resource(catalogue: &Catalogue, resource: &str) -> Failure {
    let is_absolute = resource
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.starts_with(|c: char| c.is_ascii_alphabetic()));
    if !is_absolute || resource.contains('#') {
        return Failure::invalid_target(
            "resource must be an absolute URI without a fragment (RFC 8707 section 2)",
        );
    }
    match catalogue.nearest_resource(resource) {
        Some(nearest) => Failure::invalid_target(&format!(
            "no audience has this address: did you mean {nearest} (resources are compared letter by letter)?"
        )),
        None => {
            Failure::invalid_target("no audience has this address: it is none of the catalogue's [resources]")
        }
    }
}

/// Reads a request, authenticates its client, and answers in the format of OAuth 2.0.
async fn answer(
    edge: Arc<Edge>,
    request: Request,
    handle: impl AsyncFnOnce(&HttpRequest, &Form, Principal) -> Result<Value, Failure>,
) -> Response {
    let http = match HttpRequest::read(edge, request).await {
        Ok(http) => http,
        Err(unread) => return Failure::from(unread).into_response(),
    };
    let mut failure = None;
    let answered = http.edge.endpoint(&http.exchange, async {
        match attend(&http, handle).await {
            Ok(value) => Ok(value),
            Err(failed) => {
                let error = failed.error().clone();
                failure = Some(failed);
                Err(error)
            }
        }
    });
    match answered.await {
        Ok(value) => no_store((StatusCode::OK, Json(value)).into_response()),
        // Without a failure of the handler, the edge refused it: overload, or the time was over.
        Err(error) => {
            let failure = failure.unwrap_or_else(|| Failure::from(error));
            failure.shown(Scheme::of(&http.headers)).into_response()
        }
    }
}

async fn attend(
    http: &HttpRequest,
    handle: impl AsyncFnOnce(&HttpRequest, &Form, Principal) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    if http.headers.contains_key(header::CONTENT_TYPE)
        && !is_of_type(&http.headers, "application/x-www-form-urlencoded")
    {
        return Err(Failure::invalid_request(
            "the body must be a form: application/x-www-form-urlencoded",
        ));
    }
    let form = Form::read(&http.body)?;
    let credentials = Credentials::of(http, &form)?;
    let principal = credentials.authenticate(http).await?;
    handle(http, &form, principal).await
}
