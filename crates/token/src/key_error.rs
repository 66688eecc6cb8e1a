//! The error of a text that is not a key.

/// A text is not a key: the error names what was expected, and never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected {expected}")]
pub struct KeyError {
    pub(crate) expected: &'static str,
}
