//! Findings about a policy, with advice on how to fix them.

use std::{fmt, sync::Arc};

use tessera_core::secret;

use crate::{code::CODES, invisible::is_invisible, work::Work};

/// The most characters of a message.
const LENGTH_MAX: usize = 1_000;

/// One finding, at one position of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code, one of [`CODES`](crate::CODES).
    pub code: &'static str,
    /// The file, relative to the policy's directory.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it, or the nearest known name.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The finding without its content, for callers that may not read the files: its position and the meaning of its
    /// code.
    #[must_use]
    pub fn without_content(&self) -> Self {
        let title = CODES.iter().find(|(code, _)| *code == self.code);
        Self {
            message: title.map_or("", |(_, title)| title).to_owned(),
            help: None,
            ..self.clone()
        }
    }

    /// A warning: the policy is valid, but the caller should know this.
    pub(crate) fn warning(code: &'static str, place: &Place, message: &str, help: &str) -> Self {
        Self::new(code, place, message, Some(help))
    }

    fn new(code: &'static str, place: &Place, message: &str, help: Option<&str>) -> Self {
        Self {
            code,
            file: printable(&place.file),
            line: place.line,
            column: place.column,
            message: printable(message),
            help: help.map(printable),
        }
    }
}

/// The text without secrets, limited in length, and without characters that could change how a terminal or a log shows
/// it: wrong names are quoted, and TOML has escapes for every character.
fn printable(text: &str) -> String {
    let text = secret::redact(text);
    let mut printable = String::with_capacity(text.len());
    for (position, character) in text.chars().enumerate() {
        if position == LENGTH_MAX {
            printable.push('…');
            break;
        }
        if is_invisible(character) {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            file,
            line,
            column,
            message,
            help,
        } = self;
        write!(f, "{file}:{line}:{column}: {code}: {message}")?;
        help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Why files are not a policy: every finding, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The findings; never empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl PolicyError {
    /// Every finding [without its content](Diagnostic::without_content).
    #[must_use]
    pub fn without_content(&self) -> Self {
        Self {
            diagnostics: self.diagnostics.iter().map(Diagnostic::without_content).collect(),
        }
    }

    /// A single finding.
    pub(crate) fn of(
        code: &'static str,
        place: &Place,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Self {
        Self {
            diagnostics: vec![Diagnostic::new(
                code,
                place,
                &message.into(),
                help.into().as_deref(),
            )],
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// How many findings are kept: otherwise a file of another kind would give one for each of its lines.
const DIAGNOSTICS_MAX: usize = 1_000;

/// A position in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// The beginning of a file: the position for what is missing.
    pub(crate) fn start(file: &str) -> Self {
        Self {
            file: Arc::from(file),
            line: 1,
            column: 1,
        }
    }

    pub(crate) fn at_column(&self, column: u32) -> Self {
        Self {
            column,
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Collects findings, so that one run reports all of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    diagnostics: Vec<Diagnostic>,
    work: Work,
}

impl Findings {
    /// Findings of work that may be stopped: then they are full, so that a search for more ends.
    pub(crate) fn of(work: &Work) -> Self {
        Self {
            diagnostics: Vec::new(),
            work: work.clone(),
        }
    }

    pub(crate) fn add(&mut self, code: &'static str, place: &Place, message: impl Into<String>) {
        self.push(code, place, &message.into(), None);
    }

    /// Adds a finding with advice.
    pub(crate) fn advise(
        &mut self,
        code: &'static str,
        place: &Place,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.push(code, place, &message.into(), help.into().as_deref());
    }

    fn push(&mut self, code: &'static str, place: &Place, message: &str, help: Option<&str>) {
        if !self.is_full() {
            self.diagnostics.push(Diagnostic::new(code, place, message, help));
        }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Whether further findings would be dropped, or the caller no longer waits for them.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX || self.work.is_over()
    }

    /// Fails with everything found, if anything was.
    pub(crate) fn into_result(mut self) -> Result<(), PolicyError> {
        if self.diagnostics.is_empty() {
            return Ok(());
        }
        self.diagnostics
            .sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        Err(PolicyError {
            diagnostics: self.diagnostics,
        })
    }
}
