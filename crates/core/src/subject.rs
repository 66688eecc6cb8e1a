//! Subjects: the names that identity systems give to people and machines, if all readers read them alike.

use unicode_normalization::is_nfc;

use crate::{
    limits::SUBJECT_BYTES_MAX,
    spelling::{NameError, check},
};

const ALLOWED: &str = "printable characters but `*`";

/// Checks a subject: printable, in one spelling, and neither a pattern nor a role.
pub(crate) fn check_subject(text: &str) -> Result<(), NameError> {
    check("subject", text, SUBJECT_BYTES_MAX, ALLOWED, is_allowed)?;
    let shape = |expected| Err(NameError::shape("subject", expected));
    if text.starts_with("role:") {
        return shape("a subject, not a role");
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return shape("without spaces around it");
    }
    // Two spellings of one name would be two subjects that look the same: a revocation of one would miss the other's
    // sessions.
    if !is_nfc(text) {
        return shape("in Unicode's normal form C (NFC)");
    }
    Ok(())
}

/// Whether a subject may have this character: it is visible, and not a pattern in rules.
pub(crate) fn is_allowed(c: char) -> bool {
    match c {
        '*' => false,
        ' '..='~' => true,
        _ => !is_unseen(c),
    }
}

/// Control characters, spaces other than the plain one, characters that change the direction of text, invisible
/// characters, and characters without a common meaning. The list is our own, so that every version and every language
/// refuses the same.
fn is_unseen(c: char) -> bool {
    let is_nothing = u32::from(c) & 0xfffe == 0xfffe;
    c.is_control()
        || is_nothing
        || matches!(
            c,
            // Spaces and line separators.
            '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}'
            | '\u{3000}'
            // Marks of direction and of shaping, joiners, and other format characters.
            | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{13430}'..='\u{1343f}'
            // Invisible: soft hyphens, fillers, variation selectors, tags, a braille blank, a byte order mark.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180d}'
            | '\u{180f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}'
            // Replacements for a character that could not be read; private use.
            | '\u{fffc}' | '\u{fffd}' | '\u{fdd0}'..='\u{fdef}' | '\u{e000}'..='\u{f8ff}'
            | '\u{f0000}'..='\u{10ffff}'
        )
}

#[cfg(test)]
mod tests {
    use crate::Subject;

    #[test]
    fn what_identity_systems_give_is_a_subject() {
        for good in [
            "user:ann",
            "auth0|123",
            "client:cms",
            "spiffe://example.org/ns/prod/sa/videos",
            "arn:aws:iam::123456789012:user/division_abc/Ann Smith",
            "o'neil@example.org",
            "jürgen@müller.example",
            "CN=Ann, OU=\"Video\", O=Example\\, Inc. & Co; C=DE",
            "https://accounts.example.org/u?id=1#me",
            "用户:安",
            "أحمد",
            "a%2Fb",
            "{}[]()<>^`~!$",
            "🙂",
        ] {
            assert_eq!(Subject::parse(good).unwrap().as_str(), good);
        }
        assert!(Subject::parse(&"ü".repeat(127)).is_ok());
        assert!(Subject::parse(&"ü".repeat(128)).is_err());
    }

    #[test]
    fn what_is_not_seen_or_read_in_two_ways_is_none() {
        for bad in [
            "",
            " ann",
            "ann ",
            "user:*",
            "*",
            "role:admin",
            "a\nb",
            "a\tb",
            "a\0",
            "a\u{7f}",
            "a\u{85}",
            "a\u{a0}b",
            "a\u{ad}b",
            "a\u{200b}b",
            "a\u{200d}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{2028}b",
            "a\u{3000}b",
            "a\u{feff}b",
            "a\u{fe0f}b",
            "a\u{e0041}b",
            "a\u{e000}b",
            "a\u{fffd}b",
            "a\u{ffff}b",
            "u\u{308}",
            "\u{212b}",
        ] {
            assert!(Subject::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_says_what_is_expected() {
        let said = |text: &str| Subject::parse(text).unwrap_err().to_string();
        assert_eq!(
            said("user:*"),
            "subject has the character `*`; allowed are printable characters but `*`"
        );
        assert_eq!(
            said("u\u{308}"),
            "subject must be in Unicode's normal form C (NFC)"
        );
        assert!(said("a\u{202e}").contains("U+202E"));
    }
}
