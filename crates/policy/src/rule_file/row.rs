//! `p` rules of another model: its own fields. Fields whose name gives their meaning are checked.

use tessera_core::{RoleName, Subject};

use super::fields::{Field, Reader};
use crate::{
    code,
    nearest::advice,
    own, pattern,
    quote::quote,
    rule::{Object, Row, Star},
};

/// The characters that make a text a pattern for one of Casbin's functions.
const PATTERN: [char; 12] = ['*', '?', '^', '$', '(', ')', '[', ']', '{', '}', '\\', ';'];

impl Reader<'_> {
    pub(super) fn read_row(&mut self, kind: &Field<'_>, fields: &[Field<'_>]) {
        let names = &self.model.fields;
        if fields.len() != names.len() {
            let message = format!(
                "the rule has {} fields instead of {}",
                fields.len() + 1,
                names.len() + 1
            );
            let help = format!("write `p, {}`", names.join(", "));
            return self
                .findings
                .advise(code::RULE_FIELDS, &kind.place, message, help);
        }
        let mut is_right = true;
        for (name, field) in names.clone().iter().zip(fields) {
            is_right &= match name.as_str() {
                "sub" => self.check_holder(field),
                "dom" => is_pattern(field.text) || self.read_realm(field).is_some(),
                "eft" => self.read_effect(field).is_some(),
                _ => true,
            };
        }
        if !is_right
            || !self.check_texts(fields)
            || !self.check_patterns(fields)
            || !self.check_row_scope(fields)
        {
            return;
        }
        let row = Row {
            place: kind.place.at_column(1),
            fields: fields
                .iter()
                .map(|field| self.interner.intern(field.text))
                .collect(),
        };
        if self.is_first(row.to_line(), &row.place) {
            self.rules.rows.push(row);
        }
    }

    /// Whether the fields that are not patterns are texts that every Casbin implementation reads literally: some take
    /// the text between brackets as one field, even with commas in it.
    fn check_texts(&mut self, fields: &[Field<'_>]) -> bool {
        let is_text = |c: char| pattern::is_plain(c) || matches!(c, '.' | ':' | '/' | '*' | '|' | '+');
        for (position, field) in fields.iter().enumerate() {
            let is_pattern = self.model.patterns.iter().any(|(_, of)| *of == position);
            if !self.model.is_refused && !is_pattern && !field.text.chars().all(is_text) {
                let message = "the field has a character that only a pattern may have, and the matcher takes it for none";
                let help = "write `A-Za-z0-9._~@=:/|+*-`".to_owned();
                self.findings
                    .advise(code::RULE_OBJECT, &field.place, message, help);
                return false;
            }
        }
        true
    }

    /// Whether the patterns of a rule mean the same in every Casbin implementation. Rules share patterns, so each is
    /// checked once.
    fn check_patterns(&mut self, fields: &[Field<'_>]) -> bool {
        let model = self.model;
        for (number, (function, position)) in model.patterns.iter().enumerate() {
            let Some(field) = fields.get(*position) else {
                continue;
            };
            let key = (number, self.interner.intern(field.text));
            if self.patterns.contains(&key) {
                continue;
            }
            if let Err(refused) = pattern::check(function, field.text) {
                let is_action = model.position("act") == Some(*position);
                let code = if is_action {
                    code::RULE_ACTION
                } else {
                    code::RULE_OBJECT
                };
                let message = format!(
                    "the pattern {} for `{function}` is not supported: {refused}",
                    quote(field.text)
                );
                self.findings
                    .advise(code, &field.place, message, refused.help.to_owned());
                return false;
            }
            self.patterns.insert(key);
        }
        true
    }

    fn check_holder(&mut self, field: &Field<'_>) -> bool {
        if field.text.starts_with("role:") {
            return is_pattern(field.text) || self.check_role(field);
        }
        is_pattern(field.text) || self.check_name(field)
    }

    /// Whether the rule names an existing scope, if it has a resource and an action that are not patterns.
    fn check_row_scope(&mut self, fields: &[Field<'_>]) -> bool {
        let field = |name| {
            self.model
                .position(name)
                .and_then(|position| fields.get(position))
        };
        let (Some(object), Some(action)) = (field("obj"), field("act")) else {
            return true;
        };
        // For `keyMatch2` a colon begins a parameter; otherwise it is part of a name.
        if is_pattern(object.text) || object.text.contains([':', '.', '|', '+']) || is_pattern(action.text) {
            return true;
        }
        let resource = Object::Exactly(object.text.into());
        let known = Star::Only(action.text.into());
        if self.catalogue.matches(&resource, &known) || own::matches(self.catalogue, &resource, &known) {
            return true;
        }
        let written = format!("{}:{}", object.text, action.text);
        let help = self.catalogue.nearest_scope(&written).or_else(|| {
            let action = self.catalogue.nearest_action(&resource, action.text)?;
            Some(format!("{}:{action}", object.text))
        });
        let help = help.map(|scope| advice(&written, &scope));
        let message = format!("the catalogue has no scope {}", quote(&written));
        self.findings
            .advise(code::UNKNOWN_SCOPE, &object.place, message, help);
        false
    }
}

/// Whether a text has characters that no name has.
fn is_pattern(text: &str) -> bool {
    text.contains(PATTERN)
}

impl Row {
    /// The rule's holder, if it has one that is not a pattern.
    pub(crate) fn holder(&self, position: Option<usize>) -> Option<&str> {
        let text = self.fields.get(position?)?.as_ref();
        let is_name = RoleName::parse(text).is_ok() || Subject::parse(text).is_ok();
        (is_name && !is_pattern(text)).then_some(text)
    }

    /// The rule's resource; for a pattern, the text with which all its matches are assumed to begin.
    pub(crate) fn object(&self, position: Option<usize>) -> Option<Object> {
        let text = self.fields.get(position?)?.as_ref();
        let text = text.strip_prefix('^').unwrap_or(text);
        Some(match text.find(|c| PATTERN.contains(&c) || c == ':') {
            Some(end) => Object::Prefix(text.get(..end).unwrap_or_default().into()),
            None => Object::Exactly(text.into()),
        })
    }
}
