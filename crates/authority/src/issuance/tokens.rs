//! From a session to the tokens that its client holds.

use std::{fmt, sync::Arc};

use tessera_core::{
    AccessClaims, NBF_BACKDATE, PolicyRevision, Realm, SPANS, ScopeSet, Seconds, Sequence, Session,
    Timestamp, TokenId,
};
use tessera_token::{RefreshToken, access};
use zeroize::Zeroizing;

use crate::{
    error::Unavailable,
    issuance::{error::TokenTooLarge, issuer::Issuance, scopes::Grant},
};

const NO_SIGNER: Unavailable = Unavailable::Defect("a realm has no signing key");
const NOT_SIGNED: Unavailable = Unavailable::Defect("an access token can't be signed");

/// A token as a caller presents it. Its `Debug` output shows nothing of it.
#[derive(Clone)]
pub struct PresentedToken(String);

/// The tokens that a client holds. Its `Debug` output shows no token.
pub struct TokenSet {
    /// The access token.
    pub access_token: String,
    /// Its id.
    pub token_id: TokenId,
    /// The refresh token, if there is one.
    pub refresh_token: Option<Zeroizing<String>>,
    /// Remaining lifetime of the access token.
    pub expires_in: Seconds,
    /// Remaining lifetime of the refresh token unless it is used; 0 if there is none.
    pub refresh_expires_in: Seconds,
    /// The scopes of the access token.
    pub scopes: ScopeSet,
}

impl PresentedToken {
    /// A token of any kind.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(..)")
    }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSet({}, {} scopes)", self.token_id, self.scopes.len())
    }
}

/// The content of an access token, once the store has committed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Committed {
    pub(crate) session: Arc<Session>,
    pub(crate) token_id: TokenId,
    pub(crate) scopes: ScopeSet,
    pub(crate) policy: PolicyRevision,
    pub(crate) rev: Sequence,
    pub(crate) at: Timestamp,
}

impl Issuance {
    /// Refuses to give `session` an access token with `scopes` that verifiers and proxies would not accept. Checked
    /// before anything is committed.
    ///
    /// Growing numbers are counted with their maximum length, so that a session whose first token fits never exceeds
    /// the limit by being refreshed.
    pub(crate) fn check_size<E: From<TokenTooLarge> + From<Unavailable>>(
        &self,
        realm: &Realm,
        session: &Session,
        grant: &Grant,
        scopes_are_named: bool,
    ) -> Result<(), E> {
        // Nearly every token is far below the limit, so it need not be written twice to find out.
        if bytes_at_most(realm, session, grant) <= self.token_bytes_max {
            return Ok(());
        }
        let longest = Committed {
            session: Arc::new(session.clone()),
            token_id: TokenId::from_bytes(*session.id.as_bytes()),
            scopes: grant.granted.clone(),
            policy: grant.revision,
            rev: Sequence(u64::MAX),
            at: session.created_at,
        };
        let claims = AccessClaims {
            generation: u64::MAX,
            ..longest.claims(realm)
        };
        let keys = self.signing_keys.in_use();
        let signer = keys.signer(&realm.name).ok_or(NO_SIGNER)?;
        let bytes = access::size(&claims, signer).ok_or(NOT_SIGNED)?;
        if bytes <= self.token_bytes_max {
            return Ok(());
        }
        let too_large = TokenTooLarge {
            bytes,
            bytes_max: self.token_bytes_max,
            scopes: claims.scopes.len(),
            scopes_are_named,
        };
        Err(too_large.into())
    }

    /// Signs and seals. Called after the commit, never before.
    pub(crate) fn mint(
        &self,
        realm: &Realm,
        committed: Committed,
        refresh: Option<&RefreshToken>,
    ) -> Result<TokenSet, Unavailable> {
        let _span = tracing::info_span!(target: SPANS, "sign tokens").entered();
        let keys = self.signing_keys.in_use();
        let signer = keys.signer(&realm.name).ok_or(NO_SIGNER)?;
        let refresh_token = match refresh {
            Some(token) => Some(
                token
                    .seal(&self.shared.server_keys.load())
                    .ok_or(Unavailable::Defect("a refresh token can't be sealed"))?,
            ),
            None => None,
        };
        let from = committed.at.floor_to_second();
        let refresh_expires_in = if refresh.is_some() {
            committed.session.idle_until.seconds_from(from)
        } else {
            Seconds(0)
        };
        let claims = committed.claims(realm);
        let tokens = TokenSet {
            access_token: access::sign(&claims, signer).ok_or(NOT_SIGNED)?,
            token_id: claims.token_id,
            refresh_token,
            expires_in: claims.expires_at.seconds_from(from),
            refresh_expires_in,
            scopes: claims.scopes.clone(),
        };
        // A caller that checks the token soon is spared the signature check.
        if let Some(verified) = access::signed(claims, keys.keyring(), signer) {
            self.verified.note_minted(&tokens.access_token, verified);
        }
        Ok(tokens)
    }
}

impl Committed {
    /// The claims of the access token.
    fn claims(self, realm: &Realm) -> AccessClaims {
        let Self {
            session,
            token_id,
            scopes,
            policy,
            rev,
            at,
        } = self;
        // The commit no longer holds a reference to it.
        let session = Arc::unwrap_or_clone(session);
        AccessClaims {
            issuer: realm.issuer.clone(),
            token_id,
            issued_at: at.floor_to_second(),
            not_before: at.floor_to_second().minus(NBF_BACKDATE),
            expires_at: session.access_until(at),
            scopes,
            generation: session.generation(),
            subject: session.subject,
            audience: session.audience,
            roles: session.roles,
            realm: session.realm,
            client: session.client,
            session: session.id,
            rev,
            policy,
            labels: session.labels,
        }
    }
}

/// An upper bound of the size of a token of the session with these scopes, computed without writing it.
pub(crate) fn bytes_at_most(realm: &Realm, session: &Session, grant: &Grant) -> usize {
    // Claim names, ids, times and numbers; header, signature and footer.
    const REST_BYTES: usize = 1024;
    let listed = |length: usize| length + r#""","#.len();
    let scopes: usize = grant
        .granted
        .iter()
        .map(|scope| listed(scope.as_str().len()))
        .sum();
    let roles: usize = session.roles.iter().map(|role| listed(role.as_str().len())).sum();
    let labels: usize = session
        .labels
        .iter()
        .map(|label| listed(label.as_str().len()))
        .sum();
    // JSON escapes quotes and backslashes, which these may contain.
    let escaped = 2 * (realm.issuer.len() + session.subject.as_str().len());
    let names = session.client.as_str().len() + session.audience.as_str().len() + realm.name.as_str().len();
    let claims = escaped + names + PolicyRevision::DIGITS + scopes + roles + labels + REST_BYTES;
    // In Base64.
    claims.saturating_mul(4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RefreshRequest, RevokeTarget};

    #[test]
    fn checklist_37_no_debug_form_shows_a_presented_token() {
        let token = PresentedToken::new("tsr_secret".to_owned());
        let request = RefreshRequest {
            request_id: None,
            refresh_token: token.clone(),
            scopes: ScopeSet::default(),
            audience: None,
        };
        let shown = format!("{token:?} {request:?} {:?}", RevokeTarget::Token(token.clone()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
