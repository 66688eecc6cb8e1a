//! Printing answers.

use std::io::{self, Write};

use serde_json::Value;

use crate::{arguments::Output, failure::Failure};

impl Output {
    /// Prints one answer: the JSON document, or the lines for people.
    pub(crate) fn print(self, json: &Value, human: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json { json.to_string() } else { human() };
        print_line(&text)
    }
}

/// Prints one line, and says so where nobody reads it.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::cannot_run(format!("stdout can't be written: {error}")))
}

/// Lines of a name and a value, the names in one column; empty values are left out.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().filter(|(_, value)| !value.is_empty());
    lines
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}
