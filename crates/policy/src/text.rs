//! Bytes of a file, checked and turned into text with lines and columns.

use std::{cell::OnceCell, sync::Arc};

use tessera_core::secret;

use crate::{
    code,
    diagnostic::{Findings, Place},
    invisible::is_invisible,
};

/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 4_096;
/// How many invisible characters of one file are reported.
const INVISIBLE_MAX: usize = 20;

/// A file that was checked to be harmless text.
#[derive(Clone, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) file: Arc<str>,
    pub(crate) content: &'a str,
    /// The beginning of each line; made when the first position is needed, since every key and value has one.
    starts: OnceCell<Vec<usize>>,
}

impl<'a> Text<'a> {
    /// Checks what all files have in common: UTF-8, no byte order mark, no invisible characters.
    ///
    /// Line ends are `\n` or `\r\n`, so that a checkout on Windows works; a `\r` elsewhere is refused.
    pub(crate) fn read(file: &str, bytes: &'a [u8], findings: &mut Findings) -> Option<Self> {
        let start = Place::start(file);
        if bytes.starts_with(b"\xef\xbb\xbf") {
            let help = "save the file as UTF-8 without a byte order mark".to_owned();
            findings.advise(
                code::BYTE_ORDER_MARK,
                &start,
                "the file begins with a byte order mark",
                help,
            );
            return None;
        }
        let content = match std::str::from_utf8(bytes) {
            Ok(content) => content,
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let text = Self::new(start.file, std::str::from_utf8(valid).unwrap_or_default());
                let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
                let help = if is_utf16 {
                    "it is UTF-16: save it as UTF-8"
                } else {
                    "save the file as UTF-8"
                };
                let place = text.place(valid.len());
                findings.advise(code::NOT_UTF8, &place, "the file is not UTF-8", help.to_owned());
                return None;
            }
        };
        let text = Self::new(start.file, content);
        let is_right = text.refuse_secrets(findings)
            && text.refuse_invisible(findings)
            && text.refuse_long_lines(findings);
        is_right.then_some(text)
    }

    fn new(file: Arc<str>, content: &'a str) -> Self {
        Self {
            file,
            content,
            starts: OnceCell::new(),
        }
    }

    /// A policy is read by many, so a secret in it is no longer secret; and a file with a secret gets no other finding.
    fn refuse_secrets(&self, findings: &mut Findings) -> bool {
        let Some(offset) = secret::find(self.content) else {
            return true;
        };
        let help = "take it out of the files and of their history, and revoke it".to_owned();
        findings.advise(
            code::SECRET,
            &self.place(offset),
            "the file has what looks like a key, a token or a password",
            help,
        );
        false
    }

    fn refuse_invisible(&self, findings: &mut Findings) -> bool {
        let mut characters = self.content.char_indices().peekable();
        let mut refused = 0;
        while let Some((offset, character)) = characters.next() {
            let is_line_end =
                character == '\n' || (character == '\r' && matches!(characters.peek(), Some((_, '\n'))));
            if !is_line_end && is_invisible(character) {
                let message = format!(
                    "the character `{}` is not allowed here",
                    character.escape_default()
                );
                let help = match character {
                    '\t' => Some("use spaces".to_owned()),
                    _ if character.is_whitespace() && !character.is_control() => {
                        Some("this is another kind of space: use a plain one".to_owned())
                    }
                    '\r' => Some("end lines with a line feed".to_owned()),
                    // Latin letters in UTF-16 without a byte order mark are UTF-8 too.
                    '\0' => Some("if the file is UTF-16, save it as UTF-8".to_owned()),
                    _ => None,
                };
                findings.advise(code::CONTROL_CHARACTER, &self.place(offset), message, help);
                refused += 1;
                // A file of another kind has nothing else.
                if refused == INVISIBLE_MAX {
                    break;
                }
            }
        }
        refused == 0
    }

    fn refuse_long_lines(&self, findings: &mut Findings) -> bool {
        let Some((place, line)) = self.lines().find(|(_, line)| line.len() > LINE_BYTES_MAX) else {
            return true;
        };
        let message = format!(
            "the line has {} bytes; at most {LINE_BYTES_MAX} are read",
            line.len()
        );
        findings.add(code::TOO_LARGE, &place, message);
        false
    }

    /// The position of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Place {
        // The first line begins at 0, so there is always one before.
        let line = self
            .starts()
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        let start = self.starts().get(line).copied().unwrap_or_default();
        let column = self.part(start, offset).chars().count();
        Place {
            file: Arc::clone(&self.file),
            line: count(line),
            column: count(column),
        }
    }

    fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            let ends = self.part(0, self.content.len()).match_indices('\n');
            std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect()
        })
    }

    /// The text between two offsets; the cost of positions is the text that is read here.
    fn part(&self, start: usize, end: usize) -> &'a str {
        let part = self.content.get(start..end).unwrap_or_default();
        #[cfg(test)]
        tests::LOOKED_AT.set(tests::LOOKED_AT.get() + part.len());
        part
    }

    /// The lines with their numbers, without line ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (Place, &'a str)> {
        let file = Arc::clone(&self.file);
        self.content.lines().enumerate().map(move |(line, text)| {
            (
                Place {
                    file: Arc::clone(&file),
                    line: count(line),
                    column: 1,
                },
                text,
            )
        })
    }
}

