//! Names: each is parsed once, at the edge, into a type whose values are always valid.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use crate::spelling::NameError;

use crate::{
    limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX},
    spelling::check,
    subject::{check_subject, is_allowed},
};

/// Defines a name: an immutable, cheaply cloned text that has passed `$check`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the name.
            ///
            /// # Errors
            /// Fails with what was expected if `text` is not such a name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

const LOWER: &str = "`a-z0-9._-`";
const WIDE: &str = "`A-Za-z0-9._:@|+~=-`";

fn is_lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

fn is_wide(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '@' | '|' | '+' | '~' | '=' | '-')
}

fn check_prefixed(
    what: &'static str,
    text: &str,
    prefix: &'static str,
    expected: &'static str,
) -> Result<(), NameError> {
    let rest = text
        .strip_prefix(prefix)
        .ok_or(NameError::shape(what, expected))?;
    check(what, rest, NAME_BYTES_MAX, LOWER, is_lower)
}

name! {
    /// The name of a realm, an isolation domain: 1 to 64 characters of `a-z0-9._-`.
    RealmName, |text| check("realm", text, NAME_BYTES_MAX, LOWER, is_lower)
}

name! {
    /// The principal behind an API key: `client:<name>`.
    ClientName, |text| check_prefixed("client", text, "client:", "`client:<name>`")
}

name! {
    /// A role: `role:<name>`.
    RoleName, |text| check_prefixed("role", text, "role:", "`role:<name>`")
}

name! {
    /// The audience of a token: 1 to 64 characters of `a-z0-9._-`.
    Audience, |text| check("audience", text, NAME_BYTES_MAX, LOWER, is_lower)
}

name! {
    /// The subject of a token: 1 to 255 bytes of printable characters in UTF-8, and not a role. No `*`, no space around
    /// it, no invisible characters, and in Unicode's normal form C.
    Subject, check_subject
}

name! {
    /// A label on a session, such as `stream:ls_42`: 1 to 128 characters of `A-Za-z0-9._:@|+~=-`.
    Label, |text| check("label", text, LABEL_BYTES_MAX, WIDE, is_wide)
}

name! {
    /// A subscriber's name for itself in the revocation stream: 1 to 64 characters.
    SubscriberName, |text| check("subscriber", text, NAME_BYTES_MAX, WIDE, is_wide)
}

impl Subject {
    /// Whether a subject may have this character.
    #[must_use]
    pub fn allows(character: char) -> bool {
        is_allowed(character)
    }
}

impl ClientName {
    /// The client called `name`, with or without the prefix: `shop` and `client:shop` are the same.
    ///
    /// # Errors
    /// Fails if `name` has other characters than `a-z0-9._-`, or more than 64.
    pub fn from_short(name: &str) -> Result<Self, NameError> {
        let short = name.strip_prefix("client:").unwrap_or(name);
        Self::parse(&format!("client:{short}"))
    }

    /// The client as a subject: a client that issues for itself.
    #[must_use]
    pub fn to_subject(&self) -> Subject {
        // Every client name is a subject: its characters and its length are within a subject's.
        Subject(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_accept_what_they_document_and_nothing_else() {
        assert!(ClientName::parse("client:cms").is_ok());
        for bad in [
            "",
            "cms",
            "client:",
            "client:CMS",
            "client:a b",
            "client:a\n",
            "client:é",
        ] {
            assert!(ClientName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_what_is_allowed() {
        let error = Label::parse("a b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "label has the character ` `; allowed are `A-Za-z0-9._:@|+~=-`"
        );
    }

    #[test]
    fn names_survive_serde_and_are_checked_by_it() {
        let name: RoleName = serde_json::from_str("\"role:viewer\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"role:viewer\"");
        assert!(serde_json::from_str::<RoleName>("\"viewer\"").is_err());
    }
}
