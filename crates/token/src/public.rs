//! PASETO `v4.public` by the Ed25519 of aws-lc, which signs and verifies in half the time of that of pasetors. Ed25519
//! is deterministic (RFC 8032), so both make the same tokens: tests compare them.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pasetors::{
    keys::{AsymmetricPublicKey, AsymmetricSecretKey},
    version4::{PublicToken, V4},
};

/// The length of an Ed25519 signature in bytes.
pub(crate) const SIGNATURE_BYTES: usize = 64;
const SEED_BYTES: usize = 32;

/// Signs tokens with one footer.
pub(crate) struct Signer {
    key: Ed25519KeyPair,
    footer: String,
    /// With the dot before it, as at the end of a token.
    encoded_footer: String,
}

/// A token with a valid form, **unverified**.
pub(crate) struct Untrusted {
    message: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
    footer: Vec<u8>,
}

impl Signer {
    /// `None` if the halves of the key do not belong together.
    pub(crate) fn new(secret: &AsymmetricSecretKey<V4>, footer: String) -> Option<Self> {
        let (seed, public) = secret.as_bytes().split_at_checked(SEED_BYTES)?;
        Some(Self {
            key: Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?,
            encoded_footer: format!(".{}", URL_SAFE_NO_PAD.encode(&footer)),
            footer,
        })
    }

    /// Signs `message`, without an implicit assertion.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<String> {
        let signed = pre_authentication(message, self.footer.as_bytes());
        let signature = self.key.try_sign(&signed).ok()?;
        let mut token = String::with_capacity(self.size(message.len()));
        token.push_str(PublicToken::HEADER);
        URL_SAFE_NO_PAD.encode_string([message, signature.as_ref()].concat(), &mut token);
        token.push_str(&self.encoded_footer);
        Some(token)
    }

    /// The size of the token of a message.
    pub(crate) fn size(&self, message_bytes: usize) -> usize {
        // Base64 without padding.
        let body = ((message_bytes + SIGNATURE_BYTES) * 4).div_ceil(3);
        PublicToken::HEADER.len() + body + self.encoded_footer.len()
    }
}

impl Untrusted {
    /// `None` if `token` does not have the form of a `v4.public` token with a footer.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (body, footer) = token.strip_prefix(PublicToken::HEADER)?.split_once('.')?;
        let mut message = URL_SAFE_NO_PAD.decode(body).ok()?;
        let signature = *message.last_chunk::<SIGNATURE_BYTES>()?;
        message.truncate(message.len() - SIGNATURE_BYTES);
        Some(Self {
            message,
            signature,
            footer: URL_SAFE_NO_PAD.decode(footer).ok()?,
        })
    }

    /// Its footer, which is not verified.
    pub(crate) fn footer(&self) -> &[u8] {
        &self.footer
    }

    /// Its content, which is not verified.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Its content, if the holder of `key` signed it without an implicit assertion.
    pub(crate) fn verify(&self, key: &AsymmetricPublicKey<V4>) -> Option<&str> {
        let signed = pre_authentication(&self.message, &self.footer);
        let key = UnparsedPublicKey::new(&ED25519, key.as_bytes());
        key.verify(&signed, &self.signature).ok()?;
        std::str::from_utf8(&self.message).ok()
    }
}

/// The signed bytes (PASETO version 4, *Sign*): header, message, footer and an empty implicit assertion, each with its
/// length before it.
fn pre_authentication(message: &[u8], footer: &[u8]) -> Vec<u8> {
    let pieces = [PublicToken::HEADER.as_bytes(), message, footer, b""];
    let length: usize = pieces.iter().map(|piece| size_of::<u64>() + piece.len()).sum();
    let mut bytes = Vec::with_capacity(size_of::<u64>() + length);
    bytes.extend_from_slice(&(pieces.len() as u64).to_le_bytes());
    for piece in pieces {
        bytes.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes
}

#[cfg(test)]
mod tests;
