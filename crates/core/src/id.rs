//! Identifiers that the authority makes.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{name::NameError, short_text::ShortText, time::Timestamp};

/// Defines an identifier that is a UUID.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Parses the hyphenated form, in lower case.
            ///
            /// # Errors
            /// Fails if `text` is anything else: one identifier has one spelling.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if uuid.to_string() == text => Ok(Self(uuid)),
                    _ => Err(NameError::shape($what, "a UUID in lower case with hyphens")),
                }
            }

            /// The identifier of these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes; if the identifier is time-ordered, so are they.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id! {
    /// A session. Time-ordered (UUID v7), which doubles the number of writes per second of the store.
    SessionId, "session"
}

uuid_id! {
    /// The `jti` of an access token (UUID v7).
    TokenId, "token id"
}

uuid_id! {
    /// A client's own id for a request, which makes it idempotent.
    RequestId, "request id"
}

uuid_id! {
    /// A decision of the policy, as it is named in the log, the audit record and the answer (UUID v7).
    DecisionId, "decision id"
}

uuid_id! {
    /// One revocation log: a store that was made again, or restored, has another.
    LogId, "log id"
}

fn time_ordered(now: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The time at the start of a time-ordered id.
fn time_of(id: Uuid) -> Timestamp {
    let [a, b, c, d, e, f, ..] = *id.as_bytes();
    let millis = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl SessionId {
    /// When the session was begun, according to the id.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        time_of(self.0)
    }

    /// A new id, ordered by `now`, from 10 random bytes.
    #[must_use]
    pub fn generate(now: Timestamp, random: [u8; 10]) -> Self {
        Self(time_ordered(now, random))
    }
}

impl TokenId {
    /// A new id, ordered by `now`, from 10 random bytes.
    #[must_use]
    pub fn generate(now: Timestamp, random: [u8; 10]) -> Self {
        Self(time_ordered(now, random))
    }
}

impl DecisionId {
    /// When the decision was made, according to the id.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        time_of(self.0)
    }

    /// A new id, ordered by `now`, from 10 random bytes.
    #[must_use]
    pub fn generate(now: Timestamp, random: [u8; 10]) -> Self {
        Self(time_ordered(now, random))
    }
}

/// The public part of an API key: 16 characters of Crockford's base 32 in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiKeyId(ShortText<16>);

impl ApiKeyId {
    /// Parses an id.
    ///
    /// # Errors
    /// Fails if `text` is not 16 characters of Crockford's base 32.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let is_base32 = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z');
        let is_id = text.len() == 16 && text.bytes().all(is_base32);
        ShortText::of(text)
            .filter(|_| is_id)
            .map(Self)
            .ok_or(NameError::shape(
                "API key id",
                "16 characters of `0-9a-z` without `i`, `l`, `o`, `u`",
            ))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The PASERK id of a signing key, `k4.pid.…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(ShortText<51>);

impl KeyId {
    /// Parses `k4.pid.` and 44 characters of base64url.
    ///
    /// # Errors
    /// Fails if `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let digest = text.strip_prefix("k4.pid.").unwrap_or("");
        let is_id = digest.len() == 44
            && digest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        ShortText::of(text)
            .filter(|_| is_id)
            .map(Self)
            .ok_or(NameError::shape(
                "key id",
                "`k4.pid.` and 44 characters of base64url",
            ))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A digest of all policy files: the 64 hexadecimal digits of SHA-256.
///
/// It is an identity: the policy with the planned revision is the one that is applied. So it is never shortened except
/// for display ([`short`](Self::short)). Tokens and rows that were written when it had 16 digits are still read; none
/// of these is the revision of any policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRevision {
    /// The digest, then zeros.
    bytes: [u8; 32],
    /// How many bytes the digest has.
    len: u8,
}

impl PolicyRevision {
    /// The length of the text.
    pub const DIGITS: usize = 64;

    /// Parses a revision.
    ///
    /// # Errors
    /// Fails if `text` is not 64 hexadecimal digits in lower case, nor the earlier 16.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::of_digits(text.as_bytes()).ok_or(NameError::shape("policy revision", "64 hexadecimal digits"))
    }

    fn of_digits(digits: &[u8]) -> Option<Self> {
        let (pairs, []) = digits.as_chunks() else {
            return None;
        };
        let mut bytes = [0; 32];
        let digest = bytes
            .get_mut(..pairs.len())
            .filter(|of| matches!(of.len(), 32 | 8))?;
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = value_of(*high)? << 4 | value_of(*low)?;
        }
        let len = u8::try_from(pairs.len()).ok()?;
        Some(Self { bytes, len })
    }

    fn text(&self) -> ShortText<{ Self::DIGITS }> {
        let mut digits = [0; Self::DIGITS];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.bytes) {
            *pair = [digit_of(byte >> 4), digit_of(byte & 15)];
        }
        ShortText {
            bytes: digits,
            len: self.len * 2,
        }
    }

    /// The first digits, for people to distinguish it from others. Nothing may be decided by them.
    #[must_use]
    pub fn short(&self) -> String {
        self.text().as_str().chars().take(SHORT_DIGITS).collect()
    }
}

/// The value of a hexadecimal digit in lower case.
fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn digit_of(value: u8) -> u8 {
    if value < 10 {
        b'0' + value
    } else {
        b'a' - 10 + value
    }
}

/// How many digits of a revision are shown to people.
const SHORT_DIGITS: usize = 12;

impl ApiKeyId {
    fn text(&self) -> &ShortText<16> {
        &self.0
    }
}

impl KeyId {
    fn text(&self) -> &ShortText<51> {
        &self.0
    }
}

/// Text forms that the three textual identifiers share.
macro_rules! text_id {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().as_str())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.text().as_str().to_owned()
            }
        }
    )*};
}

text_id!(ApiKeyId, KeyId, PolicyRevision);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identifier_has_one_spelling() {
        let text = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b";
        assert_eq!(SessionId::parse(text).unwrap().to_string(), text);
        for bad in [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            String::new(),
        ] {
            assert!(SessionId::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_ids_follow_time() {
        let early = SessionId::generate(Timestamp::from_seconds(1_000), [255; 10]);
        let late = SessionId::generate(Timestamp::from_seconds(1_001), [0; 10]);
        assert!(early < late);
    }

    #[test]
    fn textual_ids_accept_only_their_form() {
        assert!(ApiKeyId::parse("0123456789abcdef").is_ok());
        assert!(ApiKeyId::parse("0123456789abcdel").is_err());
        assert!(KeyId::parse(&format!("k4.pid.{}", "a".repeat(44))).is_ok());
        assert!(KeyId::parse(&format!("k4.lid.{}", "a".repeat(44))).is_err());
        let revision = PolicyRevision::parse(&"8f31c2a0".repeat(8)).unwrap();
        assert_eq!(revision.short(), "8f31c2a08f31");
        for other in [
            "",
            "8f31c2a0",
            &"8f31c2a0".repeat(7),
            &"8f31c2a0".repeat(9),
            &"8F31c2a0".repeat(8),
        ] {
            assert!(PolicyRevision::parse(other).is_err(), "{other}");
        }
        for text in ["8f31c2a08f31c2a0", &"0189abcdef10fedc".repeat(4)] {
            assert_eq!(PolicyRevision::parse(text).unwrap().to_string(), text);
        }
        assert!(PolicyRevision::parse("8F31c2a08f31c2a0").is_err());
    }
}
