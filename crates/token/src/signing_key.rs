//! The keys that sign access tokens.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pasetors::{
    keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate},
    paserk::FormatAsPaserk,
    version4::V4,
};
use tessera_core::{KeyId, KeyStatus, RealmName, Seconds, SigningKey, Timestamp};

use crate::{KeyError, NoEntropy, ServerKeys, key_id::public_key_id, public::Signer, wire};

/// An Ed25519 key that signs the access tokens of one realm.
pub struct SigningKeyPair {
    id: KeyId,
    signer: Signer,
    secret: AsymmetricSecretKey<V4>,
    public: AsymmetricPublicKey<V4>,
}

impl SigningKeyPair {
    /// A new random key.
    ///
    /// # Errors
    /// Fails if the operating system provides no random numbers.
    pub fn generate() -> Result<Self, NoEntropy> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| NoEntropy)?;
        Self::new(pair.secret, pair.public).map_err(|_| NoEntropy)
    }

    /// Opens the key that `record` stores sealed.
    ///
    /// # Errors
    /// Fails if none of `keys` sealed it, or if the secret does not match the public half.
    pub fn unseal(record: &SigningKey, keys: &ServerKeys) -> Result<Self, KeyError> {
        let error = KeyError {
            expected: "a signing key that this authority's server key sealed",
        };
        let opened = keys
            .unseal(&record.sealed_secret, &purpose(&record.realm))
            .ok_or(error)?;
        let bytes = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(opened.as_bytes()).map_err(|_| error)?);
        let secret = AsymmetricSecretKey::<V4>::from(&bytes).map_err(|_| error)?;
        let public = AsymmetricPublicKey::<V4>::try_from(&secret).map_err(|_| error)?;
        let pair = Self::new(secret, public)?;
        if pair.id != record.id {
            return Err(error);
        }
        Ok(pair)
    }

    /// The record of this key as the store keeps it, active from `now`, for tokens that live for at most
    /// `token_ttl_max`.
    ///
    /// # Errors
    /// Fails if the secret can't be sealed, which never happens for a key of this module.
    pub fn to_record(
        &self,
        realm: &RealmName,
        token_ttl_max: Seconds,
        keys: &ServerKeys,
        now: Timestamp,
    ) -> Result<SigningKey, KeyError> {
        let error = KeyError {
            expected: "a key that can be sealed",
        };
        let secret = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_bytes()));
        Ok(SigningKey {
            id: self.id,
            realm: realm.clone(),
            public: self.to_public_paserk().ok_or(error)?,
            sealed_secret: keys
                .current()
                .seal(secret.as_bytes(), &purpose(realm))
                .ok_or(error)?,
            sealed_with: keys.current().id().to_owned(),
            sealed_at: now,
            status: KeyStatus::Active,
            published_at: now.floor_to_second(),
            not_before: now.floor_to_second(),
            not_after: None,
            token_ttl_max,
        })
    }

    /// The record of a key that an earlier server key sealed, sealed by the current one; `None` if the current one
    /// sealed it.
    ///
    /// # Errors
    /// Fails if none of `keys` sealed it.
    pub fn reseal(
        record: &SigningKey,
        keys: &ServerKeys,
        now: Timestamp,
    ) -> Result<Option<SigningKey>, KeyError> {
        if record.sealed_with == keys.current().id() {
            return Ok(None);
        }
        let sealed = Self::unseal(record, keys)?.to_record(&record.realm, record.token_ttl_max, keys, now)?;
        Ok(Some(SigningKey {
            sealed_secret: sealed.sealed_secret,
            sealed_with: sealed.sealed_with,
            sealed_at: now,
            ..record.clone()
        }))
    }

    /// The PASERK id of the public half, `k4.pid.…`.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The signer of its tokens, whose footer names it.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    fn new(secret: AsymmetricSecretKey<V4>, public: AsymmetricPublicKey<V4>) -> Result<Self, KeyError> {
        let error = KeyError {
            expected: "an Ed25519 key",
        };
        let id = public_key_id(&public).ok_or(error)?;
        Ok(Self {
            signer: Signer::new(&secret, wire::footer(id.as_str())).ok_or(error)?,
            id,
            secret,
            public,
        })
    }

    fn to_public_paserk(&self) -> Option<String> {
        let mut text = String::new();
        self.public.fmt(&mut text).ok()?;
        Some(text)
    }
}

/// The text to which a sealed signing key is bound: one of another realm does not open.
fn purpose(realm: &RealmName) -> String {
    format!("tessera signing key v1 {realm}")
}

impl fmt::Debug for SigningKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeyPair({})", self.id)
    }
}
