//! Reads `*.csv`: one rule per line, everything checked against the catalogue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tessera_core::RoleName;

use crate::{
    catalogue::Catalogue,
    code,
    diagnostic::{Findings, Place},
    look_alike::look_alike,
    model::Model,
    nearest::{advice, did_you_mean},
    own,
    quote::{quote, quote_kind},
    rule::{Effect, Interner, Object, PolicyRule, RoleEdge, Rules, Star},
    subject::{self, Problem},
    text::Text,
};

mod row;

/// The most rules that a policy may have.
pub(crate) const RULES_MAX: usize = 1_000_000;

/// Reads a single rule; `None` if it would be refused.
pub(crate) fn read_line(catalogue: &Catalogue, line: &str) -> Option<Rules> {
    let (model, mut findings) = (Model::ours(), Findings::default());
    let text = Text::read("policy.csv", line.as_bytes(), &mut findings)?;
    let mut reader = Reader::new(catalogue, &model, &mut findings);
    reader.read(&text);
    let rules = reader.rules;
    findings.is_empty().then_some(rules)
}

/// Reads rule files one after the other.
pub(crate) struct Reader<'a> {
    catalogue: &'a Catalogue,
    model: &'a Model,
    findings: &'a mut Findings,
    interner: Interner,
    rules: Rules,
    /// The first position of each rule, by its fields.
    seen: HashMap<String, Place>,
    /// The patterns that were checked, each with the position of its function: rules share them.
    patterns: HashSet<(usize, Arc<str>)>,
    /// The most rules.
    rules_max: usize,
    /// Whether there are more.
    is_over: bool,
}

