//! `TokenService` from the wire and back.

use tessera_authority::{
    Introspection, IssueRequest, Issued, PresentedToken, RefreshRequest, Refreshed, RevokeRequest,
    RevokeTarget, TokenKind, TokenSet,
};
use tessera_core::{
    ApiKeyId, Audience, ClientName, KeyId, Label, Refreshable, RequestId, RoleName, Scope, SessionId,
    Subject,
    limits::{LABELS_MAX, ROLES_MAX, SCOPES_MAX},
};
use tessera_proto::v1;

use super::{scope::denied_scopes, time::seconds};
use crate::{error::ApiError, fields::Fields};

// === requests ===

pub(crate) fn issue_request(wire: &v1::IssueRequest) -> Result<IssueRequest, ApiError> {
    let mut fields = Fields::default();
    let request = IssueRequest {
        request_id: fields.optional("request_id", &wire.request_id, RequestId::parse),
        subject: fields.optional("subject", &wire.subject, Subject::parse),
        roles: fields.list("roles", &wire.roles, ROLES_MAX, RoleName::parse),
        scopes: fields
            .list("scopes", &wire.scopes, SCOPES_MAX, Scope::parse)
            .into_iter()
            .collect(),
        audience: fields.optional("audience", &wire.audience, Audience::parse),
        access_ttl: seconds(&mut fields, "access_ttl", wire.access_ttl.as_ref()),
        session_ttl: seconds(&mut fields, "session_ttl", wire.session_ttl.as_ref()),
        labels: fields.list("labels", &wire.labels, LABELS_MAX, Label::parse),
        require_all: wire.require_all,
        without_refresh: wire.without_refresh,
        refreshable: Refreshable::ByClient,
    };
    fields.finish(Some(request))
}

pub(crate) fn refresh_request(wire: v1::RefreshRequest) -> Result<RefreshRequest, ApiError> {
    let mut fields = Fields::default();
    let request_id = fields.optional("request_id", &wire.request_id, RequestId::parse);
    let scopes = fields
        .list("scopes", &wire.scopes, SCOPES_MAX, Scope::parse)
        .into_iter()
        .collect();
    // A token that is too long is not ours, like any other that can't be opened.
    let token = fields.given("refresh_token", wire.refresh_token);
    fields.finish(token.map(|refresh_token| RefreshRequest {
        request_id,
        refresh_token: PresentedToken::new(refresh_token),
        scopes,
        audience: None,
    }))
}

/// Tokens to introspect. A malformed one does not affect the answers for the others.
pub(crate) fn tokens(texts: Vec<String>, max: usize) -> Result<Vec<String>, ApiError> {
    let mut fields = Fields::default();
    if texts.is_empty() || texts.len() > max {
        fields.reject(
            "tokens",
            format!("has {} entries; 1 to {max} are allowed", texts.len()),
        );
        return fields.finish(None);
    }
    fields.finish(Some(texts))
}

pub(crate) fn revoke_request(wire: v1::RevokeRequest) -> Result<RevokeRequest, ApiError> {
    let mut fields = Fields::default();
    let request_id = fields.optional("request_id", &wire.request_id, RequestId::parse);
    let reason = fields.remark("reason", &wire.reason);
    let target = revoke_target(&mut fields, wire.target);
    let (validate_only, disables_client) = (wire.validate_only, wire.disable_client);
    if disables_client && !matches!(target, None | Some(RevokeTarget::Client(_))) {
        fields.reject("disable_client", "goes with `client` only");
    }
    fields.finish(target.map(|target| RevokeRequest {
        request_id,
        reason,
        validate_only,
        target,
        disables_client,
        with_made_keys: false,
    }))
}

