//! The size of an error as a gRPC status: message and details in trailers.

use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::api_error::{ApiError, DOMAIN, Violation};

/// The characters that `grpc-message` can't contain unencoded, in addition to everything beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'?')
    .add(b'{')
    .add(b'}');

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// A code with its tag.
const CODE_BYTES: usize = 2;

impl ApiError {
    /// The length of the message, percent-encoded, and of the details, in Base64 without padding. A test compares it
    /// with the bytes that are sent.
    pub(crate) fn wire_bytes(&self) -> usize {
        let message: usize = utf8_percent_encode(&self.message, ENCODED).map(str::len).sum();
        message + (self.details_bytes() * 4).div_ceil(3)
    }

    /// `google.rpc.Status`, which contains the message again.
    fn details_bytes(&self) -> usize {
        let mut bytes = CODE_BYTES + text(&self.message) + detail(ERROR_INFO, self.info_bytes());
        if !self.violations.is_empty() {
            let violations = self.violations.iter();
            let violations =
                violations.map(|Violation { field, problem }| nested(text(field) + text(problem)));
            bytes += detail(BAD_REQUEST, violations.sum());
        }
        if let Some(wait) = self.retry_after {
            bytes += detail(RETRY_INFO, nested(duration(wait)));
        }
        bytes
    }

    fn info_bytes(&self) -> usize {
        let values = self.metadata.iter();
        let values = values.map(|(key, value)| nested(text(key) + text(value)));
        text(self.reason_name()) + text(DOMAIN) + values.sum::<usize>()
    }
}

/// `google.protobuf.Any` in a list.
fn detail(kind: &str, value: usize) -> usize {
    nested(text(kind) + nested(value))
}

/// A text with its tag and length; an empty one is left out.
fn text(text: &str) -> usize {
    if text.is_empty() { 0 } else { nested(text.len()) }
}

/// This number of bytes, with tag and length.
fn nested(bytes: usize) -> usize {
    1 + varint(u64::try_from(bytes).unwrap_or(u64::MAX)) + bytes
}

fn duration(time: Duration) -> usize {
    number(time.as_secs()) + number(time.subsec_nanos().into())
}

/// A number with its tag; zero is left out.
fn number(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint(number) }
}

/// Seven bits per byte.
fn varint(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(usize::MAX)
}
