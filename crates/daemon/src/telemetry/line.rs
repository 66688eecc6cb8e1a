//! One log line: a time, a level, a message, and fields, each once.

use std::{borrow::Cow, fmt};

use serde_json::{Map, Value};
use tessera_core::secret;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::{format::LogFormat, traces::current_trace_id};

/// The longest value that is written whole, in characters as they are written.
const VALUE_CHARACTERS_MAX: usize = 400;
/// The part of a longer value that is processed, in bytes: no more work than that is done for it.
const VALUE_BYTES_MAX: usize = 4 * VALUE_CHARACTERS_MAX;

/// Formats events.
pub(super) struct Lines {
    pub(super) format: LogFormat,
    pub(super) is_colored: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(id) = current_trace_id() {
            fields.push("trace_id", id.into());
        }
        let level = *event.metadata().level();
        match self.format {
            LogFormat::Text => self.text(&mut writer, &time, level, &fields),
            LogFormat::Json => writeln!(writer, "{}", fields.into_json(&time, level)),
        }
    }
}

impl Lines {
    fn text(&self, writer: &mut Writer<'_>, time: &str, level: Level, fields: &Fields) -> fmt::Result {
        let (color, plain) = if self.is_colored {
            (color(level), "\x1b[0m")
        } else {
            ("", "")
        };
        write!(writer, "{time} {color}{level:>5}{plain} {}", fields.message)?;
        for (name, value) in &fields.others {
            match value {
                Value::String(text) if is_word(text) => write!(writer, " {name}={text}")?,
                Value::String(text) => write!(writer, " {name}=\"{}\"", text.replace('"', "\\\""))?,
                other => write!(writer, " {name}={other}")?,
            }
        }
        writeln!(writer)
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

/// Whether a value needs no quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\'))
}

/// The fields of an event. A field that is given twice is kept once.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.push(name, value),
        }
    }

    fn push(&mut self, name: &'static str, value: Value) {
        if self.others.iter().all(|(other, _)| *other != name) {
            self.others.push((name, value));
        }
    }

    fn into_json(self, time: &str, level: Level) -> Value {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), level.as_str().into());
        line.insert("message".to_owned(), self.message.into());
        for (name, value) in self.others {
            line.entry(name).or_insert(value);
        }
        Value::Object(line)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, clean(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // A value that exceeds the kept length stops its own formatting.
        let _ = fmt::write(&mut text, format_args!("{value:?}"));
        self.add(field, clean(&text.0).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

/// The processed part of a text, and a little more, so that a longer text is detected.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > VALUE_BYTES_MAX {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// A value as it is written: without secrets, without characters that control a terminal or a reader of lines, and cut.
fn clean(value: &str) -> String {
    let end = value.floor_char_boundary(VALUE_BYTES_MAX);
    let start = value.get(..end).unwrap_or_default();
    let redacted = match secret::find(start) {
        Some(_) => secret::redact(start),
        // Passwords in URLs, and after their name.
        None if start.contains(['@', '=']) => secret::redact_known(start),
        None => Cow::Borrowed(start),
    };
    let mut cleaned = String::with_capacity(redacted.len().min(VALUE_CHARACTERS_MAX));
    let (mut length, mut is_cut) = (0, end < value.len());
    for character in redacted.chars() {
        // The format escapes quotes. A backslash is escaped: otherwise a caller could write text that looks like an
        // escape, or end the value before its closing quote.
        let is_plain = matches!(character, '\'' | '"');
        // An escape counts with its written length: otherwise a line of only escapes would be many times as long.
        length += if is_plain {
            1
        } else {
            character.escape_debug().len()
        };
        if length > VALUE_CHARACTERS_MAX {
            is_cut = true;
            break;
        }
        if is_plain {
            cleaned.push(character);
        } else {
            cleaned.extend(character.escape_debug());
        }
    }
    if is_cut {
        cleaned.push_str("… (cut)");
    }
    cleaned
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_caller_wrote_is_in_no_line() {
        for value in [
            "subject postgresql://joe:hunter2@db/x",
            "password=hunter2",
            "a password = 'hunter2'",
        ] {
            let cleaned = clean(value);
            assert!(
                cleaned.contains("[redacted]") && !cleaned.contains("hunter2"),
                "{cleaned}"
            );
        }
        assert_eq!(
            clean("subject user:ann@example.org, a=b"),
            "subject user:ann@example.org, a=b"
        );
    }

    #[test]
    fn what_a_caller_wrote_makes_no_line_of_its_own() {
        let hostile = "x\n2026-01-01T00:00:00Z  INFO root logged in\r\u{1b}[31mred\u{2028}next\u{202e}\u{0}";
        let cleaned = clean(hostile);
        assert!(cleaned.chars().all(|c| !c.is_control()), "{cleaned}");
        for obeyed in ['\u{2028}', '\u{202e}'] {
            assert!(!cleaned.contains(obeyed), "{cleaned}");
        }
        assert!(cleaned.starts_with("x\\n2026"), "{cleaned}");
        assert_eq!(clean("müller's `käse` \"x\" 東京"), "müller's `käse` \"x\" 東京");
    }

    #[test]
    fn what_a_caller_wrote_adds_no_field() {
        let hostile = r#"x\" client=root y=\"#;
        let text = line(LogFormat::Text, || tracing::warn!(target_of = hostile, "said"));
        assert!(
            text.ends_with("  WARN said target_of=\"x\\\\\\\" client=root y=\\\\\"\n"),
            "{text}"
        );
        // A real line feed and text that only looks like one stay distinguishable.
        assert_ne!(clean("a\nb"), clean(r"a\nb"));
    }

    #[test]
    fn a_line_within_a_call_says_the_trace_of_the_call() {
        use opentelemetry::{
            Context,
            trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
        };
        let of_the_call = SpanContext::new(
            TraceId::from(0x4bf9),
            SpanId::from(7),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let within = || {
            let _call = Context::new()
                .with_remote_span_context(of_the_call.clone())
                .attach();
            tracing::warn!("said");
        };
        let said = format!(r#""trace_id":"{:032x}""#, 0x4bf9);
        assert!(line(LogFormat::Json, within).contains(&said));
        assert!(!line(LogFormat::Json, || tracing::warn!("said")).contains("trace_id"));
    }

    #[test]
    fn long_values_are_cut() {
        let cleaned = clean(&"ü".repeat(100_000));
        assert!(cleaned.chars().count() < VALUE_CHARACTERS_MAX + 10);
        assert!(cleaned.ends_with("… (cut)"));
        for escaped in ["\u{1}", "\u{202e}", "\u{e0001}"] {
            let cleaned = clean(&escaped.repeat(VALUE_CHARACTERS_MAX));
            assert!(cleaned.len() < VALUE_CHARACTERS_MAX + 20, "{}", cleaned.len());
            assert!(cleaned.ends_with("}… (cut)"), "{cleaned}");
        }
        let mut bounded = Bounded::default();
        assert!(fmt::write(&mut bounded, format_args!("{:>60000}", "x")).is_err());
        assert!(bounded.0.len() < VALUE_BYTES_MAX + 10, "{}", bounded.0.len());
    }

    #[test]
    fn secrets_are_not_written() {
        let cleaned = clean("the key tsk_production_0123456789abcdef0123456789abcdef is bad");
        assert!(!cleaned.contains("0123456789abcdef"), "{cleaned}");
    }

    /// Logs one event and returns the line.
    pub(in super::super) fn line(format: LogFormat, log: impl FnOnce()) -> String {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = Lines {
            format,
            is_colored: false,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(lines)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_each_key_once() {
        let line = line(LogFormat::Json, || {
            tracing::info!(level = "mine", number = 7, text = %"a\nb", "said {}", "\"so\"");
        });
        assert_eq!(line.matches('\n').count(), 1);
        for key in ["\"level\":", "\"message\":", "\"timestamp\":"] {
            assert_eq!(line.matches(key).count(), 1, "{line}");
        }
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["message"], "said \"so\"");
        assert_eq!(json["number"], 7);
        assert_eq!(json["text"], "a\\nb");
    }

    #[test]
    fn a_text_line_quotes_what_is_no_word() {
        let line = line(LogFormat::Text, || {
            tracing::warn!(word = "ab", words = "a \"b\"", sum = 1.5, "said\nso");
        });
        assert!(
            line.ends_with("  WARN said\\nso word=ab words=\"a \\\"b\\\"\" sum=1.5\n"),
            "{line}"
        );
    }
}
