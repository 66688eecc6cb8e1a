//! Checkpoints of the audit trail: the signed state of the trail.
//!
//! A checkpoint is a PASETO `v4.public` with a separate key for this purpose, which is derived from the server key. Its
//! implicit assertion names its purpose, so no other signed text passes as a checkpoint. With the public key from a
//! trusted export, a reader can check whether each later export continues it.

use std::fmt;

use ed25519_compact::{KeyPair, Seed};
use pasetors::{
    Public,
    keys::{AsymmetricPublicKey, AsymmetricSecretKey},
    paserk::FormatAsPaserk,
    token::UntrustedToken,
    version4::{PublicToken, V4},
};
use serde::{Deserialize, Serialize};
use tessera_core::{KeyId, LogId, RealmName, Timestamp};
use zeroize::Zeroizing;

use crate::{KeyError, key_id::public_key_id, wire};

const ASSERTION: &[u8] = b"tessera audit checkpoint v1";

/// The content of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The log of the authority to which the trail belongs.
    pub log: LogId,
    /// In an export, what it shows; `None`: it is of the whole trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportedPart>,
    /// The last record that it covers.
    pub position: u64,
    /// The link of that record, in hexadecimal digits.
    pub link: String,
    /// When it was signed, RFC 3339.
    pub iat: String,
}

/// The part of a trail that an export shows. Whoever removes a record from it, or puts the digest of a record in its
/// place, shows fewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedPart {
    /// The record after which it begins.
    pub after: u64,
    /// The realm whose records are shown.
    pub realm: RealmName,
    /// How many records are shown. All others have a digest only.
    pub records: u64,
}

/// The key that signs checkpoints.
pub struct CheckpointKey {
    public: CheckpointPublicKey,
    footer: String,
    secret: AsymmetricSecretKey<V4>,
}

/// The key that checks them.
#[derive(Clone, Debug)]
pub struct CheckpointPublicKey {
    id: KeyId,
    key: AsymmetricPublicKey<V4>,
}

impl CheckpointKey {
    pub(crate) fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let error = KeyError {
            expected: "32 random bytes",
        };
        let pair = KeyPair::from_seed(Seed::new(**seed));
        let secret = AsymmetricSecretKey::<V4>::from(pair.sk.as_slice()).map_err(|_| error)?;
        let key = AsymmetricPublicKey::<V4>::try_from(&secret).map_err(|_| error)?;
        let public = CheckpointPublicKey::new(key).ok_or(error)?;
        Ok(Self {
            footer: wire::footer(public.id.as_str()),
            public,
            secret,
        })
    }

    /// Signs a checkpoint. `None` if it can't be written, which never happens.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> Option<String> {
        let message = serde_json::to_vec(checkpoint).ok()?;
        PublicToken::sign(
            &self.secret,
            &message,
            Some(self.footer.as_bytes()),
            Some(ASSERTION),
        )
        .ok()
    }

    /// The key that checks its signatures.
    #[must_use]
    pub fn public(&self) -> &CheckpointPublicKey {
        &self.public
    }
}

impl CheckpointPublicKey {
    fn new(key: AsymmetricPublicKey<V4>) -> Option<Self> {
        let id = public_key_id(&key)?;
        Some(Self { id, key })
    }

    /// Parses a PASERK `k4.public.…`.
    ///
    /// # Errors
    /// Fails if `text` is not such a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let error = KeyError {
            expected: "a PASERK `k4.public.…`, as `tessera audit list --json` and exports have it",
        };
        let key = AsymmetricPublicKey::<V4>::try_from(text.trim()).map_err(|_| error)?;
        Self::new(key).ok_or(error)
    }

    /// The PASERK id, `k4.pid.…`.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The content of a checkpoint; `None` if this key did not sign it.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Checkpoint> {
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
        let trusted = PublicToken::verify(&self.key, &untrusted, None, Some(ASSERTION)).ok()?;
        serde_json::from_str(trusted.payload()).ok()
    }
}

impl Checkpoint {
    /// A checkpoint of a trail that ends with this record.
    #[must_use]
    pub fn new(log: LogId, position: u64, link: String, now: Timestamp) -> Self {
        Self {
            log,
            export: None,
            position,
            link,
            iat: now.to_rfc3339(),
        }
    }

    /// The id of the key that a checkpoint names, unverified; `None` if it has another form.
    #[must_use]
    pub fn key_id_of(token: &str) -> Option<KeyId> {
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).ok()?;
        wire::signing_key_id_of(untrusted.untrusted_footer())
    }
}

/// The PASERK, `k4.public.…`.
impl fmt::Display for CheckpointPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.key.fmt(&mut text).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({})", self.public.id)
    }
}
