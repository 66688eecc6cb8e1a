//! The content of an access token.

use crate::{
    id::{PolicyRevision, SessionId, TokenId},
    name::{Audience, ClientName, Label, RealmName, RoleName, Subject},
    scope::ScopeSet,
    sequence::Sequence,
    time::{Seconds, Timestamp},
};

/// How long before `iat` a token may be used: for services whose clock is behind, and that give no leeway.
pub const NBF_BACKDATE: Seconds = Seconds(10);

/// The claims of an access token, each already parsed into its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// `iss`: the issuer of the realm.
    pub issuer: String,
    /// `sub`: the subject of the token.
    pub subject: Subject,
    /// `aud`: the one service that may accept it.
    pub audience: Audience,
    /// `jti`: the token's id.
    pub token_id: TokenId,
    /// `iat`, in whole seconds.
    pub issued_at: Timestamp,
    /// `nbf`, in whole seconds: [`NBF_BACKDATE`] before `iat`.
    pub not_before: Timestamp,
    /// `exp`, in whole seconds.
    pub expires_at: Timestamp,
    /// `scope`.
    pub scopes: ScopeSet,
    /// `roles`: those that were asserted for the subject.
    pub roles: Vec<RoleName>,
    /// `realm`.
    pub realm: RealmName,
    /// `client_id`: the client that it was issued to.
    pub client: ClientName,
    /// `sid`: the session.
    pub session: SessionId,
    /// `gen`: the generation of the session, 0 if it has no refresh token.
    pub generation: u64,
    /// `rev`: the last sequence of the revocation log when it was issued.
    pub rev: Sequence,
    /// `pol`: the revision of the policy that granted the scopes.
    pub policy: PolicyRevision,
    /// `labels`: the labels of the session.
    pub labels: Vec<Label>,
}

impl AccessClaims {
    /// From when on the token may be used.
    #[must_use]
    pub fn usable_from(&self) -> Timestamp {
        // The result is the same for a token whose `nbf` is not backdated.
        self.not_before.max(self.issued_at.minus(NBF_BACKDATE))
    }
}
