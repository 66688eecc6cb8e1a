//! What a finding may repeat from a file: names, as far as they can be distinguished from other text. A file may be the
//! wrong one, or contain something that was pasted by mistake, and findings go to logs and to callers.

use std::fmt;

use tessera_core::secret;

use crate::look_alike::to_latin;

/// The longest text that is repeated, in characters.
const LENGTH_MAX: usize = 128;
/// The longest kind of a rule that is repeated, in characters.
const KIND_LENGTH_MAX: usize = 3;

/// The text between backquotes if it is a name or a pattern; otherwise its length.
pub(crate) struct Quote<'a> {
    text: &'a str,
    is_shown: bool,
}

/// Quotes a name or a pattern.
pub(crate) fn quote(text: &str) -> Quote<'_> {
    Quote {
        text,
        is_shown: is_name(text),
    }
}

/// Quotes the text in the position of `p` or `g`: a much longer text is not a misspelling of these.
pub(crate) fn quote_kind(text: &str) -> Quote<'_> {
    Quote {
        text,
        is_shown: text.chars().count() <= KIND_LENGTH_MAX && is_name(text),
    }
}

/// Quotes a line of prose, such as the name of a test.
pub(crate) fn quote_title(text: &str) -> Quote<'_> {
    let is_part = |c: char| c.is_alphanumeric() || " .,:;'-_/()*&+".contains(c);
    Quote {
        text,
        is_shown: is_short(text) && text.chars().all(is_part) && is_harmless(text),
    }
}

/// Whether a text may be repeated: it has the form of a name or a pattern, possibly after its look-alike letters are
/// replaced, and not the form of a secret.
pub(crate) fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._:@|+~=/*{}-".contains(c);
    is_short(text) && to_latin(text).chars().all(is_part) && is_harmless(text)
}

fn is_short(text: &str) -> bool {
    (1..=LENGTH_MAX).contains(&text.chars().count())
}

fn is_harmless(text: &str) -> bool {
    secret::redact(text) == text
}

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_shown {
            return write!(f, "`{}`", self.text);
        }
        match self.text.chars().count() {
            1 => f.write_str("(1 character, not shown)"),
            length => write!(f, "({length} characters, not shown)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_repeated() {
        for name in [
            "role:raeder",
            "r\u{43e}le:reader",
            "videos/{id}:play",
            "tessera/subjects/user:*",
            "Allow",
        ] {
            assert_eq!(quote(name).to_string(), format!("`{name}`"));
        }
        for (other, expected) in [
            ("the password is x", "(17 characters, not shown)"),
            ("pass!", "(5 characters, not shown)"),
            ("tsk_abcdef", "(10 characters, not shown)"),
            (
                "user:d41d8cd98f00b204e9800998ecf8427e",
                "(37 characters, not shown)",
            ),
            ("!", "(1 character, not shown)"),
            ("", "(0 characters, not shown)"),
        ] {
            assert_eq!(quote(other).to_string(), expected);
        }
        assert!(!is_name(&"x".repeat(LENGTH_MAX + 1)));
        assert_eq!(
            quote_title("Ann may play, too").to_string(),
            "`Ann may play, too`"
        );
        assert_eq!(
            quote_title("tsk_abcdef").to_string(),
            "(10 characters, not shown)"
        );
    }
}
