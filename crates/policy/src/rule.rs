//! Rules as parsed: typed enough to compile, and with the place of each, for reasons.

use std::{collections::HashSet, sync::Arc};

use crate::diagnostic::Place;

pub(crate) mod read;

/// The realms of the catalogue, which `*` stands for.
pub(crate) type Realms = [tessera_core::RealmName];

/// The rules of one revision in the order of files and lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) policies: Vec<PolicyRule>,
    pub(crate) edges: Vec<RoleEdge>,
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

    /// Whether `name` is meant.
    pub(crate) fn admits(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only.as_ref() == name,
        }
    }
}

/// A resource, or all that begin with a text: what Casbin's `keyMatch` makes of a `*` at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Exactly(Arc<str>),
    Prefix(Arc<str>),
}

impl Object {
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Exactly(resource) => resource.as_ref().to_owned(),
            Self::Prefix(prefix) => format!("{prefix}*"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl RoleEdge {
    /// The realms in which the edge holds.
    pub(crate) fn realms<'a>(&'a self, realms: &'a Realms) -> impl Iterator<Item = &'a str> {
        realms
            .iter()
            .map(tessera_core::RealmName::as_str)
            .filter(|realm| self.realm.admits(realm))
    }
}

impl Rules {
    /// The `p` rules as Casbin takes them.
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

    /// The `g` rules as Casbin takes them, `*` written out for each realm.
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
