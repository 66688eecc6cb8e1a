//! The credential of a request (RFC 6750 §2.1).

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tessera_core::AuthorizationHeader;

use super::refusal::Refusal;

/// The one bearer token of a request. An empty one is no good token, not the lack of one: the client sent the scheme.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match AuthorizationHeader::of(values) {
        AuthorizationHeader::Absent => Err(Refusal::NoToken),
        AuthorizationHeader::Several => {
            // Another reader of this request may take another one of them.
            Err(not_good("more than one authorization header"))
        }
        AuthorizationHeader::NotText => Err(not_good("the authorization header is no text")),
        given @ AuthorizationHeader::Given { .. } => given.credential("bearer").ok_or(Refusal::NoToken),
    }
}

fn not_good(why: &str) -> Refusal {
    Refusal::NoGoodToken(why.to_owned())
}

/// Marks the credential, so that nothing further in shows it in a log.
pub(super) fn conceal(headers: &mut HeaderMap) {
    if let http::header::Entry::Occupied(mut credentials) = headers.entry(AUTHORIZATION) {
        for credential in credentials.iter_mut() {
            credential.set_sensitive(true);
        }
    }
}
