//! Reads `*.csv`: one rule per line, everything checked against the catalogue.

use crate::{
    catalogue::Catalogue,
    code,
    diagnostic::{Findings, Place},
    model::Model,
    nearest::did_you_mean,
    quote::quote_kind,
    rule::{PolicyRule, RoleEdge, Rules, Star},
    text::Text,
};

mod fields;
mod row;

pub(crate) use fields::{RULES_MAX, Reader};

use fields::Field;

/// Reads a single rule; `None` if it would be refused.
pub(crate) fn read_line(catalogue: &Catalogue, line: &str) -> Option<Rules> {
    let (model, mut findings) = (Model::ours(), Findings::default());
    let text = Text::read("policy.csv", line.as_bytes(), &mut findings)?;
    let mut reader = Reader::new(catalogue, &model, &mut findings);
    reader.read(&text);
    let rules = reader.rules;
    findings.is_empty().then_some(rules)
}

impl Reader<'_> {
    /// Reads one file.
    pub(crate) fn read(&mut self, text: &Text<'_>) {
        for (place, line) in text.lines() {
            // Reported once, not for each remaining file.
            if self.is_over || self.findings.is_full() {
                return;
            }
            if is_rule(line) {
                if self.rules.count() >= self.rules_max {
                    self.is_over = true;
                    let message = format!("the policy has more than {} rules", self.rules_max);
                    return self.findings.add(code::TOO_LARGE, &place, message);
                }
                self.read_line(&place, line);
            }
        }
    }

    /// All rules read.
    pub(crate) fn finish(self) -> Rules {
        if self.rules.count() == self.rules.edges.len() && self.findings.is_empty() {
            let help = "casbin would allow an empty question; write at least one `p` rule".to_owned();
            let place = Place::start("policy.csv");
            self.findings
                .advise(code::NO_RULES, &place, "the policy has no `p` rule", help);
        }
        self.rules
    }

    fn read_line(&mut self, place: &Place, line: &str) {
        let fields = split(place, line);
        if !self.check_spelling(&fields) {
            return;
        }
        match fields.as_slice() {
            [kind, fields @ ..] if kind.text == "p" && !self.model.is_ours => self.read_row(kind, fields),
            [kind, holder, realm, object, action, effect] if kind.text == "p" => {
                self.read_policy([holder, realm, object, action, effect]);
            }
            [kind, member, role, realm] if kind.text == "g" && self.model.role_fields == 3 => {
                self.read_edge([member, role], Some(realm));
            }
            [kind, member, role] if kind.text == "g" && self.model.role_fields == 2 => {
                self.read_edge([member, role], None);
            }
            [kind, ..] => self.refuse_shape(kind, fields.len()),
            [] => {}
        }
    }

    /// Refuses what Casbin would read differently from how it looks: quotes, comments, empty fields.
    fn check_spelling(&mut self, fields: &[Field<'_>]) -> bool {
        for field in fields {
            let (code, character, message) = if field.text.contains('"') {
                (
                    code::RULE_QUOTE,
                    '"',
                    "quotes are not supported, and not needed: no name in a rule has a comma, and spaces need none",
                )
            } else if field.text.contains('#') {
                (
                    code::RULE_COMMENT,
                    '#',
                    "a comment is on its own line, not behind a rule",
                )
            } else if field.text.is_empty() {
                (code::RULE_EMPTY_FIELD, ' ', "the field is empty")
            } else {
                continue;
            };
            let before = field.text.chars().take_while(|c| *c != character).count();
            let column = field
                .place
                .column
                .saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
            self.findings.add(code, &field.place.at_column(column), message);
            return false;
        }
        true
    }

    fn refuse_shape(&mut self, kind: &Field<'_>, found: usize) {
        let (expected, form) = match kind.text {
            "p" => (6, "`p, role or subject, realm, resource, action, allow or deny`"),
            "g" if self.model.role_fields == 2 => (3, "`g, subject or role, role`"),
            "g" => (4, "`g, subject or role, role, realm`"),
            other => {
                let message = format!("a rule begins with `p` or `g`, not with {}", quote_kind(other));
                let help = did_you_mean(other, ["p", "g"])
                    .unwrap_or_else(|| "begin the line with `p` or `g`; `#` begins a comment".to_owned());
                return self.findings.advise(code::RULE_KIND, &kind.place, message, help);
            }
        };
        let message = format!("the rule has {found} fields instead of {expected}");
        self.findings
            .advise(code::RULE_FIELDS, &kind.place, message, format!("write {form}"));
    }

    fn read_policy(&mut self, [holder, realm, object, action, effect]: [&Field<'_>; 5]) {
        let place = holder.place.at_column(1);
        let known_holder = self.check_name(holder);
        let known_realm = self.read_realm(realm);
        let parsed_object = self.read_object(object);
        let parsed_action = self.read_action(action);
        let parsed_effect = self.read_effect(effect);
        let (true, Some(realm), Some(parsed_object), Some(parsed_action), Some(effect)) = (
            known_holder,
            known_realm,
            parsed_object,
            parsed_action,
            parsed_effect,
        ) else {
            return;
        };
        if !self.check_scope(object, &parsed_object, &parsed_action, effect) {
            return;
        }
        let holder = self.interner.intern(holder.text);
        let rule = PolicyRule {
            place,
            holder,
            realm,
            object: parsed_object,
            action: parsed_action,
            effect,
        };
        // With two equal rules, the order would decide which one counts.
        let key = format!(
            "p,{},{},{},{},{}",
            rule.holder,
            rule.realm.as_str(),
            rule.object.to_text(),
            rule.action.as_str(),
            rule.effect.as_str()
        );
        if self.is_first(key, &rule.place) {
            self.rules.policies.push(rule);
        }
    }

    fn read_edge(&mut self, [member, role]: [&Field<'_>; 2], realm: Option<&Field<'_>>) {
        let place = member.place.at_column(1);
        let is_member = self.check_name(member);
        let is_role = self.check_target(role);
        let Some(realm) = realm.map_or(Some(Star::Any), |realm| self.read_role_realm(realm)) else {
            return;
        };
        if !(is_member && is_role) {
            return;
        }
        let edge = RoleEdge {
            place,
            member: self.interner.intern(member.text),
            role: self.interner.intern(role.text),
            realm,
            has_realm: self.model.role_fields == 3,
        };
        // A rule for every realm is expanded before Casbin gets it, so it counts once for each realm.
        let realms: Vec<_> = edge.realms(self.catalogue.realms()).map(str::to_owned).collect();
        let mut is_first = true;
        for realm in realms {
            is_first =
                is_first && self.is_first(format!("g,{},{},{realm}", edge.member, edge.role), &edge.place);
        }
        if is_first {
            self.rules.edges.push(edge);
        }
    }
}

/// Whether the line is neither blank nor a comment.
fn is_rule(line: &str) -> bool {
    let text = line.trim_matches(' ');
    !text.is_empty() && !text.starts_with('#')
}

/// Splits a line at its commas, without surrounding spaces.
fn split<'a>(place: &Place, line: &'a str) -> Vec<Field<'a>> {
    let mut column = 1usize;
    let mut fields = Vec::with_capacity(6);
    for raw in line.split(',') {
        let text = raw.trim_matches(' ');
        let spaces = raw.chars().take_while(|c| *c == ' ').count();
        let start = u32::try_from(column + spaces).unwrap_or(u32::MAX);
        fields.push(Field {
            text,
            place: place.at_column(start),
        });
        column += raw.chars().count() + 1;
    }
    fields
}

#[cfg(test)]
mod tests;
