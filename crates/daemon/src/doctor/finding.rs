//! The result of a check.

use std::fmt::Display;

use tessera_core::secret::redact_known;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No problem.
    Ok,
    /// It works, but needs attention.
    Warn,
    /// An authority would not start, or would not be safe.
    Fail,
}

impl Level {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The severity.
    pub level: Level,
    /// What was checked, such as `policy`.
    pub check: &'static str,
    /// The finding. It contains nothing secret.
    pub message: String,
    /// What to do; `None` if there is no problem.
    pub todo: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Display) -> Self {
        Self {
            level: Level::Ok,
            check,
            // A path may be a secret that was typed in the wrong position.
            message: redact_known(&message.to_string()).into_owned(),
            todo: None,
        }
    }

    pub(super) fn warn(check: &'static str, message: impl Display, todo: impl Display) -> Self {
        Self {
            level: Level::Warn,
            todo: Some(redact_known(&todo.to_string()).into_owned()),
            ..Self::ok(check, message)
        }
    }

    pub(super) fn fail(check: &'static str, message: impl Display, todo: impl Display) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(check, message, todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_stands_for_a_path_is_not_repeated() {
        let secret = "tsk_production_0123456789abcdef0123456789abcdef";
        let finding = Finding::fail("configuration", format!("`{secret}`: no such file"), secret);
        assert!(!format!("{finding:?}").contains(secret), "{finding:?}");
    }
}
