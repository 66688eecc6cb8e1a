//! The Casbin model: exactly one is supported, and the reader says where another one differs.

use std::collections::BTreeMap;

use crate::{
    code,
    diagnostic::{Findings, Place},
    nearest::did_you_mean,
    oracle,
    text::Text,
};

/// The definitions of the supported model: section, name, value.
pub(crate) const DEFINITIONS: [(&str, &str, &str); 5] = [
    ("request_definition", "r", "sub, dom, obj, act"),
    ("policy_definition", "p", "sub, dom, obj, act, eft"),
    ("role_definition", "g", "_, _, _"),
    (
        "policy_effect",
        "e",
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    ),
    (
        "matchers",
        "m",
        r#"g(r.sub, p.sub, r.dom) && (p.dom == "*" || r.dom == p.dom) && keyMatch(r.obj, p.obj) && (p.act == "*" || r.act == p.act)"#,
    ),
];

/// How much of what can nest a matcher may have to be compiled.
const NESTING_MAX: usize = 64;

/// Effects that Casbin knows, other than the supported one.
const OTHER_EFFECTS: [&str; 3] = [
    "some(where(p.eft==allow))",
    "!some(where(p.eft==deny))",
    "priority(p.eft)||deny",
];

/// Checks that the file says the supported model, whatever its spaces and comments.
pub(crate) fn check(text: &Text<'_>, findings: &mut Findings) {
    let mut found = BTreeMap::new();
    let mut section = "";
    for (place, line) in text.lines() {
        let trimmed = line.trim();
        let place = place.at_column(column_of(line, trimmed));
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
            check_section(&place, section, findings);
        } else if let Some((name, value)) = split_definition(trimmed) {
            let value_place = place.at_column(column_of(line, value));
            if check_definition(&place, &value_place, (section, name, value), findings)
                && found.insert(name, ()).is_some()
            {
                findings.add(code::MODEL_SECOND, &place, format!("`{name}` is defined twice"));
            }
        } else {
            let help = "write `[section]`, `name = value`, or a comment on its own line".to_owned();
            let message = format!("`{trimmed}` is neither a section nor a definition on one line");
            findings.advise(code::MODEL_SYNTAX, &place, message, help);
        }
    }
    for (section, name, value) in DEFINITIONS {
        if !found.contains_key(name) {
            let message = format!("the model has no `{name}` in `[{section}]`");
            let help = format!("add `{name} = {value}`");
            findings.advise(code::MODEL_INCOMPLETE, &Place::start(&text.file), message, help);
        }
    }
}

/// Splits `name = value`. A continued line or a comment behind the value is not read: Casbin joins the
/// one and cuts the other.
fn split_definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    (!line.ends_with('\\') && !value.contains('#')).then(|| (name.trim(), value.trim()))
}

fn check_section(place: &Place, section: &str, findings: &mut Findings) {
    let known = DEFINITIONS.map(|(known, _, _)| known);
    if !known.contains(&section) {
        let message = format!("`[{section}]` is no section of a model");
        findings.advise(code::MODEL_SYNTAX, place, message, did_you_mean(section, known));
    }
}

/// Whether the definition is one of the five, right or wrong.
fn check_definition(
    place: &Place,
    value_place: &Place,
    (section, name, value): (&str, &str, &str),
    findings: &mut Findings,
) -> bool {
    let Some((home, _, expected)) = DEFINITIONS.into_iter().find(|(_, known, _)| *known == name) else {
        let is_second = name.len() > 1 && name.starts_with(['r', 'p', 'g', 'e', 'm']);
        let (code, message) = if is_second {
            (
                code::MODEL_SECOND,
                format!("`{name}` is not supported: there is one definition of each kind"),
            )
        } else {
            (
                code::MODEL_SYNTAX,
                format!("`{name}` is no definition of a model"),
            )
        };
        findings.add(code, place, message);
        return false;
    };
    if home != section {
        let message = format!("`{name}` belongs in `[{home}]`");
        findings.add(code::MODEL_OTHER, place, message);
    } else if normalize(value) != normalize(expected) {
        let (code, message) = difference(name, value);
        let help = format!("this version supports one model; write `{name} = {expected}`");
        findings.advise(code, value_place, message, help);
    }
    true
}

