//! The names of a catalogue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tessera_core::{Audience, RealmName, RoleName, Scope, ScopeSet};

use super::template::{Node, Segment, Template};
use crate::{
    nearest::nearest,
    rule::{Object, Star},
};

/// Every name that exists. A name that is not here is an error everywhere.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub(super) realms: Vec<RealmName>,
    pub(super) roles: Vec<RoleName>,
    pub(super) audiences: Vec<Audience>,
    /// Addresses of audiences, as OAuth clients name them (RFC 8707).
    pub(super) resources: BTreeMap<String, Audience>,
    pub(super) templates: Vec<Template>,
    pub(super) concrete: ScopeSet,
    pub(super) tree: Node,
}

impl Catalogue {
    /// The realms in order.
    #[must_use]
    pub fn realms(&self) -> &[RealmName] {
        &self.realms
    }

    /// The roles in order.
    #[must_use]
    pub fn roles(&self) -> &[RoleName] {
        &self.roles
    }

    /// The audiences in order.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// The audience with this address, given as the `resource` of an OAuth client (RFC 8707 §2: an absolute URI, so the
    /// name of an audience is not one).
    #[must_use]
    pub fn audience_of(&self, resource: &str) -> Option<&Audience> {
        self.resources.get(resource)
    }

    /// The address of an audience that `resource` was most likely meant to be: the same but for capitals, the default port
    /// or a slash at the end, or with a few letters that differ.
    #[must_use]
    pub fn nearest_resource(&self, resource: &str) -> Option<&str> {
        let names = || self.resources.keys().map(String::as_str);
        let same = names().find(|name| comparable(name) == comparable(resource));
        same.or_else(|| nearest(resource, names()))
    }

    /// The addresses of audiences in order, with the audience of each.
    pub fn resources(&self) -> impl Iterator<Item = (&str, &Audience)> {
        self.resources
            .iter()
            .map(|(uri, audience)| (uri.as_str(), audience))
    }

    /// The scopes in order as the catalogue writes them, with their parameters: `videos/{id}:play`.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().map(|template| template.text.as_str())
    }

    pub(crate) fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// The scopes without parameters.
    #[must_use]
    pub fn concrete_scopes(&self) -> ScopeSet {
        self.concrete.clone()
    }

    /// Whether the realm exists.
    #[must_use]
    pub fn has_realm(&self, realm: &RealmName) -> bool {
        self.realms.binary_search(realm).is_ok()
    }

    /// Whether the role exists.
    #[must_use]
    pub fn has_role(&self, role: &RoleName) -> bool {
        self.roles.binary_search(role).is_ok()
    }

    pub(crate) fn has_role_text(&self, role: &str) -> bool {
        self.roles
            .binary_search_by(|known| known.as_str().cmp(role))
            .is_ok()
    }

    /// Whether the audience exists.
    #[must_use]
    pub fn has_audience(&self, audience: &Audience) -> bool {
        self.audiences.binary_search(audience).is_ok()
    }

    /// Whether the scope exists. A parameter stands for one path segment.
    #[must_use]
    pub fn has_scope(&self, scope: &Scope) -> bool {
        self.tree.has(Some(scope.resource()), scope.action())
    }

    /// Whether the scope exists, with any parameters.
    pub(crate) fn has_template(&self, template: &Template) -> bool {
        self.templates.iter().any(|known| known.admits(template))
    }

    /// The scope that `text` was most likely meant to be.
    #[must_use]
    pub fn nearest_scope(&self, text: &str) -> Option<String> {
        nearest(text, self.scopes()).map(str::to_owned)
    }

    /// The role that `text` was most likely meant to be.
    #[must_use]
    pub fn nearest_role(&self, text: &str) -> Option<String> {
        nearest(text, self.roles.iter().map(RoleName::as_str)).map(str::to_owned)
    }

    /// The audience that `text` was most likely meant to be.
    #[must_use]
    pub fn nearest_audience(&self, text: &str) -> Option<String> {
        nearest(text, self.audiences.iter().map(Audience::as_str)).map(str::to_owned)
    }

    /// Whether a rule can match any scope.
    pub(crate) fn matches(&self, object: &Object, action: &Star) -> bool {
        let (text, is_prefix) = match object {
            Object::Exactly(resource) => (resource, false),
            Object::Prefix(prefix) => (prefix, true),
        };
        let segments: Vec<&str> = text.split('/').collect();
        self.tree.meets(&segments, is_prefix, action)
    }

    /// The action that `text` was most likely meant to be, among those that a rule about `object` can have.
    pub(crate) fn nearest_action(&self, object: &Object, text: &str) -> Option<String> {
        let actions: BTreeSet<&str> = self
            .templates
            .iter()
            .map(|template| template.action.as_str())
            .collect();
        let matches = |action: &&str| self.matches(object, &Star::Only(Arc::from(*action)));
        nearest(text, actions.into_iter().filter(matches)).map(str::to_owned)
    }

    pub(super) fn add_template(&mut self, template: Template) {
        let mut node = &mut self.tree;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter => node.parameter.get_or_insert_default(),
            };
        }
        node.actions.push(template.action.clone());
        self.templates.push(template);
    }
}

/// A URI without what normalization would change (RFC 3986 §6.2.2 and §6.2.3).
fn comparable(uri: &str) -> String {
    let uri = uri.to_lowercase();
    let uri = uri.trim_end_matches('/');
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.strip_suffix(port).unwrap_or(host);
    format!("{scheme}://{host}{path}")
}
