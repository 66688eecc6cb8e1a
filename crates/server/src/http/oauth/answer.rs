//! The answers of the OAuth 2.0 endpoints.

use axum::{http::header, response::Response};
use serde::Serialize;
use serde_json::{Value, json};
use tessera_authority::{Introspection, TokenKind, TokenSet};
use utoipa::ToSchema;

/// The answer of `POST /oauth2/token` (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    scope: String,
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

/// The introspection of an active token; for any other, only `active`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer that is made member by member")]
pub(in crate::http) struct IntrospectionAnswer {
    active: bool,
    /// `Bearer`, of an access token.
    token_type: Option<String>,
    /// `access_token` or `refresh_token`.
    token_kind: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
    sub: Option<String>,
    exp: Option<i64>,
}

/// RFC 7662 §2.2; an inactive token has no other member.
pub(super) fn introspection_json(introspection: Option<&Introspection>) -> Value {
    let Some(active) = introspection else {
        return json!({ "active": false });
    };
    let mut json = json!({
        "active": true,
        "token_kind": match active.kind {
            TokenKind::Access => "access_token",
            TokenKind::Refresh => "refresh_token",
        },
        "scope": active.scopes.to_string(),
        "client_id": active.client.as_str(),
        "sub": active.subject.as_str(),
        "aud": active.audience.as_str(),
        "iss": active.issuer,
        "iat": active.issued_at.as_seconds(),
        "nbf": active.not_before.as_seconds(),
        "exp": active.expires_at.as_seconds(),
        "realm": active.realm.as_str(),
        "session_id": active.session.to_string(),
        "generation": active.generation,
        "roles": texts(&active.roles),
        "labels": texts(&active.labels),
        "policy_revision": active.policy.to_string(),
        "as_of": active.as_of.to_string(),
    });
    // A refresh token does not have these: no service accepts it as a bearer token.
    let id = active.token_id.map(|id| ("jti", json!(id.to_string())));
    let kind = (active.kind == TokenKind::Access).then(|| ("token_type", json!("Bearer")));
    if let Some(members) = json.as_object_mut() {
        let given = id.into_iter().chain(kind);
        members.extend(given.map(|(name, value)| (name.to_owned(), value)));
    }
    json
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// An answer that no cache keeps (RFC 6749 §5.1).
pub(super) fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
    response
}