fn difference(name: &str, value: &str) -> (&'static str, String) {
    let normalized = normalize(value);
    match name {
        "e" if OTHER_EFFECTS.contains(&normalized.as_str()) => (
            code::MODEL_EFFECT,
            format!("the effect `{value}` is not supported in this version"),
        ),
        "e" => (
            code::MODEL_EFFECT,
            format!("the effect `{value}` is unknown to casbin"),
        ),
        "m" if normalized.contains("eval(") => (
            code::MODEL_EVAL,
            "the matcher uses `eval`, which runs without any limit".to_owned(),
        ),
        // The compiler recurses into what is nested, and has no limit of its own.
        "m" if value.matches(['(', '[', '{', '!', '-']).count() > NESTING_MAX => (
            code::MODEL_OTHER,
            "the matcher differs from the supported one".to_owned(),
        ),
        "m" => match oracle::compile_matcher(value) {
            Err(error) => (
                code::MODEL_MATCHER,
                format!("the matcher does not compile: {error}"),
            ),
            Ok(()) => (
                code::MODEL_OTHER,
                "the matcher differs from the supported one".to_owned(),
            ),
        },
        _ => (
            code::MODEL_OTHER,
            format!("the definition of `{name}` differs from the supported one"),
        ),
    }
}

/// The text without the spaces that mean nothing: those outside quotes that don't separate two words.
fn normalize(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut normalized = String::with_capacity(text.len());
    let mut is_quoted = false;
    let mut is_spaced = false;
    for character in text.chars() {
        if character == '"' {
            is_quoted = !is_quoted;
        }
        if character.is_whitespace() && !is_quoted {
            is_spaced = true;
            continue;
        }
        if is_spaced && is_word(character) && normalized.ends_with(is_word) {
            normalized.push(' ');
        }
        is_spaced = false;
        normalized.push(character);
    }
    normalized
}

/// The column of `part`, a slice of `line`.
fn column_of(line: &str, part: &str) -> u32 {
    let offset = (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
    let before = line.get(..offset).unwrap_or_default().chars().count();
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes_of(model: &str) -> Vec<&'static str> {
        let mut findings = Findings::default();
        if let Some(text) = Text::read("model.conf", model.as_bytes(), &mut findings) {
            check(&text, &mut findings);
        }
        findings.into_result().map_or_else(
            |error| {
                error
                    .diagnostics
                    .iter()
                    .map(|diagnostic| diagnostic.code)
                    .collect()
            },
            |()| Vec::new(),
        )
    }

    fn model_with(name: &str, value: &str) -> String {
        let line = |(section, known, default)| {
            format!(
                "[{section}]\n{known} = {}\n",
                if known == name { value } else { default }
            )
        };
        DEFINITIONS.map(line).concat()
    }

    #[test]
    fn spaces_and_comments_mean_nothing() {
        let model = model_with("p", "sub,dom , obj,act,  eft").replace("[matchers]", "# why\r\n[matchers]\r");
        assert_eq!(codes_of(&model), [] as [&str; 0]);
    }

    #[test]
    fn spaces_that_change_the_meaning_are_a_difference() {
        assert_eq!(codes_of(&model_with("p", "sub, dom, obj, act, e ft")), ["P011"]);
        let matcher = DEFINITIONS[4].2.replace("\"*\"", "\" * \"");
        assert_eq!(codes_of(&model_with("m", &matcher)), ["P011"]);
    }

    #[test]
    fn what_differs_is_named_by_its_code() {
        assert_eq!(
            codes_of(&model_with("e", "some(where (p.eft == allow))")),
            ["P012"]
        );
        assert_eq!(codes_of(&model_with("m", "g(r.sub, p.sub")), ["P013"]);
        assert_eq!(codes_of(&model_with("m", "eval(p.sub)")), ["P014"]);
        assert_eq!(codes_of(&model_with("m", &"(".repeat(4_000))), ["P011"]);
        assert_eq!(codes_of(&model_with("g", "_, _")), ["P011"]);
        assert_eq!(codes_of(&format!("{}g2 = _, _\n", model_with("", ""))), ["P015"]);
        assert_eq!(
            codes_of(&format!("{}m = x\n", model_with("", ""))),
            ["P015", "P011"]
        );
        assert_eq!(codes_of("x\n"), ["P010", "P016", "P016", "P016", "P016", "P016"]);
    }
}
