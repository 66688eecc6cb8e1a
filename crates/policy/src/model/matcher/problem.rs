//! What is wrong with a matcher.

use crate::code;

/// The accepted forms.
const HELP: &str = "join conditions with `&&`, `||`, `!(…)` and parentheses; a condition is `a == b`, `a != b`, \
                    `a in [\"x\", \"y\"]`, `g(r.sub, p.sub, r.dom)`, or `keyMatch` to `keyMatch5` or `regexMatch` of a \
                    field `r.…` and a pattern";

/// What is wrong with a matcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: &'static str,
    /// The position in the matcher, in bytes.
    pub(crate) offset: usize,
}

impl Problem {
    pub(super) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            code: code::MODEL_MATCHER,
            message: message.into(),
            help: HELP,
            offset,
        }
    }
}
