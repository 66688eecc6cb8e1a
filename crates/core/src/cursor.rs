//! Cursors: places in the revocation log, opaque to those who carry them.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{event::Sequence, id::LogId};

/// A place in one revocation log, as one filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The log: a cursor of another log means nothing here.
    pub log: LogId,
    /// The last event at or before the place.
    pub sequence: Sequence,
    /// The filter of the stream that gave it.
    pub filter: FilterDigest,
}

/// Which filter a stream has, by the SHA-256 of it. Zeros are no filter, which fits every stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterDigest(pub [u8; 32]);

impl FilterDigest {
    /// The digest of the filter that hides nothing.
    pub const NONE: Self = Self([0; 32]);
}

/// The text is no cursor: a typo, a truncation, or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cursor is malformed: pass one back exactly as it was given")]
pub struct CursorError;

const VERSION: u8 = 2;
/// The bytes of a version, a log, a sequence and a checksum; a filter's digest stands before the checksum.
const LENGTH: usize = 1 + 16 + 8 + 4;
/// What was written before has four bytes of a filter's digest. Only without a filter is it still read: so few
/// do not tell filters apart.
const SHORT_VERSION: u8 = 1;
const SHORT_NONE: [u8; 4] = [0; 4];

impl Cursor {
    /// Parses the text form.
    ///
    /// # Errors
    /// Fails where `text` was not made by [`Cursor`]'s `Display`; a checksum notices typos.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(CursorError)?;
        if *checksum != crc32fast::hash(body).to_be_bytes() {
            return Err(CursorError);
        }
        let (&version, body) = body.split_first().ok_or(CursorError)?;
        let (log, body) = body.split_first_chunk::<16>().ok_or(CursorError)?;
        let (sequence, filter) = body.split_first_chunk::<8>().ok_or(CursorError)?;
        let filter = match (version, filter) {
            (VERSION, []) => FilterDigest::NONE,
            (VERSION, digest) => FilterDigest(digest.try_into().map_err(|_| CursorError)?),
            (SHORT_VERSION, digest) if *digest == SHORT_NONE => FilterDigest::NONE,
            _ => return Err(CursorError),
        };
        Ok(Self {
            log: LogId::from_bytes(*log),
            sequence: Sequence(u64::from_be_bytes(*sequence)),
            filter,
        })
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH + 32);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.log.as_bytes());
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        if self.filter != FilterDigest::NONE {
            bytes.extend_from_slice(&self.filter.0);
        }
        bytes
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.body();
        let checksum = crc32fast::hash(&bytes).to_be_bytes();
        bytes.extend_from_slice(&checksum);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_round_trip(log: [u8; 16], sequence: u64, filter: Option<[u8; 32]>) {
            let filter = FilterDigest(filter.unwrap_or_default());
            let cursor = Cursor { log: LogId::from_bytes(log), sequence: Sequence(sequence), filter };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            prop_assert!(Cursor::parse(&text).is_err());
        }

        #[test]
        fn one_wrong_character_is_noticed(sequence: u64, at in 0usize..38) {
            let cursor = Cursor { log: LogId::from_bytes([7; 16]), sequence: Sequence(sequence), filter: FilterDigest::NONE };
            let mut text = cursor.to_string().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(Cursor::parse(&String::from_utf8(text).unwrap()), Err(CursorError));
        }

        #[test]
        fn of_cursors_with_a_short_digest_those_without_a_filter_are_read(sequence: u64, filter: u32) {
            let text = |filter: u32| {
                let mut bytes = vec![SHORT_VERSION];
                bytes.extend([7; 16]);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(filter.to_be_bytes());
                bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
                URL_SAFE_NO_PAD.encode(bytes)
            };
            let expected = Cursor { log: LogId::from_bytes([7; 16]), sequence: Sequence(sequence), filter: FilterDigest::NONE };
            prop_assert_eq!(Cursor::parse(&text(0)), Ok(expected));
            prop_assert_eq!(Cursor::parse(&text(filter | 1)), Err(CursorError));
        }
    }
}
