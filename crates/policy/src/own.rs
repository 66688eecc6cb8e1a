//! The authority's own resources, below `tessera/`: built in, never scopes of a token.

use tessera_core::{ClientName, RoleName, Subject};

use crate::{
    catalogue::Catalogue,
    nearest::nearest as nearest_of,
    rule::{Object, Star},
};

/// The name that no catalogue may define.
pub(crate) const NAMESPACE: &str = "tessera";
const PREFIX: &str = "tessera/";
pub(crate) const SUBJECTS: &str = "tessera/subjects/";
pub(crate) const ROLES: &str = "tessera/roles/";
pub(crate) const API_KEYS: &str = "tessera/api-keys/";
/// The actions on the API keys of a named client.
const API_KEY_ACTIONS: [&str; 2] = ["create", "revoke"];

/// The resources without a name in them, with their actions.
pub(crate) const FIXED: [(&str, &[&str]); 10] = [
    ("tessera/tokens", &["introspect"]),
    ("tessera/revocations", &["watch", "require"]),
    ("tessera/subscribers", &["read", "evict"]),
    ("tessera/api-keys", &["create", "read", "revoke"]),
    ("tessera/sessions", &["read", "revoke"]),
    ("tessera/keys", &["read", "rotate", "revoke"]),
    ("tessera/realm", &["revoke"]),
    ("tessera/audit", &["read"]),
    ("tessera/policies", &["read", "apply"]),
    ("tessera/backup", &["create"]),
];

/// The first character that no resource may have.
///
/// A subject may have characters that a scope may not; `tessera/subjects/<subject>` is a resource too.
pub(crate) fn refuse_character(resource: &str) -> Option<char> {
    if let Some(subject) = resource.strip_prefix(SUBJECTS) {
        return subject.chars().find(|&c| !Subject::allows(c));
    }
    resource
        .chars()
        .find(|&c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '~' | ':' | '@' | '/' | '-'))
}

/// Whether `resource` is one of the authority's own, or has the form of one.
pub(crate) fn is_own(resource: &str) -> bool {
    resource == NAMESPACE || resource.starts_with(PREFIX)
}

/// Whether a pattern of this prefix matches the authority's own resources without naming them.
pub(crate) fn is_reached_unnamed(prefix: &str) -> bool {
    prefix.len() < PREFIX.len() && PREFIX.starts_with(prefix)
}

/// Whether a rule can match one of the authority's own resources.
pub(crate) fn matches(catalogue: &Catalogue, object: &Object, action: &Star) -> bool {
    let is_fixed = FIXED.iter().any(|(resource, actions)| {
        object.admits(resource) && actions.iter().any(|known| action.admits(known))
    });
    is_fixed
        || (action.admits("issue") && covers_subject(object))
        || (API_KEY_ACTIONS.iter().any(|known| action.admits(known)) && covers_client(object))
        || (action.admits("assert") && catalogue.roles().iter().any(|role| covers_role(object, role)))
}

/// The nearest of the authority's own scopes, if `scope` is meant to be one.
pub(crate) fn nearest(scope: &str) -> Option<String> {
    let (start, _) = scope.split_once('/')?;
    nearest_of(start, [NAMESPACE])?;
    let scopes: Vec<String> = FIXED
        .iter()
        .flat_map(|(resource, actions)| actions.iter().map(move |action| format!("{resource}:{action}")))
        .chain([format!("{SUBJECTS}*:issue"), format!("{ROLES}*:assert")])
        .chain(
            API_KEY_ACTIONS
                .iter()
                .map(|action| format!("{API_KEYS}*:{action}")),
        )
        .collect();
    nearest_of(scope, scopes.iter().map(String::as_str)).map(str::to_owned)
}

fn covers_subject(object: &Object) -> bool {
    match object {
        Object::Exactly(exact) => exact
            .strip_prefix(SUBJECTS)
            .is_some_and(|name| Subject::parse(name).is_ok()),
        Object::Prefix(prefix) => match prefix.strip_prefix(SUBJECTS) {
            // The beginning of some subject: no subject begins with `role:`.
            Some(start) => Subject::parse(&format!("{start}x")).is_ok(),
            None => SUBJECTS.starts_with(prefix.as_ref()),
        },
    }
}

fn covers_client(object: &Object) -> bool {
    match object {
        Object::Exactly(exact) => exact
            .strip_prefix(API_KEYS)
            .is_some_and(|name| ClientName::parse(name).is_ok()),
        Object::Prefix(prefix) => match prefix.strip_prefix(API_KEYS) {
            Some(start) => "client:".starts_with(start) || ClientName::parse(start).is_ok(),
            None => API_KEYS.starts_with(prefix.as_ref()),
        },
    }
}

fn covers_role(object: &Object, role: &RoleName) -> bool {
    object.admits(&format!("{ROLES}{role}"))
}
