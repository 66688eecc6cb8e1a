//! Printing answers.

use std::io::{self, Write};

use serde_json::Value;

use crate::{arguments::Output, failure::Failure};

impl Output {
    /// Prints one answer: the JSON document, one field of it, or the lines for people.
    pub(crate) fn print(&self, json: &Value, human: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match &self.field {
            Some(path) => field(json, path)?,
            None if self.json => json.to_string(),
            None => human(),
        };
        print_line(&text)
    }
}

/// The value at a path of names and numbers; a text without its quotes.
fn field(json: &Value, path: &str) -> Result<String, Failure> {
    let pointer = format!("/{}", path.replace('.', "/"));
    match json.pointer(&pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(Failure::cannot_run(format!(
            "the answer has no field `{path}`: --json shows them all"
        ))),
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
