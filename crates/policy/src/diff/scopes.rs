//! Scopes that represent all scopes: of a parameter's values, those that some rule distinguishes.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
};

use tessera_core::{RoleName, Scope};

use crate::{
    catalogue::{self, Catalogue, Segment},
    own,
    permission::Permission,
    policy::Policy,
    rule::{Object, Star},
};

/// A scope of either catalogue, or one of the authority's own; it may have parameters.
pub(super) struct Template {
    scope: catalogue::Template,
    /// Whether only one of the two policies has it.
    pub(super) is_changed: bool,
    /// The role in it, which must exist.
    role: Option<RoleName>,
}

/// The templates of two policies, with a text that represents any value of a parameter.
pub(super) struct Representatives {
    templates: Vec<Template>,
    has_changed: bool,
    /// The templates by the beginning of their resources, before any parameter.
    by_start: BTreeMap<String, Vec<usize>>,
    start_lengths: BTreeSet<usize>,
    /// A text that is in no rule's resource, and that the end of no resource begins: no rule distinguishes it from
    /// another such text.
    fresh: String,
}

impl Representatives {
    pub(super) fn new(old: &Policy, new: &Policy) -> Self {
        let mut templates: BTreeMap<String, Template> = BTreeMap::new();
        for (policy, other) in [(old, new), (new, old)] {
            let others: HashSet<&str> = other.catalogue.scopes().collect();
            let scopes = policy.catalogue.templates().iter();
            let scopes = scopes.map(|scope| Template::of_scope(scope, !others.contains(scope.text.as_str())));
            let roles = policy.catalogue.roles().iter();
            let roles = roles.map(|role| Template::of_role(role, !other.catalogue.has_role(role)));
            let all = scopes.chain(roles).chain(Template::of_authority());
            templates.extend(all.map(|template| (template.scope.text.clone(), template)));
        }
        let templates: Vec<Template> = templates.into_values().collect();
        let mut by_start: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, template) in templates.iter().enumerate() {
            by_start.entry(template.start()).or_default().push(number);
        }
        Self {
            start_lengths: by_start.keys().map(String::len).collect(),
            fresh: fresh([old, new]),
            has_changed: templates.iter().any(|template| template.is_changed),
            templates,
            by_start,
        }
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter()
    }

    pub(super) fn template(&self, number: usize) -> Option<&Template> {
        self.templates.get(number)
    }

    /// Whether one policy has a template that the other lacks.
    pub(super) fn has_changed_templates(&self) -> bool {
        self.has_changed
    }

    /// The templates that a rule can match, by their numbers.
    pub(super) fn met_by<'a>(&'a self, object: &'a Object, action: &'a Star) -> impl Iterator<Item = usize> {
        let (text, is_prefix) = match object {
            Object::Exactly(text) => (text.as_ref(), false),
            Object::Prefix(text) => (text.as_ref(), true),
        };
        let shorter = self.start_lengths.range(..text.len());
        let shorter = shorter.filter_map(|length| self.by_start.get(text.get(..*length)?));
        let others = self
            .by_start
            .range::<str, _>((Bound::Included(text), Bound::Unbounded));
        let others = others
            .take_while(move |(start, _)| {
                if is_prefix {
                    start.starts_with(text)
                } else {
                    *start == text
                }
            })
            .map(|(_, numbers)| numbers);
        let is_met = move |template: &Template| {
            action.admits(template.action()) && template.fill(object, &self.fresh).is_some()
        };
        shorter
            .chain(others)
            .flatten()
            .copied()
            .filter(move |number| self.template(*number).is_some_and(is_met))
    }

    /// The resources of a template that rules about `objects` may distinguish, by their displayed form. A resource that
    /// no object matches is not a difference.
    pub(super) fn of(&self, template: &Template, objects: &[&Object]) -> BTreeMap<String, String> {
        objects
            .iter()
            .filter_map(|object| template.fill(object, &self.fresh))
            .collect()
    }
}

impl Template {
    fn of_scope(scope: &catalogue::Template, is_changed: bool) -> Self {
        Self {
            scope: scope.clone(),
            is_changed,
            role: None,
        }
    }

