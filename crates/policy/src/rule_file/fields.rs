//! The fields of a rule: what each may be, and what it means.

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
    quote::quote,
    rule::{Effect, Interner, Object, Rules, Star},
    subject::{self, Problem},
};

/// The most rules that a policy may have.
pub(crate) const RULES_MAX: usize = 1_000_000;

/// Reads rule files one after the other.
pub(crate) struct Reader<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) model: &'a Model,
    pub(super) findings: &'a mut Findings,
    pub(super) interner: Interner,
    pub(super) rules: Rules,
    /// The first position of each rule, by its fields.
    pub(super) seen: HashMap<String, Place>,
    /// The patterns that were checked, each with the position of its function: rules share them.
    pub(super) patterns: HashSet<(usize, Arc<str>)>,
    /// The most rules.
    pub(super) rules_max: usize,
    /// Whether there are more.
    pub(super) is_over: bool,
}

/// A field of a line, with its position.
pub(super) struct Field<'a> {
    pub(super) text: &'a str,
    pub(super) place: Place,
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

    pub(super) fn is_first(&mut self, key: String, place: &Place) -> bool {
        if let Some(first) = self.seen.get(&key) {
            self.findings
                .add(code::RULE_TWICE, place, format!("the rule is in {first} already"));
            return false;
        }
        self.seen.insert(key, place.clone());
        true
    }

    /// Whether the field is a role of the catalogue or a subject.
    pub(super) fn check_name(&mut self, field: &Field<'_>) -> bool {
        if field.text.starts_with("role:") {
            return self.check_role(field);
        }
        let Err(Problem { code, message, help }) = subject::check(field.text, self.catalogue) else {
            return true;
        };
        self.findings.advise(code, &field.place, message, help);
        false
    }

    pub(super) fn check_role(&mut self, field: &Field<'_>) -> bool {
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

    pub(super) fn check_target(&mut self, field: &Field<'_>) -> bool {
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
    pub(super) fn read_role_realm(&mut self, field: &Field<'_>) -> Option<Star> {
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

    pub(super) fn read_realm(&mut self, field: &Field<'_>) -> Option<Star> {
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

    pub(super) fn read_object(&mut self, field: &Field<'_>) -> Option<Object> {
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

    pub(super) fn read_action(&mut self, field: &Field<'_>) -> Option<Star> {
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

    pub(super) fn read_effect(&mut self, field: &Field<'_>) -> Option<Effect> {
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
    pub(super) fn check_scope(
        &mut self,
        field: &Field<'_>,
        object: &Object,
        action: &Star,
        effect: Effect,
    ) -> bool {
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
