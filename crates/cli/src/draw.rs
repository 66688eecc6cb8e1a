//! Findings in files, drawn: the line, carets under the text, and the remedy.

use serde_json::{Value, json};
use tessera_core::secret;
use tessera_policy::{Diagnostic, PolicyError, Sources};
use tessera_proto::v1;

use crate::terminal::{Paint, counted, is_hidden, visible, width};

/// How many findings are drawn at most.
const DRAWN_MAX: usize = 50;
/// How many characters of a line are shown.
const SHOWN_MAX: usize = 160;
/// How many of these characters are before the finding.
const BEFORE_MAX: usize = 40;
/// The longest kind of a rule, and of what may be a misspelling of one, in characters.
const KIND_LENGTH_MAX: usize = 3;

/// A mistake at a position in a file.
pub(crate) struct Finding {
    code: String,
    file: String,
    line: u32,
    column: u32,
    message: String,
    help: String,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            code: diagnostic.code.to_owned(),
            file: diagnostic.file.clone(),
            line: diagnostic.line,
            column: diagnostic.column,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone().unwrap_or_default(),
        }
    }
}

impl From<&v1::Diagnostic> for Finding {
    fn from(diagnostic: &v1::Diagnostic) -> Self {
        Self {
            code: diagnostic.code.clone(),
            file: diagnostic.file.clone(),
            line: diagnostic.line,
            column: diagnostic.column,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

/// Why files are not a policy, with the files as they were read; `None` if they could not be read.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) sources: Option<Sources>,
    pub(crate) error: PolicyError,
}

impl Refused {
    pub(crate) fn findings(&self) -> Vec<Finding> {
        self.error.diagnostics.iter().map(Finding::from).collect()
    }

    /// All findings, drawn, with a line that counts them.
    pub(crate) fn draw(&self, paint: Paint) -> String {
        draw(&self.findings(), self.sources.as_ref(), paint)
    }

    pub(crate) fn to_json(&self) -> Value {
        self.findings().iter().map(Finding::to_json).collect()
    }
}

/// Findings, drawn, with a line that counts them.
pub(crate) fn draw(findings: &[Finding], sources: Option<&Sources>, paint: Paint) -> String {
    let mut drawn = String::new();
    for finding in findings.iter().take(DRAWN_MAX) {
        drawn += &finding.draw(sources, paint);
        drawn.push('\n');
    }
    if let Some(more) = findings.len().checked_sub(DRAWN_MAX).filter(|more| *more > 0) {
        drawn += &format!("  and {more} more: --json has all of them\n\n");
    }
    let mut files: Vec<&str> = findings.iter().map(|finding| finding.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    let summary = format!(
        "{} in {}",
        counted(findings.len(), "finding"),
        counted(files.len(), "file")
    );
    drawn += &paint.bad(&summary);
    drawn + "\n"
}

impl Finding {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "help": (!self.help.is_empty()).then_some(&self.help),
        })
    }

    /// The finding as a warning: `warning: code: message`.
    pub(crate) fn draw_warning(&self, sources: &Sources, paint: Paint) -> String {
        let head = paint.warn(&format!("warning: {}:", visible(&self.code)));
        self.draw_with(&head, Some(sources), paint)
    }

    /// In the style of miette: `× code: message`, the position, the line, carets, `help:`.
    fn draw(&self, sources: Option<&Sources>, paint: Paint) -> String {
        let head = paint.bad(&format!("× {}:", visible(&self.code)));
        self.draw_with(&format!("  {head}"), sources, paint)
    }

