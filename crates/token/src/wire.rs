//! Claims and footers as JSON. Unknown and duplicate members are refused.

use serde::{Deserialize, Serialize};
use tessera_core::{
    AccessClaims, Audience, ClientName, KeyId, Label, PolicyRevision, RealmName, RoleName, Scope, Sequence,
    SessionId, Subject, Timestamp, TokenId,
};

const FOOTER_START: &str = "{\"kid\":\"";
const FOOTER_END: &str = "\"}";

/// The footer that names a key: exactly this text, so it can be parsed without a JSON parser (PASETO advises against
/// parsing JSON that is not authenticated yet).
pub(crate) fn footer(key_id: &str) -> String {
    format!("{FOOTER_START}{key_id}{FOOTER_END}")
}

/// The key id in a footer; `None` if the footer has any other form.
pub(crate) fn key_id_of(footer: &[u8]) -> Option<&str> {
    std::str::from_utf8(footer)
        .ok()?
        .strip_prefix(FOOTER_START)?
        .strip_suffix(FOOTER_END)
}

/// The claims of an access token as they are written in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClaims {
    iss: String,
    sub: Subject,
    aud: Audience,
    jti: String,
    iat: String,
    nbf: String,
    exp: String,
    scope: String,
    roles: Vec<RoleName>,
    realm: RealmName,
    client_id: ClientName,
    sid: SessionId,
    r#gen: u64,
    rev: u64,
    pol: PolicyRevision,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
}

/// The claims as JSON.
pub(crate) fn encode_claims(claims: &AccessClaims) -> Option<Vec<u8>> {
    let wire = WireClaims {
        iss: claims.issuer.clone(),
        sub: claims.subject.clone(),
        aud: claims.audience.clone(),
        jti: claims.token_id.to_string(),
        iat: claims.issued_at.to_rfc3339(),
        nbf: claims.not_before.to_rfc3339(),
        exp: claims.expires_at.to_rfc3339(),
        scope: claims.scopes.to_string(),
        roles: claims.roles.clone(),
        realm: claims.realm.clone(),
        client_id: claims.client.clone(),
        sid: claims.session,
        r#gen: claims.generation,
        rev: claims.rev.0,
        pol: claims.policy,
        labels: claims.labels.clone(),
    };
    serde_json::to_vec(&wire).ok()
}

/// The claims in an authenticated payload; `None` if anything in it is not exactly right.
pub(crate) fn decode_claims(payload: &str) -> Option<AccessClaims> {
    let wire: WireClaims = serde_json::from_str(payload).ok()?;
    let scopes = wire
        .scope
        .split(' ')
        .filter(|text| !text.is_empty())
        .map(Scope::parse);
    Some(AccessClaims {
        issuer: wire.iss,
        subject: wire.sub,
        audience: wire.aud,
        token_id: TokenId::parse(&wire.jti).ok()?,
        issued_at: Timestamp::parse_rfc3339(&wire.iat)?,
        not_before: Timestamp::parse_rfc3339(&wire.nbf)?,
        expires_at: Timestamp::parse_rfc3339(&wire.exp)?,
        scopes: scopes.collect::<Result<_, _>>().ok()?,
        roles: wire.roles,
        realm: wire.realm,
        client: wire.client_id,
        session: wire.sid,
        generation: wire.r#gen,
        rev: Sequence(wire.rev),
        policy: wire.pol,
        labels: wire.labels,
    })
}

/// Parses the key id of an access token's footer.
pub(crate) fn signing_key_id_of(footer: &[u8]) -> Option<KeyId> {
    KeyId::parse(key_id_of(footer)?).ok()
}
