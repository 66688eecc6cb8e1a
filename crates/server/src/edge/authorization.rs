//! The `authorization` header of a request.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tessera_core::AuthorizationHeader;

/// Reads it.
pub(crate) fn authorization_in(headers: &HeaderMap) -> AuthorizationHeader<'_> {
    AuthorizationHeader::of(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))
}
