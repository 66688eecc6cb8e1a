//! PASETO `v4.local` with a nonce derived from the message.
//!
//! N concurrent refreshes of one token, and a retry of the last one, must get *one* successor, equal to
//! the byte, without the authority remembering it. A library's `encrypt` draws a random nonce, so every
//! answer would look different. Here the nonce is a keyed hash of the message, as in SIV modes: equal
//! messages give equal tokens, and two messages share a nonce only where they are equal, or with the
//! probability of a collision in 256 bits. Decryption is pasetors', which any such token passes.
//!
//! Spec: PASETO Version 4, "Encrypt"; checked against the official vectors.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use orion::hazardous::{
    mac::blake2b::{Blake2b, SecretKey as MacKey},
    stream::xchacha20::{Nonce, SecretKey as StreamKey, XChaCha20},
};

const HEADER: &str = "v4.local.";
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
    let derived = mac(key, 56, &[ENCRYPTION, nonce])?;
    let (stream_key, stream_nonce) = derived.split_at_checked(32)?;
    let authentication_key = mac(key, 32, &[AUTHENTICATION, nonce])?;

    let mut ciphertext = message.to_vec();
    let mut stream = XChaCha20::new(
        &StreamKey::try_from(stream_key).ok()?,
        &Nonce::try_from(stream_nonce).ok()?,
    );
    stream.xor_keystream_into(&mut ciphertext).ok()?;

    let authenticated =
        pre_authentication_encoding(&[HEADER.as_bytes(), nonce, &ciphertext, footer, implicit]);
    let tag = mac(&authentication_key, 32, &[&authenticated])?;

    let body = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &ciphertext, &tag].concat());
    if footer.is_empty() {
        return Some(format!("{HEADER}{body}"));
    }
    Some(format!("{HEADER}{body}.{}", URL_SAFE_NO_PAD.encode(footer)))
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
