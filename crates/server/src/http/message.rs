//! The requirements of HTTP/1.1 for the head of a request, in addition to hyper's checks.

use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Version,
    header::{EXPECT, HOST, TRANSFER_ENCODING},
    uri::Authority,
};

/// Why a request is not served.
pub(crate) type Refusal = (StatusCode, &'static str);

/// The refusal of a request whose head the server must not act on; `None` if it is valid. HTTP/2 frames its messages by
/// itself, so only HTTP/1 is checked.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<Refusal> {
    let version = request.version();
    if version >= Version::HTTP_2 {
        return None;
    }
    let headers = request.headers();
    if !has_one_host(headers, version) {
        return Some((
            StatusCode::BAD_REQUEST,
            "a request has exactly one `host`, which is valid",
        ));
    }
    if !is_only(headers, TRANSFER_ENCODING, b"chunked") {
        // RFC 9112 §6.1: the body has a coding that this server does not decode.
        return Some((
            StatusCode::NOT_IMPLEMENTED,
            "the only `transfer-encoding` is chunked",
        ));
    }
    if !is_only(headers, EXPECT, b"100-continue") {
        // RFC 9110 §10.1.1.
        return Some((
            StatusCode::EXPECTATION_FAILED,
            "the only `expect` is 100-continue",
        ));
    }
    None
}

/// RFC 9112 §3.2: exactly one host, which is valid or empty; HTTP/1.0 may have none.
fn has_one_host(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let is_good = match hosts.next() {
        Some(host) => host.is_empty() || is_host(host),
        None => version < Version::HTTP_11,
    };
    is_good && hosts.next().is_none()
}

/// A host and an optional port, without a user name.
fn is_host(value: &HeaderValue) -> bool {
    !value.as_bytes().contains(&b'@') && Authority::try_from(value.as_bytes()).is_ok()
}

/// Whether all values of a header are this word, ignoring case.
fn is_only(headers: &HeaderMap, name: http::HeaderName, word: &[u8]) -> bool {
    let mut values = headers.get_all(name).iter();
    values.all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(word))
}
