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
    /// A digest of the filter of the stream that gave it; 0 is no filter, and fits every stream.
    pub filter: u32,
}

/// The text is no cursor: a typo, a truncation, or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cursor is malformed: pass one back exactly as it was given")]
pub struct CursorError;

const VERSION: u8 = 1;
const LENGTH: usize = 33;

impl Cursor {
    /// Parses the text form.
    ///
    /// # Errors
    /// Fails where `text` was not made by [`Cursor`]'s `Display`; a checksum notices typos.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let bytes: [u8; LENGTH] = bytes.try_into().map_err(|_| CursorError)?;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(CursorError)?;
        let (&version, body) = body.split_first().ok_or(CursorError)?;
        let (log, body) = body.split_first_chunk::<16>().ok_or(CursorError)?;
        let (sequence, filter) = body.split_first_chunk::<8>().ok_or(CursorError)?;
        let cursor = Self {
            log: LogId::from_bytes(*log),
            sequence: Sequence(u64::from_be_bytes(*sequence)),
            filter: u32::from_be_bytes(filter.try_into().map_err(|_| CursorError)?),
        };
        if version != VERSION || *checksum != cursor.checksum() {
            return Err(CursorError);
        }
        Ok(cursor)
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.log.as_bytes());
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        bytes.extend_from_slice(&self.filter.to_be_bytes());
        bytes
    }

    fn checksum(&self) -> [u8; 4] {
        crc32fast::hash(&self.body()).to_be_bytes()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.body();
        bytes.extend_from_slice(&self.checksum());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_round_trip(log: [u8; 16], sequence: u64, filter: u32) {
            let cursor = Cursor { log: LogId::from_bytes(log), sequence: Sequence(sequence), filter };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            prop_assert!(Cursor::parse(&text).is_err());
        }

        #[test]
        fn one_wrong_character_is_noticed(sequence: u64, at in 0usize..44) {
            let cursor = Cursor { log: LogId::from_bytes([7; 16]), sequence: Sequence(sequence), filter: 0 };
            let mut text = cursor.to_string().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(Cursor::parse(&String::from_utf8(text).unwrap()), Err(CursorError));
        }
    }
}
