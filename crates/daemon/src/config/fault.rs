//! What is said of a wrong line of the configuration: where it is, which key it has and why it is wrong, without any
//! value. The file may be another one, or a secret may be in the wrong place, and what is said goes to logs.

use std::borrow::Cow;

use tessera_core::secret;

/// The longest key that is repeated, in characters.
const KEY_MAX: usize = 64;
/// What serde writes before a value or a key that it quotes, what is after that, and what is said instead.
const QUOTED: [(&str, &[&str], &str); 3] = [
    ("string \"", &["\""], "a text"),
    (
        "unknown variant `",
        &["`, expected ", "`, there are ", "`"],
        "an unknown word",
    ),
    (
        "unknown field `",
        &["`, expected ", "`, there are ", "`"],
        "an unknown key",
    ),
];

/// The position, the key and the reason of a TOML error.
pub(super) fn without_values(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let key = text.lines().nth(line - 1).and_then(key_of);
    let key = key.map_or_else(String::new, |key| format!(", `{key}`"));
    format!(
        "at line {line}, column {column}{key}: {}",
        reason(error.message())
    )
}

/// The key of a line, if it has one that can be repeated.
fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let key = match line.strip_prefix('[') {
        Some(table) => table.split(']').next()?,
        None => line.split_once('=')?.0,
    };
    let key = key.trim();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_key = (1..=KEY_MAX).contains(&key.len()) && key.chars().all(is_part);
    let is_harmless = matches!(secret::redact(key), Cow::Borrowed(_));
    (is_key && is_harmless).then_some(key)
}

/// The first line of the reason, without the values that it quotes.
fn reason(message: &str) -> String {
    let mut reason = message.lines().next().unwrap_or_default().to_owned();
    for (before, after, instead) in QUOTED {
        let Some(at) = reason.find(before) else { continue };
        let rest = reason.get(at + before.len()..).unwrap_or_default();
        let length = after.iter().find_map(|after| rest.rfind(after));
        let end = length.map_or(reason.len(), |length| at + before.len() + length + 1);
        reason.replace_range(at..end, instead);
    }
    secret::mask(&reason).into_owned()
}
