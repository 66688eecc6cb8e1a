//! Parsed rules: typed enough to compile, and with the position of each, for reasons.

use std::{collections::HashSet, fmt, sync::Arc};

use crate::diagnostic::Place;

/// The realms of the catalogue, which `*` represents.
pub(crate) type Realms = [tessera_core::RealmName];

/// The rules of one revision in the order of files and lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) policies: Vec<PolicyRule>,
    pub(crate) edges: Vec<RoleEdge>,
    /// The `p` rules of another model; then `policies` is empty.
    pub(crate) rows: Vec<Row>,
}

/// A `p` rule with the fields of another model.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) place: Place,
    pub(crate) fields: Vec<Arc<str>>,
}

/// A rule as written in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// The file, relative to the policy's directory.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The rule with one space after each comma: `p, role:reader, sandbox, invoices, read, allow`.
    pub text: String,
}

impl RuleAt {
    pub(crate) fn new(place: &Place, text: String) -> Self {
        Self {
            file: place.file.as_ref().to_owned(),
            line: place.line,
            text,
        }
    }
}

impl fmt::Display for RuleAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text } = self;
        write!(f, "{file}:{line}  {text}")
    }
}

/// `p, holder, realm, object, action, eft`.
#[derive(Clone, Debug)]
pub(crate) struct PolicyRule {
    pub(crate) place: Place,
    pub(crate) holder: Arc<str>,
    pub(crate) realm: Star,
    pub(crate) object: Object,
    pub(crate) action: Star,
    pub(crate) effect: Effect,
}

/// `g, member, role, realm`.
#[derive(Clone, Debug)]
pub(crate) struct RoleEdge {
    pub(crate) place: Place,
    pub(crate) member: Arc<str>,
    pub(crate) role: Arc<str>,
    pub(crate) realm: Star,
    /// Whether the realm is written; a model may have none, and then the rule holds in all realms.
    pub(crate) has_realm: bool,
}

/// A name, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Star {
    Any,
    Only(Arc<str>),
}

impl Star {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Only(name) => name,
        }
    }

    /// Whether it includes `name`.
    pub(crate) fn admits(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only.as_ref() == name,
        }
    }
}

/// A resource, or all resources that begin with a text: what Casbin's `keyMatch` does with a `*` at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Object {
    Exactly(Arc<str>),
    Prefix(Arc<str>),
}

impl Object {
    /// Whether it includes `resource`.
    pub(crate) fn admits(&self, resource: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact.as_ref() == resource,
            Self::Prefix(prefix) => resource.starts_with(prefix.as_ref()),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Exactly(resource) => resource.as_ref().to_owned(),
            Self::Prefix(prefix) => format!("{prefix}*"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

impl Effect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl PolicyRule {
    /// The rule as it is written in a file.
    pub(crate) fn to_line(&self) -> String {
        let (realm, object, action) = (self.realm.as_str(), self.object.to_text(), self.action.as_str());
        format!(
            "p, {}, {realm}, {object}, {action}, {}",
            self.holder,
            self.effect.as_str()
        )
    }

    pub(crate) fn at(&self) -> RuleAt {
        RuleAt::new(&self.place, self.to_line())
    }
}

impl Row {
    /// The rule as it is written in a file.
    pub(crate) fn to_line(&self) -> String {
        format!("p, {}", self.fields.join(", "))
    }

    pub(crate) fn at(&self) -> RuleAt {
        RuleAt::new(&self.place, self.to_line())
    }
}

impl RoleEdge {
    /// The rule as it is written in a file; `*` is not expanded.
    pub(crate) fn to_line(&self) -> String {
        let realm = if self.has_realm {
            format!(", {}", self.realm.as_str())
        } else {
            String::new()
        };
        format!("g, {}, {}{realm}", self.member, self.role)
    }

    pub(crate) fn at(&self) -> RuleAt {
        RuleAt::new(&self.place, self.to_line())
    }

    /// The realms in which the edge holds.
    pub(crate) fn realms<'a>(&'a self, realms: &'a Realms) -> impl Iterator<Item = &'a str> {
        realms
            .iter()
            .map(tessera_core::RealmName::as_str)
            .filter(|realm| self.realm.admits(realm))
    }
}

impl Rules {
    /// The `p` rule of a number.
    pub(crate) fn policy(&self, number: u32) -> Option<&PolicyRule> {
        self.policies.get(usize::try_from(number).ok()?)
    }

    /// How many rules there are, `p` and `g` together.
    pub(crate) fn count(&self) -> usize {
        self.policies.len() + self.rows.len() + self.edges.len()
    }

    /// The `p` rule with a number as written in its file, with any model.
    pub(crate) fn at(&self, number: u32) -> Option<RuleAt> {
        let row = || self.rows.get(usize::try_from(number).ok()?).map(Row::at);
        self.policy(number).map(PolicyRule::at).or_else(row)
    }

    /// The position of the `p` rule with a number, with any model.
    pub(crate) fn place(&self, number: u32) -> Option<&Place> {
        let row = || self.rows.get(usize::try_from(number).ok()?).map(|row| &row.place);
        self.policy(number).map(|rule| &rule.place).or_else(row)
    }

    /// The `p` rules in Casbin's form.
    pub(crate) fn casbin_policies(&self) -> Vec<Vec<String>> {
        let row = |rule: &PolicyRule| {
            let object = rule.object.to_text();
            [
                &rule.holder,
                rule.realm.as_str(),
                &object,
                rule.action.as_str(),
                rule.effect.as_str(),
            ]
            .map(str::to_owned)
            .to_vec()
        };
        self.policies.iter().map(row).collect()
    }

    /// The `g` rules in Casbin's form, with `*` expanded to each realm.
    pub(crate) fn casbin_roles(&self, realms: &Realms) -> Vec<Vec<String>> {
        self.edges
            .iter()
            .flat_map(|edge| {
                edge.realms(realms)
                    .map(|realm| [&*edge.member, &*edge.role, realm].map(str::to_owned).to_vec())
            })
            .collect()
    }
}

/// Keeps one copy of each text: a million rules have few distinct names.
#[derive(Debug, Default)]
pub(crate) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&new));
        new
    }
}
