//! PASETO `v4.local` with a nonce derived from the message.
//!
//! N concurrent refreshes of one token, and a retry of the last one, must get *one* successor, equal to the byte,
//! without the authority remembering it. A library's `encrypt` draws a random nonce, so every answer would look
//! different. Here the nonce is a keyed hash of the message, as in SIV modes: equal messages give equal tokens. Two
//! messages share a nonce only if they are equal, or with the probability of a collision in 256 bits.
//!
//! A token is read once, for its footer and for its content. pasetors reads it twice, and its Base64 takes constant
//! time, which a text that the caller sent does not need. Tests compare every verdict with that of pasetors.
//!
//! Spec: PASETO Version 4, "Encrypt" and "Decrypt"; checked against the official vectors.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use orion::hazardous::{
    mac::blake2b::{Blake2b, SecretKey as MacKey},
    stream::xchacha20::{Nonce, SecretKey as StreamKey, XChaCha20},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const HEADER: &str = "v4.local.";
/// The lengths of a key, a nonce and a tag in bytes.
const KEY_BYTES: usize = 32;
const ENCRYPTION: &[u8] = b"paseto-encryption-key";
const AUTHENTICATION: &[u8] = b"paseto-auth-key-for-aead";

/// Encrypts `message` under `key` with `nonce`, which must never be used for another message.
pub(crate) fn encrypt(
    key: &[u8; 32],
    nonce: &[u8; 32],
    message: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Option<String> {
    let mut ciphertext = message.to_vec();
    xor_keystream(key, nonce, &mut ciphertext)?;
    let tag = tag_of(key, nonce, &ciphertext, footer, implicit)?;

    let body = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &ciphertext, &tag].concat());
    if footer.is_empty() {
        return Some(format!("{HEADER}{body}"));
    }
    Some(format!("{HEADER}{body}.{}", URL_SAFE_NO_PAD.encode(footer)))
}

/// A token with a valid form, **unauthenticated**.
pub(crate) struct Untrusted {
    nonce: [u8; KEY_BYTES],
    ciphertext: Vec<u8>,
    tag: [u8; KEY_BYTES],
    footer: Vec<u8>,
}

impl Untrusted {
    /// `None` if `token` does not have the form of a `v4.local` token with a footer.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (body, footer) = token.strip_prefix(HEADER)?.split_once('.')?;
        let footer = URL_SAFE_NO_PAD.decode(footer).ok()?;
        let body = URL_SAFE_NO_PAD.decode(body).ok()?;
        let (nonce, rest) = body.split_first_chunk::<KEY_BYTES>()?;
        let (ciphertext, tag) = rest.split_last_chunk::<KEY_BYTES>()?;
        let is_empty = footer.is_empty() || ciphertext.is_empty();
        (!is_empty).then(|| Self {
            nonce: *nonce,
            ciphertext: ciphertext.to_vec(),
            tag: *tag,
            footer,
        })
    }

    /// Its footer, which is not authenticated.
    pub(crate) fn footer(&self) -> &[u8] {
        &self.footer
    }

    /// Its content, if the holder of `key` made it with the implicit assertion `implicit`.
    pub(crate) fn decrypt(&self, key: &[u8; KEY_BYTES], implicit: &[u8]) -> Option<Zeroizing<String>> {
        let tag = tag_of(key, &self.nonce, &self.ciphertext, &self.footer, implicit)?;
        if !bool::from(tag.as_slice().ct_eq(&self.tag)) {
            return None;
        }
        let mut message = Zeroizing::new(self.ciphertext.clone());
        xor_keystream(key, &self.nonce, &mut message)?;
        std::str::from_utf8(&message)
            .ok()
            .map(|text| Zeroizing::new(text.to_owned()))
    }
}

/// Encrypts, or decrypts.
fn xor_keystream(key: &[u8; KEY_BYTES], nonce: &[u8; KEY_BYTES], text: &mut [u8]) -> Option<()> {
    let derived = Zeroizing::new(mac(key, 56, &[ENCRYPTION, nonce])?);
    let (stream_key, stream_nonce) = derived.split_at_checked(KEY_BYTES)?;
    let mut stream = XChaCha20::new(
        &StreamKey::try_from(stream_key).ok()?,
        &Nonce::try_from(stream_nonce).ok()?,
    );
    stream.xor_keystream_into(text).ok()
}

fn tag_of(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; KEY_BYTES],
    ciphertext: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Option<Vec<u8>> {
    let authentication_key = Zeroizing::new(mac(key, KEY_BYTES, &[AUTHENTICATION, nonce])?);
    let authenticated =
        pre_authentication_encoding(&[HEADER.as_bytes(), nonce, ciphertext, footer, implicit]);
    mac(&authentication_key, KEY_BYTES, &[&authenticated])
}

/// A keyed BLAKE2b of `length` bytes over the parts, one after the other.
pub(crate) fn mac(key: &[u8], length: usize, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut state = Blake2b::new(&MacKey::try_from(key).ok()?, length).ok()?;
    for part in parts {
        state.update(part).ok()?;
    }
    Some(state.finalize().ok()?.unprotected_as_ref().to_vec())
}

/// PASETO's PAE: the number of pieces, then each with its length.
fn pre_authentication_encoding(pieces: &[&[u8]]) -> Vec<u8> {
    let little_endian = |length: usize| (length as u64 & (u64::MAX >> 1)).to_le_bytes();
    let mut encoded = little_endian(pieces.len()).to_vec();
    for piece in pieces {
        encoded.extend_from_slice(&little_endian(piece.len()));
        encoded.extend_from_slice(piece);
    }
    encoded
}

#[cfg(test)]
mod tests;
