//! The length and the characters that a text must have to be a name.

/// Why a text is not a name. The message tells the author of the text what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct NameError {
    what: &'static str,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("is empty")]
    Empty,
    #[error("is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("has the character `{}`; allowed are {allowed}", shown(*.found))]
    Character { found: char, allowed: &'static str },
    #[error("must be {expected}")]
    Shape { expected: &'static str },
}

/// A character as text, or by its number if a reader or a terminal would not take it for what it is.
fn shown(character: char) -> String {
    match character {
        ' '..='~' => character.to_string(),
        _ if character.is_alphanumeric() => character.to_string(),
        _ => format!("U+{:04X}", u32::from(character)),
    }
}

impl NameError {
    pub(crate) fn shape(what: &'static str, expected: &'static str) -> Self {
        Self {
            what,
            problem: Problem::Shape { expected },
        }
    }
}

/// Checks length and characters of `text`.
pub(crate) fn check(
    what: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    let problem = if text.is_empty() {
        Problem::Empty
    } else if text.len() > max {
        Problem::TooLong { max }
    } else if let Some(found) = text.chars().find(|&c| !is_allowed(c)) {
        Problem::Character { found, allowed }
    } else {
        return Ok(());
    };
    Err(NameError { what, problem })
}
