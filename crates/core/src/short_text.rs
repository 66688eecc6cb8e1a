//! Short text that lies in its value: an identifier made of it is copied like a number.

/// Text of at most `MAX` bytes, ordered as text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShortText<const MAX: usize> {
    /// The text, then zeros.
    pub(crate) bytes: [u8; MAX],
    pub(crate) len: u8,
}

impl<const MAX: usize> ShortText<MAX> {
    /// `None` if `text` is longer.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let len = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len })
    }

    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        // It was copied from text, and so it is text.
        str::from_utf8(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_if_it_fits() {
        for text in ["", "a", "abcd", "\u{e9}\u{e9}"] {
            assert_eq!(ShortText::<4>::of(text).unwrap().as_str(), text);
        }
        assert!(ShortText::<4>::of("abcde").is_none());
        assert!(ShortText::<500>::of(&"a".repeat(256)).is_none());
    }

    #[test]
    fn texts_are_ordered_as_text_is() {
        let of = |text| ShortText::<4>::of(text).unwrap();
        assert!(["", "a", "a\0", "aa", "ab", "b", "ba"].map(of).is_sorted());
    }
}