/// The number of characters before, as a position counted from 1.
fn count(before: usize) -> u32 {
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How many bytes this thread has read to find positions.
        pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    fn findings_of(bytes: &[u8]) -> Vec<(&'static str, u32, u32)> {
        let mut findings = Findings::default();
        let _ = Text::read("policy.csv", bytes, &mut findings);
        let error = findings
            .into_result()
            .map_or_else(|error| error.diagnostics, |()| Vec::new());
        error.into_iter().map(|d| (d.code, d.line, d.column)).collect()
    }

    #[test]
    fn both_line_ends_are_accepted_and_a_lone_return_is_not() {
        assert_eq!(findings_of(b"p, a\r\ng, b\n"), []);
        assert_eq!(findings_of(b"p, a\rg, b\n"), [("P005", 1, 5)]);
        assert_eq!(findings_of(b"p, a\r\r\n"), [("P005", 1, 5)]);
    }

    #[test]
    fn bytes_that_are_no_text_are_found_where_they_are() {
        assert_eq!(findings_of(b"\xef\xbb\xbfp"), [("P004", 1, 1)]);
        assert_eq!(findings_of("é\nab\u{200b}".as_bytes()), [("P005", 2, 3)]);
        assert_eq!(findings_of(b"\xc3\xa9\nab\xff"), [("P003", 2, 3)]);
    }

    #[test]
    fn places_count_characters_from_the_last_line_end() {
        let mut findings = Findings::default();
        let content = "a = 1\r\né = \"ü\" # ß\n\nlast".to_owned();
        let text = Text::read("catalogue.toml", content.as_bytes(), &mut findings).unwrap();
        for (offset, character) in content.char_indices().chain([(content.len(), ' ')]) {
            let before = &content[..offset];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            let place = text.place(offset);
            let found = (place.line as usize, place.column as usize);
            assert_eq!(found, (line, column), "{character:?} at {offset}");
        }
    }

    #[test]
    fn finding_a_place_looks_at_its_line_only() {
        let content = "\"items:read\" = \"an item of the shop\"\n".repeat(2_000);
        let mut findings = Findings::default();
        let text = Text::read("catalogue.toml", content.as_bytes(), &mut findings).unwrap();
        let before = LOOKED_AT.get();
        for (offset, _) in content.match_indices(['"', '\n']) {
            text.place(offset);
        }
        // Once for the beginnings of lines, and the line before each of the five characters.
        let looked_at = LOOKED_AT.get() - before;
        assert!(looked_at <= content.len() * 6, "{looked_at} of {}", content.len());
    }

    #[test]
    fn a_file_in_utf_16_is_said_to_be_that() {
        let utf16 = |mark: &[u8]| -> Vec<u8> {
            let units = "p, a".encode_utf16().flat_map(u16::to_le_bytes);
            mark.iter().copied().chain(units).collect()
        };
        for (bytes, expected) in [
            (utf16(b"\xff\xfe"), "it is UTF-16: save it as UTF-8"),
            (utf16(b""), "if the file is UTF-16, save it as UTF-8"),
            (b"\xe9".to_vec(), "save the file as UTF-8"),
        ] {
            let mut findings = Findings::default();
            assert!(Text::read("policy.csv", &bytes, &mut findings).is_none());
            let found = findings.into_result().unwrap_err().diagnostics;
            assert_eq!(found[0].help.as_deref(), Some(expected));
        }
    }
}
