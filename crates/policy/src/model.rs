//! The Casbin model: the built-in one, which is compiled, or another sound one, which Casbin itself serves.

use std::collections::{BTreeMap, HashSet};

use crate::{
    code,
    diagnostic::{Findings, Place},
    nearest::did_you_mean,
    quote::quote,
    text::Text,
};

mod definitions;
mod matcher;

pub(crate) use definitions::{DEFINITIONS, Model};

use definitions::EFFECTS;

/// The effect that Casbin supports too, but that allows if no rule matches.
const DENY_OVERRIDE: &str = "!some(where (p.eft == deny))";
/// The fields that a `p` rule may have: another field, such as `priority`, has a meaning in some Casbins.
const FIELDS: [&str; 5] = ["sub", "dom", "obj", "act", "eft"];

/// Reads the file, with any spacing and comments. Mistakes become findings, and the built-in model is used instead.
pub(crate) fn read(text: &Text<'_>, findings: &mut Findings) -> Model {
    let definitions = definitions(text, findings);
    let mut model = Model::ours();
    for (section, name, expected) in DEFINITIONS {
        let Some(definition) = definitions.get(name) else {
            let message = format!("the model has no `{name}` in `[{section}]`");
            let help = format!("add `{name} = {expected}`");
            findings.advise(code::MODEL_INCOMPLETE, &Place::start(&text.file), message, help);
            continue;
        };
        if normalize(definition.value) != normalize(expected) {
            model.is_ours = false;
            definition.read(name, &mut model, findings);
        }
    }
    if !model.is_ours
        && let Some(definition) = definitions.get("m")
    {
        match matcher::check(&model) {
            Ok(patterns) => model.patterns = patterns,
            Err(problem) => {
                model.is_refused = true;
                let before = definition.value.get(..problem.offset).unwrap_or_default();
                let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX);
                let place = &definition.place;
                let place = place.at_column(place.column.saturating_add(column));
                findings.advise(problem.code, &place, problem.message, problem.help.to_owned());
            }
        }
    }
    model
}

/// The right side of `name = value`.
struct Definition<'a> {
    value: &'a str,
    place: Place,
}

impl Definition<'_> {
    fn read(&self, name: &str, model: &mut Model, findings: &mut Findings) {
        let value = self.value;
        let problem = match name {
            "r" => Some((
                code::MODEL_OTHER,
                "a request is always `sub, dom, obj, act`".to_owned(),
            )),
            "p" => match fields_of(value) {
                Ok(fields) => {
                    model.fields = fields;
                    None
                }
                Err(message) => Some((code::MODEL_OTHER, message)),
            },
            "g" => match value.split(',').map(str::trim).collect::<Vec<_>>()[..] {
                ["_", "_"] => {
                    model.role_fields = 2;
                    None
                }
                _ => Some((
                    code::MODEL_OTHER,
                    "`g` is `_, _` or, with a realm, `_, _, _`".to_owned(),
                )),
            },
            // Casbin compares the text, spaces included.
            "e" => match EFFECTS.iter().find(|effect| **effect == value) {
                Some(effect) => {
                    model.effect = effect;
                    None
                }
                None => Some((code::MODEL_EFFECT, refuse_effect(value))),
            },
            _ => {
                value.clone_into(&mut model.matcher);
                None
            }
        };
        if let Some((code, message)) = problem {
            let expected = DEFINITIONS.iter().find(|(_, known, _)| *known == name);
            let help = expected.map(|(_, _, value)| format!("the usual model has `{name} = {value}`"));
            findings.advise(code, &self.place, message, help);
        }
    }
}

fn refuse_effect(value: &str) -> String {
    if normalize(value) == normalize(DENY_OVERRIDE) {
        format!("the effect `{DENY_OVERRIDE}` allows everything that no rule is about")
    } else {
        format!(
            "the effect is not one that casbin knows in this spelling; known are `{}`",
            EFFECTS.join("`, `")
        )
    }
}

