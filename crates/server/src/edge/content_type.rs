//! The `content-type` header of a request.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

/// Whether the body of a request is of this media type, whatever parameters follow it (RFC 9110 §8.3.1).
pub(crate) fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let given = given.and_then(|given| given.split(|byte| *byte == b';').next());
    given.is_some_and(|given| given.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_by_what_comes_before_its_parameters() {
        let is_form = |value: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            is_of_type(&headers, "application/x-www-form-urlencoded")
        };
        for right in [
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-URLEncoded; charset=utf-8",
            " application/x-www-form-urlencoded ;",
        ] {
            assert!(is_form(right), "{right}");
        }
        for wrong in [
            "",
            "application/json",
            "application/x-www-form-urlencoded2",
            "a; application/x-www-form-urlencoded",
        ] {
            assert!(!is_form(wrong), "{wrong}");
        }
        assert!(!is_of_type(&HeaderMap::new(), ""));
    }
}
