//! Texts that are given.

/// Reads a text that a script must not leave empty by mistake: without the option, the command means something else.
pub(super) fn filled(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty: leave the option out instead".to_owned()),
        text => Ok(text.to_owned()),
    }
}
