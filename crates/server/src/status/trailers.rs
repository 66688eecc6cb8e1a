//! The last look at a status as it is sent. Those that the server makes are short; the services of others (health,
//! reflection, the decoding of messages) repeat what callers sent.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The message, percent-encoded.
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The details, in Base64.
pub(super) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The longest message of others, percent-encoded.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Cuts a message that peers might refuse. Of details there is nothing to cut: only the server's own statuses have
/// them.
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
    // Not within `%C3`. Half of a letter is left to who decodes it, as gRPC has it.
    let whole = match cut {
        [whole @ .., b'%'] | [whole @ .., b'%', _] => whole,
        whole => whole,
    };
    *message = HeaderValue::from_bytes(whole).unwrap_or_else(|_| HeaderValue::from_static(""));
}

#[cfg(test)]
mod tests {
    use super::*;

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