/// A field of a line, with its position.
struct Field<'a> {
    text: &'a str,
    place: Place,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(catalogue: &'a Catalogue, model: &'a Model, findings: &'a mut Findings) -> Self {
        Self {
            catalogue,
            model,
            findings,
            interner: Interner::default(),
            rules: Rules::default(),
            seen: HashMap::new(),
            patterns: HashSet::new(),
            rules_max: RULES_MAX,
            is_over: false,
        }
    }

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

    fn is_first(&mut self, key: String, place: &Place) -> bool {
        if let Some(first) = self.seen.get(&key) {
            self.findings
                .add(code::RULE_TWICE, place, format!("the rule is in {first} already"));
            return false;
        }
        self.seen.insert(key, place.clone());
        true
    }

    /// Whether the field is a role of the catalogue or a subject.
    fn check_name(&mut self, field: &Field<'_>) -> bool {
        if field.text.starts_with("role:") {
            return self.check_role(field);
        }
        let Err(Problem { code, message, help }) = subject::check(field.text, self.catalogue) else {
            return true;
        };
        self.findings.advise(code, &field.place, message, help);
        false
    }

    fn check_role(&mut self, field: &Field<'_>) -> bool {
        let is_known = RoleName::parse(field.text).is_ok_and(|role| self.catalogue.has_role(&role));
        if !is_known {
            let message = format!("the catalogue has no role {}", quote(field.text));
            let help = self
                .catalogue
                .nearest_role(field.text)
                .map(|role| advice(field.text, &role));
            self.findings
                .advise(code::UNKNOWN_ROLE, &field.place, message, help);
        }
        is_known
    }

    fn check_target(&mut self, field: &Field<'_>) -> bool {
        if field.text.starts_with("role:") {
            return self.check_role(field);
        }
        let message = format!("{} is no role; only roles can be given", quote(field.text));
        let nearest = self.catalogue.nearest_role(field.text);
        // `viewer` for `role:viewer`.
        let nearest = nearest.or_else(|| self.catalogue.nearest_role(&format!("role:{}", field.text)));
        let help = nearest.map(|role| advice(field.text, &role));
        self.findings
            .advise(code::ROLE_TARGET, &field.place, message, help);
        false
    }

    /// The realm of a `g` rule. With the built-in model `*` is expanded to each realm. With another model, Casbin gets
    /// the text of the file, and would take `*` for the name of a realm.
    fn read_role_realm(&mut self, field: &Field<'_>) -> Option<Star> {
        let realm = self.read_realm(field)?;
        if realm == Star::Any && !self.model.is_ours {
            let message = "with a model of your own, a `g` rule names its realm: casbin takes `*` for a name";
            let help = "write one rule for each realm, or give roles no realm (`g = _, _`)".to_owned();
            self.findings
                .advise(code::UNKNOWN_REALM, &field.place, message, help);
            return None;
        }
        Some(realm)
    }

    fn read_realm(&mut self, field: &Field<'_>) -> Option<Star> {
        if field.text == "*" {
            return Some(Star::Any);
        }
        let mut names = self
            .catalogue
            .realms()
            .iter()
            .map(tessera_core::RealmName::as_str);
        if names.clone().any(|name| name == field.text) {
            return Some(Star::Only(self.interner.intern(field.text)));
        }
        let help = did_you_mean(field.text, &mut names);
        let message = format!("the catalogue has no realm {}", quote(field.text));
        self.findings
            .advise(code::UNKNOWN_REALM, &field.place, message, help);
        None
    }

    fn read_object(&mut self, field: &Field<'_>) -> Option<Object> {
        let (text, is_pattern) = match field.text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (field.text, false),
        };
        let problem = if text.contains('*') {
            // Casbin's `keyMatch` stops at the first `*` and ignores what follows it.
            Some(("`*` may only be at the end of a resource".to_owned(), None))
        } else if text.contains(['{', '}']) {
            Some((
                "parameters are for the catalogue".to_owned(),
                Some("write `*` at the end".to_owned()),
            ))
        } else {
            own::refuse_character(text).map(|found| {
                let message = format!("a resource has no character `{}`", found.escape_debug());
                (message, look_alike(text))
            })
        };
        if let Some((message, help)) = problem {
            self.findings
                .advise(code::RULE_OBJECT, &field.place, message, help);
            return None;
        }
        let text = self.interner.intern(text);
        Some(if is_pattern {
            Object::Prefix(text)
        } else {
            Object::Exactly(text)
        })
    }

    fn read_action(&mut self, field: &Field<'_>) -> Option<Star> {
        let is_action = field
            .text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if field.text == "*" {
            Some(Star::Any)
        } else if is_action {
            Some(Star::Only(self.interner.intern(field.text)))
        } else {
            let message = format!(
                "the action {} is neither `*` nor made of `A-Za-z0-9_-`",
                quote(field.text)
            );
            let help = look_alike(field.text);
            self.findings
                .advise(code::RULE_ACTION, &field.place, message, help);
            None
        }
    }

    fn read_effect(&mut self, field: &Field<'_>) -> Option<Effect> {
        match field.text {
            "allow" => Some(Effect::Allow),
            "deny" => Some(Effect::Deny),
            other => {
                let message = format!("the effect is `allow` or `deny`, not {}", quote(other));
                let help = did_you_mean(other, ["allow", "deny"]);
                self.findings
                    .advise(code::RULE_EFFECT, &field.place, message, help);
                None
            }
        }
    }

    /// Whether the rule can match anything, and matches only what it names.
    fn check_scope(&mut self, field: &Field<'_>, object: &Object, action: &Star, effect: Effect) -> bool {
        if let Object::Prefix(prefix) = object
            && effect == Effect::Allow
            && own::is_reached_unnamed(prefix)
        {
            let message = format!(
                "{} allows what the authority itself guards, below `tessera/`",
                quote(field.text)
            );
            let help = "name the resources, and give `tessera/…` in rules of its own".to_owned();
            self.findings
                .advise(code::RULE_REACH, &field.place, message, help);
            return false;
        }
        if self.catalogue.matches(object, action) || own::matches(self.catalogue, object, action) {
            return true;
        }
        let written = format!("{}:{}", field.text, action.as_str());
        let message = format!("{} matches no scope of the catalogue", quote(&written));
        let nearest = own::nearest(&written)
            .or_else(|| self.catalogue.nearest_scope(&written))
            .or_else(|| {
                let action = self.catalogue.nearest_action(object, action.as_str())?;
                Some(format!("{}:{action}", field.text))
            });
        let help = nearest.map(|scope| advice(&written, &scope));
        self.findings
            .advise(code::UNKNOWN_SCOPE, &field.place, message, help);
        false
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
