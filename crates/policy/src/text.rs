//! Bytes of a file, checked and turned into text with lines and columns.

use std::sync::Arc;

use crate::{
    code,
    diagnostic::{Findings, Place},
};

/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 4_096;
/// How many invisible characters of one file are reported.
const INVISIBLE_MAX: usize = 20;

/// A file whose bytes are harmless text.
#[derive(Clone, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) file: Arc<str>,
    pub(crate) content: &'a str,
}

impl<'a> Text<'a> {
    /// Checks what all files have in common: UTF-8, no byte order mark, nothing invisible.
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
                let valid = std::str::from_utf8(valid).unwrap_or_default();
                let text = Self {
                    file: start.file,
                    content: valid,
                };
                findings.add(code::NOT_UTF8, &text.place(valid.len()), "the file is not UTF-8");
                return None;
            }
        };
        let text = Self {
            file: start.file,
            content,
        };
        (text.refuse_invisible(findings) && text.refuse_long_lines(findings)).then_some(text)
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
                    '\r' => Some("end lines with a line feed".to_owned()),
                    _ => None,
                };
                findings.advise(code::CONTROL_CHARACTER, &self.place(offset), message, help);
                refused += 1;
                // Each place costs a walk over the text before it.
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

    /// The place of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let before = self.content.get(..offset).unwrap_or(self.content);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        Place {
            file: Arc::clone(&self.file),
            line: count(line),
            column: count(column),
        }
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

/// What is before, as a position counted from 1.
fn count(before: usize) -> u32 {
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}

/// Control characters, and those that make text look other than it is (zero width, direction).
pub(crate) fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
