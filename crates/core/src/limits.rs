//! The size limits of the parts of a token, and of the token itself; and how far clocks may differ.
//!
//! All limits are in one module, so that everything that may be made can be read: a test builds the largest token that
//! these limits allow and reads it.

use crate::time::Seconds;

/// The longest token that is read, in bytes. The largest allowed request, with every list and every name at its limit,
/// makes a token that fits.
pub const TOKEN_BYTES_MAX: usize = 24 * 1024;
/// The longest access token that is issued unless it is configured otherwise, in bytes. As a header it leaves 2 KiB of
/// the 8 KiB that common servers and proxies accept for all headers together, or for one line.
pub const TOKEN_BYTES_DEFAULT: usize = 6 * 1024;
/// The smallest limit that can be configured for access tokens, in bytes: a token without scopes, roles and labels
/// fits.
pub const TOKEN_BYTES_MIN: usize = 2 * 1024;

/// How far a verifier's clock may be assumed to differ from the authority's: no verifier gives more leeway, and
/// revocations are kept longer by this time than the tokens that they concern.
pub const LEEWAY_MAX: Seconds = Seconds(60);

/// Scopes that one request may name.
pub const SCOPES_MAX: usize = 100;
/// The longest scope, in bytes.
pub const SCOPE_BYTES_MAX: usize = 128;
/// Roles that one request may assert.
pub const ROLES_MAX: usize = 32;
/// Labels of one session.
pub const LABELS_MAX: usize = 8;
/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The longest name of a realm, an audience, a subscriber, or after the prefix of a client or role, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest issuer, in bytes.
pub const ISSUER_BYTES_MAX: usize = 256;

/// About how many bytes an access token has besides its scopes, before encoding, if its names are short and it has no
/// roles and labels.
const CLAIMS_BYTES: usize = 400;

/// About how many bytes the shortest access token has whose scopes take this many bytes, including the spaces between
/// them. The exact length is known when one is issued.
#[must_use]
pub const fn token_bytes_least(scope_bytes: usize) -> usize {
    /// `v4.public.`, the signature and the key's name.
    const ENVELOPE_BYTES: usize = 165;
    ENVELOPE_BYTES + ((CLAIMS_BYTES + scope_bytes) * 4).div_ceil(3)
}