fn fields_of(value: &str) -> Result<Vec<String>, String> {
    let fields: Vec<String> = value.split(',').map(|field| field.trim().to_owned()).collect();
    if let Some(field) = fields.iter().find(|field| !FIELDS.contains(&field.as_str())) {
        return Err(format!(
            "{} is no field of a rule: there are `{}`",
            quote(field),
            FIELDS.join("`, `")
        ));
    }
    let distinct: HashSet<&String> = fields.iter().collect();
    if distinct.len() < fields.len() {
        return Err("a field is given twice".to_owned());
    }
    Ok(fields)
}

// === the file ===

/// The definitions by name; other lines and duplicates become findings.
fn definitions<'a>(text: &Text<'a>, findings: &mut Findings) -> BTreeMap<&'a str, Definition<'a>> {
    let mut found = BTreeMap::new();
    let mut section = "";
    for (place, line) in text.lines() {
        let trimmed = line.trim();
        let place = place.at_column(column_of(line, trimmed));
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            check_section(&place, section, findings);
        } else if let Some((name, value)) = split_definition(trimmed) {
            if !is_definition(&place, section, name, findings) {
                continue;
            }
            let definition = Definition {
                value,
                place: place.at_column(column_of(line, value)),
            };
            if found.insert(name, definition).is_some() {
                findings.add(code::MODEL_SECOND, &place, format!("`{name}` is defined twice"));
            }
        } else {
            let help = "write `[section]`, `name = value`, or a comment on its own line".to_owned();
            let message = "the line is neither a section nor a definition on one line";
            findings.advise(code::MODEL_SYNTAX, &place, message, help);
        }
    }
    found
}

/// Splits `name = value`. A continued line or a comment after the value is not supported: Casbin joins the former and
/// cuts the latter.
fn split_definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    (!line.ends_with('\\') && !value.contains('#')).then(|| (name.trim(), value.trim()))
}

fn check_section(place: &Place, section: &str, findings: &mut Findings) {
    let known = DEFINITIONS.map(|(known, _, _)| known);
    if !known.contains(&section) {
        let message = format!("{} is no section of a model", quote(section));
        findings.advise(code::MODEL_SYNTAX, place, message, did_you_mean(section, known));
    }
}

/// Whether the name is one of the five, in its section or not.
fn is_definition(place: &Place, section: &str, name: &str, findings: &mut Findings) -> bool {
    let Some((home, _, _)) = DEFINITIONS.into_iter().find(|(_, known, _)| *known == name) else {
        let is_second = name.len() > 1 && name.starts_with(['r', 'p', 'g', 'e', 'm']);
        let (code, message) = if is_second {
            let message = format!(
                "{} is not supported: there is one definition of each kind",
                quote(name)
            );
            (code::MODEL_SECOND, message)
        } else {
            (
                code::MODEL_SYNTAX,
                format!("{} is no definition of a model", quote(name)),
            )
        };
        findings.add(code, place, message);
        return false;
    };
    if home != section {
        findings.add(
            code::MODEL_OTHER,
            place,
            format!("`{name}` belongs in `[{home}]`"),
        );
    }
    true
}