    fn draw_with(&self, head: &str, sources: Option<&Sources>, paint: Paint) -> String {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let (message, file) = (visible(&self.message), visible(&self.file));
        let mut drawn = format!("{head} {message}\n");
        let place = paint.hint(&format!("{file}:{}:{}", self.line, self.column));
        let line = sources.and_then(|sources| source_line(sources, &self.file, self.line));
        match line.filter(|line| may_be_drawn(&self.file, line)) {
            None => drawn += &format!(" {gutter} ─[{place}]\n"),
            Some(line) => {
                // Terminal output is often recorded.
                let line = &secret::mask(line);
                let excerpt = Excerpt::new(line, self.column, span(&self.file, line, self.column));
                let carets = paint.bad(&"^".repeat(excerpt.carets));
                let indent = " ".repeat(excerpt.indent);
                drawn += &format!(
                    " {gutter} ╭─[{place}]\n {number} │ {}\n {gutter} · {indent}{carets}\n {gutter} ╰────\n",
                    excerpt.text
                );
            }
        }
        if !self.help.is_empty() {
            drawn += &format!("  {} {}\n", paint.hint("help:"), visible(&self.help));
        }
        drawn
    }
}

/// A line of a file, if the file was read and the line is text.
fn source_line<'a>(sources: &'a Sources, file: &str, line: u32) -> Option<&'a str> {
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let bytes = sources.get(file)?.split(|byte| *byte == b'\n').nth(before)?;
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.strip_suffix('\r').unwrap_or(text))
}

/// Whether a line may be drawn. In a file of rules, one that is neither a rule nor a comment may be of another file, with
/// a secret that has no known shape.
fn may_be_drawn(file: &str, line: &str) -> bool {
    let kind = line.split(',').next().unwrap_or_default().trim();
    !file.ends_with(".csv") || kind.starts_with('#') || kind.chars().count() <= KIND_LENGTH_MAX
}

/// The length of the marked text from a column on, in characters.
fn span(file: &str, line: &str, column: u32) -> usize {
    let before = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let rest: String = line.chars().skip(before).collect();
    // A comment is not marked: the finding is about the whole file.
    let is_comment = before == 0 && rest.starts_with('#');
    let meant = if is_comment || rest.starts_with(is_hidden) {
        return 1;
    } else if !file.ends_with(".csv") && !file.ends_with(".toml") {
        rest.as_str()
    } else if file.ends_with(".toml") {
        toml_word(&rest)
    } else if before == 0
        && line.starts_with(['p', 'g'])
        && line.trim_start_matches(['p', 'g', ' ']).starts_with(',')
    {
        // The first field is correct: the whole rule is marked.
        rest.as_str()
    } else {
        rest.split(',').next().unwrap_or_default()
    };
    meant.trim_end().chars().count().max(1)
}

/// A quoted text with its quotes, or a bare word.
fn toml_word(rest: &str) -> &str {
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''));
    let end = match quote {
        Some(quote) => rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == quote)
            .map(|(at, _)| at + 1),
        None if rest.starts_with('[') => rest.rfind(']').map(|at| at + 1),
        None => rest.find([' ', '=', ',', ']', '#']),
    };
    end.and_then(|end| rest.get(..end)).unwrap_or(rest)
}

/// The displayed part of a line.
struct Excerpt {
    text: String,
    /// How many columns are before the carets.
    indent: usize,
    carets: usize,
}

