//! The compiled rules: the cost of a decision does not depend on the number of rules.
//!
//! INVARIANT: for every question the index finds an `allow` if and only if Casbin does, and a `deny` if and only if
//! Casbin does. A property test verifies it, and each load compares a sample.

use std::{ops::Range, sync::Arc};

use foldhash::HashMap;

use crate::{
    oracle::RawQuestion,
    roles::RoleGraph,
    rule::{Effect, Object, Realms, Rules, Star},
    work::Work,
};

/// The number of a text: names, realms, resources and actions share one space of numbers.
type Id = u32;
/// `*` as realm or action.
const ANY: Id = 0;

/// The compiled rules of one revision.
#[derive(Debug, Default)]
pub(crate) struct Index {
    ids: HashMap<Arc<str>, Id>,
    texts: Vec<Arc<str>>,
    prefixes: HashMap<Arc<str>, Id>,
    /// The lengths of prefixes, ascending: a question is cut at each of them.
    prefix_lengths: Vec<usize>,
    /// By realm and name: the name and all roles that it has. Names without roles are not here.
    closures: HashMap<(Id, Id), Box<[Id]>>,
    /// By holder and resource, the range of their entries.
    spans: HashMap<(Id, Id), Range<u32>>,
    entries: Vec<Entry>,
}

/// A rule, stored beside those of the same holder and resource: ordered by realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    realm: Id,
    action: Id,
    number: u32,
    effect: Effect,
}

/// The rules that decide a question, by their number: the first that allows and the first that denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allow: Option<u32>,
    pub(crate) deny: Option<u32>,
    /// The rule at which Casbin failed, if it answers itself. Then the other fields are empty, and nothing is allowed.
    pub(crate) failed: Option<u32>,
}

impl Decision {
    /// No rule matches.
    pub(crate) const NOTHING: Self = Self {
        allow: None,
        deny: None,
        failed: None,
    };

    /// The rule that decides, if one matches.
    pub(crate) fn rule(self) -> Option<u32> {
        self.deny.or(self.allow)
    }

    /// One rule that allows is enough, and one that denies takes precedence.
    pub(crate) fn is_allowed(self) -> bool {
        self.allow.is_some() && self.deny.is_none()
    }
}

/// A subject with its asserted roles, resolved in one realm.
pub(crate) struct Holders {
    realm: Option<Id>,
    names: Vec<Id>,
}

impl Index {
    /// Compiles rules.
    #[cfg(test)]
    pub(crate) fn new(rules: &Rules, realms: &Realms) -> Self {
        Self::within(rules, realms, &Work::unbounded())
    }

    /// Compiles the rules. If the work is stopped, some are missing.
    pub(crate) fn within(rules: &Rules, realms: &Realms, work: &Work) -> Self {
        let mut index = Self::default();
        index.id("*");
        index.add_policies(rules, work);
        for realm in realms {
            if work.is_over() {
                break;
            }
            let graph = RoleGraph::new(&rules.edges, realm.as_str());
            let realm = index.id(realm.as_str());
            for (name, closure) in graph.closures() {
                let name = index.id(name);
                let closure = closure.iter().map(|role| index.id(role)).collect();
                index.closures.insert((realm, name), closure);
            }
        }
        index.prefix_lengths = index.prefixes.keys().map(|prefix| prefix.len()).collect();
        index.prefix_lengths.sort_unstable();
        index.prefix_lengths.dedup();
        index
    }

