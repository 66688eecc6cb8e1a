//! A server's log, checked line by line.

use serde_json::Value;

pub(super) use crate::log::Log;

/// The longest line, in bytes.
const LINE_MAX: usize = 8 * 1024;
/// The characters that a terminal or a viewer interprets, besides control characters.
const OBEYED: [char; 12] = [
    '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2068}', '\u{feff}',
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// A valid line.
pub(super) struct Line {
    format: Format,
    pub(super) text: String,
}

impl Log {
    /// Its lines. Each must have been made by the server.
    pub(super) fn lines(&self, format: Format) -> Vec<Line> {
        let text = String::from_utf8(self.bytes()).expect("the log is UTF-8");
        assert!(text.ends_with('\n'), "the log ends within a line");
        // Not `lines`, which treats a carriage return as a part of the end.
        let lines = text.trim_end_matches('\n').split('\n');
        lines
            .map(|line| {
                assert_sound(format, line).unwrap_or_else(|problem| panic!("{problem}: {line:?}"));
                Line {
                    format,
                    text: line.to_owned(),
                }
            })
            .collect()
    }
}

impl Line {
    pub(super) fn field(&self, name: &str) -> Option<String> {
        match self.format {
            Format::Json => {
                let line: Value = serde_json::from_str(&self.text).unwrap();
                line[name].as_str().map(str::to_owned)
            }
            Format::Text => {
                let (_, rest) = self.text.split_once(&format!(" {name}="))?;
                rest.split(' ').next().map(str::to_owned)
            }
        }
    }
}

/// Whether a line is complete, and nothing of it was made by a caller.
pub(super) fn assert_sound(format: Format, line: &str) -> Result<(), String> {
    if line.len() > LINE_MAX {
        return Err(format!("{} bytes", line.len()));
    }
    if let Some(bad) = line.chars().find(|c| c.is_control() || OBEYED.contains(c)) {
        return Err(format!("{bad:?}"));
    }
    let (timestamp, level) = match format {
        Format::Text => {
            let mut words = line.split_ascii_whitespace();
            let mut word = || words.next().unwrap_or_default().to_owned();
            (word(), word())
        }
        Format::Json => {
            let json: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            // A duplicate key is lost when it is written again.
            if json.to_string().len() != line.len() {
                return Err("a key is there twice".to_owned());
            }
            let text = |name: &str| json[name].as_str().map(str::to_owned);
            text("message").ok_or("no message")?;
            (
                text("timestamp").ok_or("no timestamp")?,
                text("level").ok_or("no level")?,
            )
        }
    };
    let is_time = timestamp.len() == "2026-01-01T00:00:00.000000Z".len()
        && timestamp.ends_with('Z')
        && timestamp.as_bytes()[10] == b'T';
    let is_level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level.as_str());
    if is_time && is_level {
        Ok(())
    } else {
        Err("neither a time nor a level".to_owned())
    }
}
