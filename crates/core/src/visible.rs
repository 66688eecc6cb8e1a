//! Text of others, as it can be shown: on a terminal, or in a record that people read.

use std::{borrow::Cow, fmt::Write};

/// A text in which everything that a terminal would interpret, or not show, is escaped: `<U+001B>`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and characters that have no width, show nothing, or change the direction of writing.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_written_out() {
        for (text, expected) in [
            ("a plain text", "a plain text"),
            ("\u{2764}\u{fe0f} 映画", "\u{2764}\u{fe0f} 映画"),
            ("x\u{202e}evil", "x<U+202E>evil"),
            ("\u{1b}[2J", "<U+001B>[2J"),
            ("\u{e0041}", "<U+E0041>"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }
}
