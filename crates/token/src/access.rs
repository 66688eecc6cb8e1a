//! Access tokens: PASETO `v4.public`.
//!
//! Verification looks the key id up only in a [`Keyring`], checks the signature before it reads a claim, then time,
//! issuer, realm and audience. Revocation is checked elsewhere ([`Revocations`](tessera_core::Revocations)).

use std::sync::Arc;

use tessera_core::{AccessClaims, Audience, KeyId, RealmName, Seconds, Timestamp, limits::TOKEN_BYTES_MAX};

use crate::{Keyring, SigningKeyPair, VerifyingKey, public::Untrusted, wire};

/// What a verifier expects of a token in addition to its signature.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The audience for which it must have been issued. `None`: any, for the authority itself.
    pub audience: Option<&'a Audience>,
    /// The realm to which it must belong. `None`: any of the keyring.
    pub realm: Option<&'a RealmName>,
    /// How far clocks may differ; [`Expectation::LEEWAY_DEFAULT`] unless there is a reason.
    pub leeway: Seconds,
}

impl Expectation<'_> {
    /// 30 seconds.
    pub const LEEWAY_DEFAULT: Seconds = Seconds(30);
}

/// Why a token is refused. Tell the bearer only that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a token of these keys: too long, another header, an unknown or malformed key id, a wrong signature, claims
    /// that are not exactly ours. They are one error on purpose.
    #[error("the token is not valid")]
    Invalid,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future, or `iat` is by more than `nbf` is backdated.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Issued for another service.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Issued in another realm.
    #[error("the token is of another realm")]
    WrongRealm,
}

/// A token with a valid signature: its claims, and the key that signed it. Whether it is valid *now* is checked again
/// each time, with [`Verified::check`].
#[derive(Clone, Debug)]
pub struct Verified {
    claims: AccessClaims,
    key: Arc<VerifyingKey>,
}

/// The size in bytes of the token that [`sign`] makes of these. `None` if they can't be written.
#[must_use]
pub fn size(claims: &AccessClaims, key: &SigningKeyPair) -> Option<usize> {
    Some(key.signer().size(wire::encode_claims(claims)?.len()))
}

/// Signs `claims`. `None` if they can't be written, which never happens for claims made from a session.
#[must_use]
pub fn sign(claims: &AccessClaims, key: &SigningKeyPair) -> Option<String> {
    key.signer().sign(&wire::encode_claims(claims)?)
}

/// Verifies `token` at `now`.
///
/// # Errors
/// Fails with the first check that the token does not pass.
pub fn verify(
    token: &str,
    keyring: &Keyring,
    expected: &Expectation<'_>,
    now: Timestamp,
) -> Result<AccessClaims, VerifyError> {
    let verified = verify_signature(token, keyring)?;
    verified.check(expected, now)?;
    Ok(verified.claims)
}

/// Verifies only the signature of `token`, and nothing that can change later: the result may be kept, and must be
/// [checked](Verified::check) at each use.
///
/// # Errors
/// Fails with [`VerifyError::Invalid`].
pub fn verify_signature(token: &str, keyring: &Keyring) -> Result<Verified, VerifyError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(VerifyError::Invalid);
    }
    let untrusted = Untrusted::parse(token).ok_or(VerifyError::Invalid)?;
    let id = wire::signing_key_id_of(untrusted.footer()).ok_or(VerifyError::Invalid)?;
    let key = keyring.shared(&id).ok_or(VerifyError::Invalid)?;
    let payload = untrusted.verify(key.public()).ok_or(VerifyError::Invalid)?;
    let claims = wire::decode_claims(payload).ok_or(VerifyError::Invalid)?;
    if claims.issuer != key.issuer() || claims.realm != *key.realm() {
        return Err(VerifyError::Invalid);
    }
    Ok(Verified {
        claims,
        key: Arc::clone(key),
    })
}

/// The result of verifying the token that `signer` signs with these claims, without verifying it. `None` if the keyring
/// has no key of the signer for their realm and issuer.
#[must_use]
pub fn signed(claims: AccessClaims, keyring: &Keyring, signer: &SigningKeyPair) -> Option<Verified> {
    let key = Arc::clone(keyring.shared(signer.id())?);
    let is_of_key = claims.issuer == key.issuer() && claims.realm == *key.realm();
    is_of_key.then_some(Verified { claims, key })
}

/// The content of a token, **unverified**: for people who inspect their own token. `None` if it does not have the form
/// of an access token.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<(KeyId, AccessClaims)> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let untrusted = Untrusted::parse(token)?;
    let id = wire::signing_key_id_of(untrusted.footer())?;
    let payload = std::str::from_utf8(untrusted.message()).ok()?;
    Some((id, wire::decode_claims(payload)?))
}

impl Verified {
    /// Checks what depends on the moment and on the service: key, time, realm, audience.
    ///
    /// # Errors
    /// Fails with the first check that the token does not pass.
    pub fn check(&self, expected: &Expectation<'_>, now: Timestamp) -> Result<(), VerifyError> {
        let claims = &self.claims;
        if !self.key.verifies_at(now) {
            return Err(VerifyError::Invalid);
        }
        if now >= claims.expires_at.plus(expected.leeway) {
            return Err(VerifyError::Expired);
        }
        if now.plus(expected.leeway) < claims.usable_from() {
            return Err(VerifyError::NotYetValid);
        }
        if expected.realm.is_some_and(|realm| *realm != claims.realm) {
            return Err(VerifyError::WrongRealm);
        }
        if expected
            .audience
            .is_some_and(|audience| *audience != claims.audience)
        {
            return Err(VerifyError::WrongAudience);
        }
        Ok(())
    }

    /// The claims of the token.
    #[must_use]
    pub fn claims(&self) -> &AccessClaims {
        &self.claims
    }

    /// The key that signed it.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        self.key.id()
    }
}
