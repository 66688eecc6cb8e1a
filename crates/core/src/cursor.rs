//! Cursors: positions in the revocation log, opaque to their holders.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{id::LogId, sequence::Sequence};

/// A position in one revocation log, as one filter sees it.
///
/// The authority that gives it authenticates it with a tag. So the content of a cursor is what the authority once
/// stated, and is evidence if the log does not have that position. Others can't check the tag, and only keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The log: a cursor of another log means nothing here.
    pub log: LogId,
    /// The last event at or before the position.
    pub sequence: Sequence,
    /// The filter of the stream that gave it.
    pub filter: FilterDigest,
    /// Authenticates the rest: a message authentication code over [`Cursor::authenticated`].
    pub tag: CursorTag,
}

/// The message authentication code of a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorTag(pub [u8; 16]);

/// The filter of a stream, by its SHA-256. Zeros mean no filter, which matches every stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterDigest(pub [u8; 32]);

impl FilterDigest {
    /// The digest of the filter that hides nothing.
    pub const NONE: Self = Self([0; 32]);
}

/// The text is not a cursor: truncated, or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cursor is malformed: pass one back exactly as it was given")]
pub struct CursorError;

const VERSION: u8 = 3;
/// The bytes of a version, a log and a sequence; a filter's digest and the tag follow.
const LENGTH: usize = 1 + 16 + 8;
const TAG_LENGTH: usize = 16;

impl Cursor {
    /// Parses the text form. Only the authority can check the tag.
    ///
    /// # Errors
    /// Fails if `text` does not have the form of a cursor.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (body, tag) = bytes.split_last_chunk::<TAG_LENGTH>().ok_or(CursorError)?;
        let (&version, body) = body.split_first().ok_or(CursorError)?;
        let (log, body) = body.split_first_chunk::<16>().ok_or(CursorError)?;
        let (sequence, filter) = body.split_first_chunk::<8>().ok_or(CursorError)?;
        let filter = match filter {
            [] => FilterDigest::NONE,
            digest => FilterDigest(digest.try_into().map_err(|_| CursorError)?),
        };
        if version != VERSION {
            return Err(CursorError);
        }
        Ok(Self {
            log: LogId::from_bytes(*log),
            sequence: Sequence(u64::from_be_bytes(*sequence)),
            filter,
            tag: CursorTag(*tag),
        })
    }

    /// The bytes that the tag authenticates.
    #[must_use]
    pub fn authenticated(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH + 32 + TAG_LENGTH);
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
        let mut bytes = self.authenticated();
        bytes.extend_from_slice(&self.tag.0);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_round_trip(log: [u8; 16], sequence: u64, filter: Option<[u8; 32]>, tag: [u8; 16]) {
            let cursor = Cursor {
                log: LogId::from_bytes(log),
                sequence: Sequence(sequence),
                filter: FilterDigest(filter.unwrap_or_default()),
                tag: CursorTag(tag),
            };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            let _ = Cursor::parse(&text);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "x", "AAAA", &"A".repeat(55), &"A".repeat(300)] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text}");
        }
    }
}