impl Excerpt {
    fn new(line: &str, column: u32, span: usize) -> Self {
        let at = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let length = line.chars().count();
        let at = at.min(length);
        let from = if length > SHOWN_MAX {
            at.saturating_sub(BEFORE_MAX)
        } else {
            0
        };
        let part = |from: usize, to: usize| -> String { line.chars().take(to).skip(from).collect() };
        let end = (from + SHOWN_MAX).min(length);
        let before = format!("{}{}", if from > 0 { "…" } else { "" }, visible(&part(from, at)));
        let meant = part(at, (at + span).min(end));
        let after = part((at + span).min(end), end);
        let meant = visible(&meant);
        Self {
            indent: width(&before),
            carets: width(&meant).max(1),
            text: format!(
                "{before}{meant}{}{}",
                visible(&after),
                if end < length { "…" } else { "" }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_rule_is_not_drawn() {
        for line in [
            "p, role:raeder, *, videos, read, allow",
            "pp, x",
            "# nothing yet",
            "",
        ] {
            assert!(may_be_drawn("policy.csv", line), "{line}");
        }
        for line in [
            "sk_live_hunter2, x",
            "the password is hunter2",
            "STRIPE_KEY=\"hunter2\"",
        ] {
            assert!(!may_be_drawn("policy.csv", line), "{line}");
        }
        assert!(may_be_drawn("model.conf", "m = a && b"));
    }

    fn marked(file: &str, line: &str, column: u32) -> String {
        let excerpt = Excerpt::new(line, column, span(file, line, column));
        let (start, end) = (excerpt.indent, excerpt.indent + excerpt.carets);
        excerpt.text.chars().take(end).skip(start).collect()
    }

    #[test]
    fn carets_stand_under_the_field() {
        let rule = "p, role:veiwer , *, videos, read, allow";
        assert_eq!(marked("policy.csv", rule, 4), "role:veiwer");
        assert_eq!(marked("policy.csv", rule, 1), rule);
        assert_eq!(marked("policy.csv", "p2, role:x", 1), "p2");
        assert_eq!(marked("policy.csv", "P, role:x", 1), "P");
        assert_eq!(marked("policy.csv", "p, a,, b", 6), ",");
        assert_eq!(marked("policy.csv", "p, a\u{200b}b", 5), "<U+200B>");
        assert_eq!(
            marked("t.toml", r#"allow = ["videos:raed", "b"]"#, 10),
            r#""videos:raed""#
        );
        assert_eq!(marked("t.toml", "reamls = 3", 1), "reamls");
        assert_eq!(marked("model.conf", "e = some(x, y) ", 5), "some(x, y)");
    }

    #[test]
    fn a_place_beyond_the_line_is_its_end() {
        let excerpt = Excerpt::new("ab", 99, span("policy.csv", "ab", 99));
        assert_eq!(
            (excerpt.indent, excerpt.carets, excerpt.text.as_str()),
            (2, 1, "ab")
        );
    }

    #[test]
    fn of_a_long_line_only_a_part_is_shown() {
        let line = format!("p, {}, role:veiwer, {}", "x".repeat(500), "y".repeat(500));
        let excerpt = Excerpt::new(&line, 506, span("policy.csv", &line, 506));
        let shown: String = excerpt
            .text
            .chars()
            .skip(excerpt.indent)
            .take(excerpt.carets)
            .collect();
        assert_eq!(shown, "role:veiwer");
        assert!(excerpt.text.starts_with('…') && excerpt.text.ends_with('…'));
        assert!(excerpt.text.chars().count() <= SHOWN_MAX + 2);
    }

    #[test]
    fn whatever_a_file_has_is_drawn_as_text() {
        let long = "é, ".repeat(300);
        let lines = [
            "",
            "\r",
            "\u{feff}\x1b[2J",
            "p,\u{202e}",
            "\"open",
            "[[",
            "映画, \u{301}",
            &long,
        ];
        for (line, file) in lines
            .iter()
            .flat_map(|line| ["a.csv", "a.toml", "model.conf"].map(|file| (line, file)))
        {
            let sources = [
                ("model.conf", ""),
                ("catalogue.toml", ""),
                ("a.csv", ""),
                ("tests/a.toml", ""),
            ];
            let file = if file == "a.toml" { "tests/a.toml" } else { file };
            let sources = sources.map(|(name, empty)| {
                (
                    name,
                    if name == file {
                        line.as_bytes()
                    } else {
                        empty.as_bytes()
                    },
                )
            });
            let sources = Sources::from_memory(&sources).unwrap();
            for (line, column) in
                (0..3).flat_map(|line| (0..400).step_by(3).map(move |column| (line, column)))
            {
                let finding = Finding {
                    code: "P000".to_owned(),
                    file: file.to_owned(),
                    line,
                    column,
                    message: "a\x1b[31m".to_owned(),
                    help: "b\n\u{7f}".to_owned(),
                };
                let drawn = draw(&[finding], Some(&sources), Paint::plain());
                assert!(!drawn.replace('\n', "").contains(is_hidden), "{drawn:?}");
                assert!(drawn.lines().all(|line| width(line) < 2 * SHOWN_MAX), "{drawn}");
            }
        }
    }
}
