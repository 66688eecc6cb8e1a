//! Names that exist only before or only after.

use std::fmt;

use tessera_core::{Audience, RealmName, RoleName};

use crate::catalogue::Catalogue;

/// A name that exists only before or only after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogueChange {
    /// The table of the name.
    pub kind: CatalogueKind,
    /// The name as the catalogue has it.
    pub name: String,
    /// Whether it exists after, and not before.
    pub is_added: bool,
}

/// The tables of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CatalogueKind {
    /// `[realms]`.
    Realm,
    /// `[roles]`.
    Role,
    /// `[scopes]`.
    Scope,
    /// `[audiences]`.
    Audience,
    /// `[resources]`, with the audience.
    Resource,
}

impl fmt::Display for CatalogueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Realm => "realm",
            Self::Role => "role",
            Self::Scope => "scope",
            Self::Audience => "audience",
            Self::Resource => "resource",
        })
    }
}

/// The names of one catalogue that the other lacks.
pub(super) fn compare(old: &Catalogue, new: &Catalogue) -> Vec<CatalogueChange> {
    let (before, after) = (names(old), names(new));
    let change = |(kind, name): &(CatalogueKind, String), is_added| CatalogueChange {
        kind: *kind,
        name: name.clone(),
        is_added,
    };
    let removed = before.iter().filter(|name| after.binary_search(name).is_err());
    let added = after.iter().filter(|name| before.binary_search(name).is_err());
    let mut changes: Vec<CatalogueChange> = removed
        .map(|name| change(name, false))
        .chain(added.map(|name| change(name, true)))
        .collect();
    changes.sort();
    changes
}

fn names(catalogue: &Catalogue) -> Vec<(CatalogueKind, String)> {
    let realms = catalogue.realms().iter().map(RealmName::as_str);
    let roles = catalogue.roles().iter().map(RoleName::as_str);
    let audiences = catalogue.audiences().iter().map(Audience::as_str);
    let mut names: Vec<(CatalogueKind, String)> = realms
        .map(|name| (CatalogueKind::Realm, name))
        .chain(roles.map(|name| (CatalogueKind::Role, name)))
        .chain(catalogue.scopes().map(|name| (CatalogueKind::Scope, name)))
        .chain(audiences.map(|name| (CatalogueKind::Audience, name)))
        .map(|(kind, name)| (kind, name.to_owned()))
        .collect();
    let resources = catalogue.resources();
    names.extend(resources.map(|(uri, audience)| (CatalogueKind::Resource, format!("{uri} = {audience}"))));
    names.sort();
    names
}
