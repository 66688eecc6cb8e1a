//! The id of a public key.

use pasetors::{
    keys::AsymmetricPublicKey,
    paserk::{FormatAsPaserk, Id},
    version4::V4,
};
use tessera_core::KeyId;

/// The PASERK id of a public key, `k4.pid.…`.
pub(crate) fn public_key_id(public: &AsymmetricPublicKey<V4>) -> Option<KeyId> {
    let mut text = String::new();
    Id::from(public).fmt(&mut text).ok()?;
    KeyId::parse(&text).ok()
}
