//! Failures as gRPC statuses: the only module that makes one.
//!
//! The server's own statuses are short. Other services (health, reflection, the decoding of messages) repeat what
//! callers sent, so every status is checked again when it is sent.

use std::collections::HashMap;

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::error::{ApiError, DOMAIN};

/// The message, percent-encoded.
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The details, in Base64.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The longest message of other services, percent-encoded.
const MESSAGE_BYTES_MAX: usize = 1024;

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Self {
        let values = error.metadata().iter();
        let values: HashMap<_, _> = values
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let mut details = ErrorDetails::with_error_info(error.reason_name(), DOMAIN, values);
        if !error.violations().is_empty() {
            let violations = error.violations().iter();
            let violations =
                violations.map(|violation| FieldViolation::new(&violation.field, &violation.problem));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if let Some(time) = error.retry_after() {
            details.set_retry_info(Some(time));
        }
        Self::with_error_details(error.code(), error.message(), details)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Self::from(&error)
    }
}

/// An answer that is only a failure.
pub(crate) fn response(error: &ApiError) -> Response<Body> {
    Status::from(error).into_http()
}

/// The answer to a call of a method that no service has.
pub(crate) fn no_such_method() -> Response<Body> {
    Status::unimplemented("no such method").into_http()
}

/// The end of an answer that failed after it began.
pub(crate) fn trailers(error: &ApiError) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A status that can't be written leaves the stream without one, which is an error, too.
    let _ = Status::from(error).add_header(&mut trailers);
    trailers
}

/// The failure in the head of an answer.
pub(crate) struct Sent {
    pub(crate) code: Code,
    /// Empty if the server did not make it.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Sent {
    /// `None`: the call did not fail, or has not failed yet.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
        let info = status.get_details_error_info();
        Some(Self {
            code: status.code(),
            reason: info.map_or_else(String::new, |info| info.reason),
            message: status.message().to_owned(),
        })
    }
}

/// Cuts a message that peers might refuse. Details need no cut: only the server's own statuses have them.
pub(crate) fn bound(headers: &mut HeaderMap) {
    if headers.contains_key(DETAILS) {
        return;
    }
    let Some(message) = headers.get_mut(MESSAGE) else {
        return;
    };
    let Some(cut) = message.as_bytes().get(..MESSAGE_BYTES_MAX) else {
        return;
    };
    // Not within `%C3`. Half of a character is left to the decoder, as gRPC specifies.
    let whole = match cut {
        [whole @ .., b'%'] | [whole @ .., b'%', _] => whole,
        whole => whole,
    };
    *message = HeaderValue::from_bytes(whole).unwrap_or_else(|_| HeaderValue::from_static(""));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tessera_core::limits::SCOPES_MAX;
    use tessera_proto::v1::ErrorReason;

    use super::*;
    use crate::error::Violation;

    /// Errors of each shape, in letters that are sent as one byte, three, six, nine and twelve.
    fn errors() -> impl Iterator<Item = ApiError> {
        ["x", "%", "ü", "語", "🙂", "\"", "}"]
            .into_iter()
            .flat_map(|letter| {
                [0, 1, 100, 2000].into_iter().flat_map(move |length| {
                    let text = letter.repeat(length / letter.len());
                    let violations = |count| vec![Violation::new(text.clone(), text.clone()); count];
                    [
                        ApiError::new(Code::NotFound, ErrorReason::NotFound, text.clone()),
                        ApiError::invalid_fields(violations(1)),
                        ApiError::invalid_fields(violations(SCOPES_MAX)),
                        ApiError::rate_limited(Duration::from_millis(1)),
                        ApiError::rate_limited(Duration::from_nanos(7_200_000_000_001)),
                        ApiError::request_too_large(length, length),
                    ]
                })
            })
    }

    #[test]
    fn every_error_is_sent_as_long_as_it_was_taken_to_be() {
        for error in errors() {
            let mut headers = HeaderMap::new();
            Status::from(&error).add_header(&mut headers).unwrap();
            let sent = |name| headers.get(name).map_or(0, HeaderValue::len);
            let bytes = sent(MESSAGE) + sent(DETAILS);
            assert_eq!(bytes, error.wire_bytes(), "{error:?}");
            assert!(bytes < 4096);
            let sent = Sent::of(&headers).unwrap();
            assert_eq!(
                (sent.code, sent.reason.as_str(), sent.message.as_str()),
                (error.code(), error.reason_name(), error.message())
            );
        }
    }

    fn bounded(message: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE, message.parse().unwrap());
        bound(&mut headers);
        headers[MESSAGE].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_message_is_cut_between_what_it_is_encoded_in() {
        assert_eq!(bounded("not%20found"), "not%20found");
        for start in ["", "x", "xx"] {
            let cut = bounded(&format!("{start}{}", "%C3%BC".repeat(5000)));
            assert!(cut.len() <= MESSAGE_BYTES_MAX && cut.len() > MESSAGE_BYTES_MAX - 3);
            assert!(cut.ends_with("%C3") || cut.ends_with("%BC"), "{cut}");
        }
    }
}
