//! Text on a terminal: coloured for people, and without control sequences from input.

use std::io;

use anstream::{AutoStream, ColorChoice, stream::RawStream};
pub(crate) use tessera_core::{is_hidden, visible};
use unicode_width::UnicodeWidthStr;

/// Colours, if the output is a terminal.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// For stdout: a terminal is coloured, according to the environment (`NO_COLOR`, `CLICOLOR`, `TERM`).
    pub(crate) fn stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// The same for stderr.
    pub(crate) fn stderr() -> Self {
        Self::of(&io::stderr())
    }

    /// For tests: without colours, as in a file.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { is_on: false }
    }

    fn of(stream: &impl RawStream) -> Self {
        Self {
            is_on: AutoStream::choice(stream) != ColorChoice::Never,
        }
    }

    /// For what is wrong, denied or lost.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what is right or allowed.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what needs attention.
    pub(crate) fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For hints.
    pub(crate) fn hint(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.is_on {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A word in the syntax of a shell.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// How many columns of a terminal a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A text filled up with spaces to a width.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `1 rule`, `2 rules`.
pub(crate) fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        count => format!("{count} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        assert_eq!(
            visible("\x1b[2Jé\u{202e}\u{9b}\r"),
            "<U+001B>[2Jé<U+202E><U+009B><U+000D>"
        );
        assert_eq!(visible("a\u{115f}b\u{3164}c"), "a<U+115F>b<U+3164>c");
        assert_eq!(visible("role:viewer → é"), "role:viewer → é");
        assert!(
            (0..=0x1f)
                .chain(0x7f..=0x9f)
                .filter_map(char::from_u32)
                .all(is_hidden)
        );
    }

    #[test]
    fn only_what_is_on_is_coloured() {
        assert_eq!(Paint { is_on: true }.bad("no"), "\x1b[31mno\x1b[0m");
        assert_eq!(Paint { is_on: false }.bad("no"), "no");
    }

    #[test]
    fn a_wide_letter_takes_two_columns() {
        assert_eq!((width("ab"), width("映画"), width("e\u{301}")), (2, 4, 1));
        assert_eq!(padded("映", 4), "映  ");
    }
}