/// The text without insignificant spaces: those outside quotes that don't separate two words.
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

    fn read_text(model: &str) -> (Model, Vec<&'static str>) {
        let mut findings = Findings::default();
        let text = Text::read("model.conf", model.as_bytes(), &mut findings).unwrap();
        let model = read(&text, &mut findings);
        let found = findings
            .into_result()
            .map_or_else(|error| error.diagnostics, |()| Vec::new());
        (model, found.iter().map(|diagnostic| diagnostic.code).collect())
    }

    fn codes_of(model: &str) -> Vec<&'static str> {
        read_text(model).1
    }

    fn model_with(changed: &[(&str, &str)]) -> String {
        let line = |(section, known, default): (&str, &str, &str)| {
            let value = changed
                .iter()
                .find(|(name, _)| *name == known)
                .map_or(default, |(_, value)| *value);
            format!("[{section}]\n{known} = {value}\n")
        };
        DEFINITIONS.map(line).concat()
    }

    #[test]
    fn spaces_and_comments_mean_nothing() {
        let model = model_with(&[("p", "sub,dom , obj,act,  eft"), ("g", "_,_ ,_")]);
        let model = model.replace("[matchers]", "# why\r\n[matchers]\r");
        assert_eq!(read_text(&model), (Model::ours(), Vec::new()));
    }

    #[test]
    fn spaces_that_change_the_meaning_are_a_difference() {
        assert_eq!(
            codes_of(&model_with(&[("p", "sub, dom, obj, act, e ft")])),
            ["P011"]
        );
        let matcher = DEFINITIONS[4].2.replace("\"*\"", "\" * \"");
        let (model, found) = read_text(&model_with(&[("m", &matcher)]));
        assert_eq!((model.is_ours, found), (false, vec!["P013"]));
    }

    #[test]
    fn a_sound_model_is_read_though_it_is_not_ours() {
        let (model, found) = read_text(&model_with(&[
            ("p", "sub, obj, act"),
            ("g", "_,_"),
            ("e", "some(where (p.eft == allow))"),
            (
                "m",
                "g(r.sub, p.sub) && r.obj == p.obj && regexMatch(r.act, p.act)",
            ),
        ]));
        assert_eq!(found, [] as [&str; 0]);
        let fields = ["sub", "obj", "act"].map(str::to_owned).to_vec();
        assert_eq!(
            (model.fields, model.role_fields, model.effect, model.is_ours),
            (fields, 2, EFFECTS[1], false)
        );
        assert_eq!(
            codes_of(&model_with(&[("e", "priority(p.eft) || deny")])),
            [] as [&str; 0]
        );
    }

    #[test]
    fn what_is_not_sound_is_named_by_its_code() {
        let nested = "(".repeat(4_000);
        for (name, value, expected) in [
            ("r", "sub, obj, act", "P011"),
            ("p", "sub, dom, sub, act", "P011"),
            ("p", "sub, Dom", "P011"),
            ("p", "priority, sub, dom, obj, act, eft", "P011"),
            ("p", "sub, dom, obj, act, eft, priority", "P011"),
            ("p", "sub, dom, obj, act, owner", "P011"),
            ("p", "", "P011"),
            ("g", "_", "P011"),
            ("g", "_, _, _, _", "P011"),
            ("e", "!some(where (p.eft == deny))", "P012"),
            ("e", "true", "P012"),
            ("e", "some( where (p.eft == allow) )", "P012"),
            ("e", "priority(p.eft)||deny", "P012"),
            ("e", "priority(p.eft) || allow", "P012"),
            ("e", "subjectPriority(p.eft) || deny", "P012"),
            ("e", "some(where (p_eft == allow))", "P012"),
            (
                "e",
                "some(where (p.eft == allow)) || some(where (p.eft == allow))",
                "P012",
            ),
            ("e", "max(p.eft)", "P012"),
            ("m", "g(r.sub, p.sub", "P013"),
            ("m", nested.as_str(), "P013"),
            ("m", "eval(p.sub)", "P014"),
        ] {
            assert_eq!(
                codes_of(&model_with(&[(name, value)])),
                [expected],
                "{name} = {}",
                value.get(..40).unwrap_or(value)
            );
        }
        assert_eq!(codes_of(&format!("{}g2 = _, _\n", model_with(&[]))), ["P015"]);
        assert_eq!(
            codes_of(&format!("{}m = r.sub == p.sub\n", model_with(&[]))),
            ["P015"]
        );
        assert_eq!(codes_of("x\n"), ["P010", "P016", "P016", "P016", "P016", "P016"]);
    }
}
