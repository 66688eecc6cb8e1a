//! Printing answers.

use std::io::{self, Write};

use serde_json::Value;

use crate::{
    arguments::Output,
    failure::Failure,
    terminal::{padded, visible, width},
};

impl Output {
    /// Prints one answer: the JSON document, one field of it, or the lines for people.
    pub(crate) fn print(&self, json: &Value, human: impl FnOnce() -> String) -> Result<(), Failure> {
        print_line(&self.text(json, human)?)
    }

    fn text(&self, json: &Value, human: impl FnOnce() -> String) -> Result<String, Failure> {
        match &self.field {
            Some(path) => field(json, path),
            None if self.json => Ok(json.to_string()),
            None => Ok(human()),
        }
    }
}

impl Output {
    /// Prints what is shown only once. If it is not read, for example because of a closed pipe, that is a failure,
    /// which names what is `lost` and the remedy.
    pub(crate) fn print_once(
        &self,
        json: &Value,
        lost: &str,
        human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let why = match stream_line(&self.text(json, human)?) {
            Ok(Reader::Present) => return Ok(()),
            Ok(Reader::Gone) => "the reader of the output has closed it".to_owned(),
            Err(failure) => failure.message().to_owned(),
        };
        Err(Failure::cannot_run(format!("{why}: {lost}")))
    }

    /// Refuses a `--field` that the answer will not have, before a secret is made that is shown only once.
    pub(crate) fn check_field(&self, names: &[&str]) -> Result<(), Failure> {
        let Some(path) = &self.field else { return Ok(()) };
        if path.split('.').next().is_some_and(|name| names.contains(&name)) {
            return Ok(());
        }
        Err(Failure::cannot_run(format!(
            "the answer has no field `{path}`: it has {}",
            names.join(", ")
        )))
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

/// Whether the output is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It was printed.
    Present,
    /// The pipe is closed, for example by `head`.
    Gone,
}

/// Prints one line. A closed pipe is not a failure: the request is done.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    stream_line(text).map(|_| ())
}

/// Prints one line of many, and returns whether another one is useful.
pub(crate) fn stream_line(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::cannot_run(format!("stdout can't be written: {error}"))),
    }
}

/// Rows below a header, each column as wide as its widest cell.
pub(crate) fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<[String; N]> = [header]
        .iter()
        .chain(rows)
        .map(|cells| cells.each_ref().map(|cell| visible(cell).into_owned()))
        .collect();
    let mut widths = [0; N];
    for cells in &lines {
        for (widest, cell) in widths.iter_mut().zip(cells) {
            *widest = width(cell).max(*widest);
        }
    }
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths);
        let cells: Vec<_> = cells.map(|(cell, widest)| padded(cell, widest)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// Lines of a name and a value, the names in one column; empty values are left out.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().filter(|(_, value)| !value.is_empty());
    lines
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_nothing_acts_on_the_terminal() {
        let rows = [["映画", "1"], ["a\u{1b}[2J", "22"]].map(|cells| cells.map(str::to_owned));
        assert_eq!(
            columns(["SUBJECT", "N"], &rows),
            "SUBJECT       N\n映画          1\na<U+001B>[2J  22\n"
        );
    }
}
