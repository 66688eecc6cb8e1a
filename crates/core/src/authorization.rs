//! The `authorization` header: one reader for the server and the client SDK, so that all take the same for a credential.
//!
//! By hand: a typed header (the crate `headers`) takes the first of several headers, does not say why it takes none,
//! splits the name from the secret of HTTP Basic in another way than RFC 6749, and reads only headers of the crate `http`,
//! while Envoy sends the headers of its client in a message.

/// The `authorization` headers of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationHeader<'a> {
    /// There is none, or an empty one.
    Absent,
    /// There are several: two readers may take different ones.
    Several,
    /// It is not UTF-8.
    NotText,
    /// There is one.
    Given {
        /// The scheme, whose case does not matter (RFC 9110 §11.1).
        scheme: &'a str,
        /// What follows the scheme; it may be empty.
        credential: &'a str,
    },
}

impl<'a> AuthorizationHeader<'a> {
    /// From all values of the header, in their order.
    pub fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Absent,
            (Some(_), Some(_)) => return Self::Several,
            (Some(only), None) => only,
        };
        let Ok(text) = std::str::from_utf8(value) else {
            return Self::NotText;
        };
        if text.trim_matches(' ').is_empty() {
            return Self::Absent;
        }
        let (scheme, credential) = text.split_once(' ').unwrap_or((text, ""));
        Self::Given {
            scheme,
            credential: credential.trim_matches(' '),
        }
    }

    /// What follows the scheme, if that is `scheme`.
    #[must_use]
    pub fn credential(self, scheme: &str) -> Option<&'a str> {
        match self {
            Self::Given {
                scheme: given,
                credential,
            } if given.eq_ignore_ascii_case(scheme) => Some(credential),
            _ => None,
        }
    }

    /// The bearer token (RFC 6750 §2.1); `None` if there is none, or an empty one.
    #[must_use]
    pub fn bearer(self) -> Option<&'a str> {
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
        assert_eq!(of(&[" "]), AuthorizationHeader::Absent);
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
    }
}