    /// Resolves a subject and roles that count as if the subject had them.
    pub(crate) fn holders<'a>(&self, realm: &str, names: impl Iterator<Item = &'a str>) -> Holders {
        let realm = self.ids.get(realm).copied();
        let mut resolved = Vec::new();
        for name in names.filter_map(|name| self.ids.get(name)) {
            match realm.and_then(|realm| self.closures.get(&(realm, *name))) {
                Some(closure) => resolved.extend_from_slice(closure),
                None => resolved.push(*name),
            }
        }
        resolved.sort_unstable();
        resolved.dedup();
        Holders {
            realm,
            names: resolved,
        }
    }

    /// The rules that decide whether `holders` may do `action` on `resource`.
    pub(crate) fn decide(&self, holders: &Holders, resource: &str, action: &str) -> Decision {
        let mut found = Decision::NOTHING;
        self.visit(holders, resource, action, |entry| {
            let slot = match entry.effect {
                Effect::Allow => &mut found.allow,
                Effect::Deny => &mut found.deny,
            };
            *slot = Some(slot.map_or(entry.number, |number| number.min(entry.number)));
        });
        found
    }

    /// Every rule that matches, in no order.
    pub(crate) fn matching(&self, question: &RawQuestion<'_>) -> Vec<u32> {
        let holders = self.holders(question.realm, question.names.iter().copied());
        let mut found = Vec::new();
        self.visit(&holders, question.resource, question.action, |entry| {
            found.push(entry.number);
        });
        found
    }

    fn visit(&self, holders: &Holders, resource: &str, action: &str, mut found: impl FnMut(&Entry)) {
        let action = self.ids.get(action).copied().unwrap_or(ANY);
        let realms = [Some(ANY), holders.realm];
        for object in self.objects(resource) {
            for &holder in &holders.names {
                let Some(entries) = self.entries_of(holder, object) else {
                    continue;
                };
                for realm in realms.into_iter().flatten() {
                    let start = entries.partition_point(|entry| entry.realm < realm);
                    entries
                        .get(start..)
                        .unwrap_or_default()
                        .iter()
                        .take_while(|entry| entry.realm == realm)
                        .filter(|entry| entry.action == ANY || entry.action == action)
                        .for_each(&mut found);
                }
            }
        }
    }

    fn entries_of(&self, holder: Id, object: Id) -> Option<&[Entry]> {
        let span = self.spans.get(&(holder, object))?;
        let (start, end) = (usize::try_from(span.start).ok()?, usize::try_from(span.end).ok()?);
        self.entries.get(start..end)
    }

    /// The names of resolved holders.
    pub(crate) fn names<'a>(&'a self, holders: &'a Holders) -> impl Iterator<Item = &'a str> {
        holders
            .names
            .iter()
            .filter_map(|id| self.texts.get(usize::try_from(*id).ok()?))
            .map(AsRef::as_ref)
    }

    /// Whether a name has a role, itself included.
    pub(crate) fn has_role(&self, realm: &str, name: &str, role: &str) -> bool {
        let holders = self.holders(realm, std::iter::once(name));
        name == role || self.names(&holders).any(|had| had == role)
    }

    /// The rules that decide a question as Casbin sees it.
    pub(crate) fn answer(&self, question: &RawQuestion<'_>) -> Decision {
        let holders = self.holders(question.realm, question.names.iter().copied());
        self.decide(&holders, question.resource, question.action)
    }

    /// The objects of rules that match `resource`: the resource itself, and every prefix of it.
    fn objects<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = Id> {
        let prefixes = self
            .prefix_lengths
            .iter()
            .map_while(|length| resource.get(..*length))
            .filter_map(|prefix| self.prefixes.get(prefix));
        self.ids.get(resource).into_iter().chain(prefixes).copied()
    }

    fn add_policies(&mut self, rules: &Rules, work: &Work) {
        let mut all: Vec<((Id, Id), Entry)> = Vec::with_capacity(rules.policies.len());
        for (number, rule) in (0u32..).zip(&rules.policies) {
            if work.is_over() {
                return;
            }
            let entry = Entry {
                realm: self.star(&rule.realm),
                action: self.star(&rule.action),
                number,
                effect: rule.effect,
            };
            all.push(((self.id(&rule.holder), self.object(&rule.object)), entry));
        }
        all.sort_unstable();
        for ((key, entry), position) in all.into_iter().zip(0u32..) {
            self.spans.entry(key).or_insert(position..position).end = position + 1;
            self.entries.push(entry);
        }
    }

    fn star(&mut self, star: &Star) -> Id {
        match star {
            Star::Any => ANY,
            Star::Only(name) => self.id(name),
        }
    }

    fn object(&mut self, object: &Object) -> Id {
        match object {
            Object::Exactly(resource) => self.id(resource),
            Object::Prefix(prefix) => {
                if let Some(id) = self.prefixes.get(prefix) {
                    return *id;
                }
                let id = self.add(Arc::from(format!("{prefix}*")));
                self.prefixes.insert(Arc::clone(prefix), id);
                id
            }
        }
    }

    fn id(&mut self, text: &str) -> Id {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let text: Arc<str> = Arc::from(text);
        let id = self.add(Arc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    fn add(&mut self, text: Arc<str>) -> Id {
        // There are at most a few million texts: the number of rules is limited.
        let id = Id::try_from(self.texts.len()).unwrap_or(Id::MAX);
        self.texts.push(text);
        id
    }
}

#[cfg(test)]
pub(crate) mod tests;