    fn of_role(role: &RoleName, is_changed: bool) -> Self {
        let scope = Permission::Assert(role.clone()).scope();
        Self {
            scope: catalogue::Template::split(&scope),
            is_changed,
            role: Some(role.clone()),
        }
    }

    /// The authority's own templates without a role in them.
    fn of_authority() -> impl Iterator<Item = Self> {
        let subjects = format!("{}{{subject}}:issue", own::SUBJECTS);
        let fixed = Permission::FIXED.iter().map(Permission::scope);
        fixed.chain([subjects]).map(|text| Self {
            scope: catalogue::Template::split(&text),
            is_changed: false,
            role: None,
        })
    }

    pub(super) fn action(&self) -> &str {
        &self.scope.action
    }

    /// Whether one of its scopes, made by [`Template::fill`], exists.
    pub(super) fn exists(&self, catalogue: &Catalogue, resource: &str) -> bool {
        match &self.role {
            Some(role) => catalogue.has_role(role),
            None if own::is_own(resource) => true,
            None => Scope::parse(&format!("{resource}:{}", self.scope.action))
                .is_ok_and(|scope| catalogue.has_scope(&scope)),
        }
    }

    /// The beginning of its resources, before any parameter.
    fn start(&self) -> String {
        let mut start = String::new();
        for (position, segment) in self.scope.segments.iter().enumerate() {
            if position > 0 {
                start.push('/');
            }
            match segment {
                Segment::Literal(literal) => start.push_str(literal),
                Segment::Parameter => break,
            }
        }
        start
    }

    /// A resource that the object matches, and no longer object does, with its displayed form.
    fn fill(&self, object: &Object, fresh: &str) -> Option<(String, String)> {
        let (text, is_prefix) = match object {
            Object::Exactly(text) => (text, false),
            Object::Prefix(text) => (text, true),
        };
        let mut parts = text.split('/').peekable();
        let (mut resource, mut shown) = (Vec::new(), Vec::new());
        let written = self.scope.text.split('/');
        for (segment, written) in self.scope.segments.iter().zip(written) {
            // The last part of a prefix may be the beginning of a segment.
            let part = parts.next();
            let is_open = is_prefix && parts.peek().is_none();
            let filled = match (segment, part) {
                (Segment::Literal(literal), Some(part)) if is_open => literal.starts_with(part),
                (Segment::Literal(literal), Some(part)) => literal == part,
                (Segment::Parameter, Some(part)) => is_open || !matches!(part, "" | "." | ".."),
                (_, None) => is_prefix,
            };
            if !filled {
                return None;
            }
            match segment {
                Segment::Literal(literal) => {
                    resource.push(literal.clone());
                    shown.push(literal.clone());
                }
                Segment::Parameter if is_open => {
                    let name = written.rsplit_once(':').map_or(written, |(name, _)| name);
                    let start = part.unwrap_or_default();
                    resource.push(format!("{start}{fresh}"));
                    shown.push(format!("{start}{name}"));
                }
                Segment::Parameter => {
                    resource.push(part.unwrap_or_default().to_owned());
                    shown.push(part.unwrap_or_default().to_owned());
                }
            }
        }
        (parts.next().is_none()).then(|| (shown.join("/"), resource.join("/")))
    }
}

/// A text that no rule of either policy distinguishes from another value of a parameter.
fn fresh(policies: [&Policy; 2]) -> String {
    let objects: Vec<Object> = policies.into_iter().flat_map(Policy::objects).collect();
    let ends: HashSet<char> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Prefix(prefix) => prefix.chars().last(),
            Object::Exactly(_) => None,
        })
        .collect();
    let mut candidates = "~_-@".chars().chain('a'..='z').chain('A'..='Z').chain('0'..='9');
    // A prefix that ends in another character can't end inside a run of this one.
    let character = candidates
        .find(|character| !ends.contains(character))
        .unwrap_or('~');
    let mut fresh = String::from(character);
    while objects
        .iter()
        .any(|object| matches!(object, Object::Exactly(text) if text.contains(&fresh)))
    {
        fresh.push(character);
    }
    fresh
}