fn revoke_target(fields: &mut Fields, target: Option<v1::revoke_request::Target>) -> Option<RevokeTarget> {
    use v1::revoke_request::Target;
    match target {
        Some(Target::Token(text)) => fields
            .token("token", text)
            .map(PresentedToken::new)
            .map(RevokeTarget::Token),
        Some(Target::SessionId(text)) => fields
            .required("session_id", &text, SessionId::parse)
            .map(RevokeTarget::Session),
        Some(Target::Subject(text)) => fields
            .required("subject", &text, Subject::parse)
            .map(RevokeTarget::Subject),
        Some(Target::Client(text)) => fields
            .required("client", &text, ClientName::parse)
            .map(RevokeTarget::Client),
        Some(Target::ApiKeyId(text)) => fields
            .required("api_key_id", &text, ApiKeyId::parse)
            .map(RevokeTarget::ApiKey),
        Some(Target::Label(text)) => fields
            .required("label", &text, Label::parse)
            .map(RevokeTarget::Label),
        Some(Target::KeyId(text)) => fields
            .required("key_id", &text, KeyId::parse)
            .map(RevokeTarget::SigningKey),
        Some(Target::WholeRealm(true)) => Some(RevokeTarget::Realm),
        Some(Target::WholeRealm(false)) => {
            fields.reject("whole_realm", "must be true");
            None
        }
        None => {
            fields.reject("target", "must be set");
            None
        }
    }
}

// === responses ===

pub(crate) fn issue_response(issued: Issued) -> v1::IssueResponse {
    v1::IssueResponse {
        tokens: Some(token_set(issued.tokens)),
        session_id: issued.session.to_string(),
        denied: denied_scopes(issued.denied),
        policy_revision: issued.policy.to_string(),
        decision_id: issued.decision.to_string(),
    }
}

pub(crate) fn refresh_response(refreshed: Refreshed) -> v1::RefreshResponse {
    v1::RefreshResponse {
        tokens: Some(token_set(refreshed.tokens)),
        session_id: refreshed.session.to_string(),
        generation: refreshed.generation,
        replayed: refreshed.replayed,
        denied: denied_scopes(refreshed.denied),
        policy_revision: refreshed.policy.to_string(),
        decision_id: refreshed.decision.to_string(),
    }
}

fn token_set(tokens: TokenSet) -> v1::TokenSet {
    v1::TokenSet {
        access_token: tokens.access_token,
        refresh_token: tokens
            .refresh_token
            .map_or_else(String::new, |token| token.as_str().to_owned()),
        token_type: "Bearer".to_owned(),
        expires_in: tokens.expires_in.0,
        refresh_expires_in: tokens.refresh_expires_in.0,
        scopes: tokens.scopes.iter().map(ToString::to_string).collect(),
    }
}

/// An inactive answer carries nothing else (RFC 7662 §2.2).
pub(crate) fn introspect_response(introspection: Option<Introspection>) -> v1::IntrospectResponse {
    let Some(active) = introspection else {
        return v1::IntrospectResponse::default();
    };
    v1::IntrospectResponse {
        active: true,
        // No service accepts a refresh token as a bearer token.
        token_type: match active.kind {
            TokenKind::Access => "Bearer".to_owned(),
            TokenKind::Refresh => String::new(),
        },
        token_kind: match active.kind {
            TokenKind::Access => "access_token".to_owned(),
            TokenKind::Refresh => "refresh_token".to_owned(),
        },
        scope: active.scopes.to_string(),
        client_id: active.client.to_string(),
        sub: active.subject.to_string(),
        aud: active.audience.to_string(),
        iss: active.issuer,
        jti: active.token_id.map_or_else(String::new, |id| id.to_string()),
        iat: active.issued_at.as_seconds(),
        nbf: active.not_before.as_seconds(),
        exp: active.expires_at.as_seconds(),
        realm: active.realm.to_string(),
        session_id: active.session.to_string(),
        generation: active.generation,
        roles: active.roles.iter().map(ToString::to_string).collect(),
        labels: active.labels.iter().map(ToString::to_string).collect(),
        policy_revision: active.policy.to_string(),
        as_of: active.as_of.to_string(),
    }
}
