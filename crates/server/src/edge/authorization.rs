//! The `authorization` header: read in one place, so that all endpoints take the same for a credential.
//!
//! By hand, as a typed header (the crate `headers`) takes the first of several, does not say why it takes none, splits
//! the name from the secret of HTTP Basic where RFC 6749 does not, and reads no headers but those of `http`, while Envoy
//! sends what its client sent within a message.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// What the `authorization` headers of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorizationHeader<'a> {
    /// There is none.
    Absent,
    /// Several: who reads only one may read another than somebody else.
    Several,
    /// It is not UTF-8.
    NotText,
    /// A scheme (RFC 9110 §11.1), whose case does not matter, and what follows; nothing may.
    Given { scheme: &'a str, credential: &'a str },
}

impl<'a> AuthorizationHeader<'a> {
    /// Of all values of the header.
    pub(crate) fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Absent,
            (Some(_), Some(_)) => return Self::Several,
            (Some(only), None) => only,
        };
        let Ok(text) = std::str::from_utf8(value) else {
            return Self::NotText;
        };
        let (scheme, credential) = text.split_once(' ').unwrap_or((text, ""));
        Self::Given {
            scheme,
            credential: credential.trim_matches(' '),
        }
    }

    /// Of the headers of a request.
    pub(crate) fn in_headers(headers: &'a HeaderMap) -> Self {
        Self::of(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))
    }

    /// What follows `scheme`, where that is the scheme.
    pub(crate) fn credential(self, scheme: &str) -> Option<&'a str> {
        match self {
            Self::Given {
                scheme: given,
                credential,
            } if given.eq_ignore_ascii_case(scheme) => Some(credential),
            _ => None,
        }
    }

    /// The bearer token; none where there is no other than an empty one.
    pub(crate) fn bearer(self) -> Option<&'a str> {
        self.credential("bearer").filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(values: &[&'a str]) -> AuthorizationHeader<'a> {
        AuthorizationHeader::of(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn only_one_bearer_header_is_a_credential() {
        assert_eq!(of(&[]), AuthorizationHeader::Absent);
        assert_eq!(of(&["Bearer tsk_x"]).bearer(), Some("tsk_x"));
        assert_eq!(of(&["bEARER   tsk_x "]).bearer(), Some("tsk_x"));
        assert_eq!(
            of(&["Bearer tsk_x", "Bearer tsk_y"]),
            AuthorizationHeader::Several
        );
        assert_eq!(of(&["Bearer tsk_x", "Bearer tsk_y"]).bearer(), None);
        for other in ["tsk_x", "Basic dHNr", "Bearer", "Bearer ", ""] {
            assert_eq!(of(&[other]).bearer(), None, "{other}");
        }
    }

    #[test]
    fn a_scheme_is_told_apart_from_what_follows() {
        assert_eq!(of(&["Basic dHNr"]).credential("basic"), Some("dHNr"));
        assert_eq!(of(&["Bearer"]).credential("bearer"), Some(""));
        assert_eq!(
            AuthorizationHeader::of([&b"Bearer caf\xe9"[..]].into_iter()),
            AuthorizationHeader::NotText
        );
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer one two".parse().unwrap());
        assert_eq!(
            AuthorizationHeader::in_headers(&headers).bearer(),
            Some("one two")
        );
    }
}
