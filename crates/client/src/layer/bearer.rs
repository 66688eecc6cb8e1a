//! The credential of a request (RFC 6750 §2.1).

use http::{HeaderMap, header::AUTHORIZATION};

use super::refusal::Refusal;

/// The one bearer token of a request.
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::NoToken)?;
    if values.next().is_some() {
        // Which of them another reader of this request would take, nobody knows.
        return Err(Refusal::NoGoodToken(
            "more than one authorization header".to_owned(),
        ));
    }
    let unreadable = |_| Refusal::NoGoodToken("the authorization header is no text".to_owned());
    let text = value.to_str().map_err(unreadable)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    // A scheme's case does not matter (RFC 9110 §11.1).
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim_matches(' '))
    } else {
        Err(Refusal::NoToken)
    }
}

/// Marks the credential, so that nothing further in shows it in a log.
pub(super) fn conceal(headers: &mut HeaderMap) {
    if let http::header::Entry::Occupied(mut credentials) = headers.entry(AUTHORIZATION) {
        for credential in credentials.iter_mut() {
            credential.set_sensitive(true);
        }
    }
}
