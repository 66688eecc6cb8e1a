//! What a route of a proxy needs, as its configuration says it.

use std::sync::Arc;

use tessera_authority::Wanted;
use tessera_core::{Audience, Realm, RealmKind, RealmName, Scope, ScopeSet};

use super::Refusal;
use crate::{convert, edge::Edge};

/// Asks for no scope, only for a good token. It can't be mistaken for a scope, which has a colon.
const ANY: &str = "any";
/// More in one requirement are a mistake.
const SCOPES_MAX: usize = 32;

/// The words of a configuration, before they are looked up.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Scopes with spaces between them, or `any`.
    pub(crate) scope: String,
    pub(crate) audience: Option<String>,
    pub(crate) realm: Option<String>,
}

/// What a token must be good for.
#[derive(Debug)]
pub(crate) struct Requirement {
    realm: Arc<Realm>,
    audience: Audience,
    scopes: ScopeSet,
}

impl Said {
    /// Any good token.
    pub(crate) fn any() -> Self {
        Self {
            scope: ANY.to_owned(),
            ..Self::default()
        }
    }
}

impl Requirement {
    /// Looks the words up.
    pub(crate) fn of(edge: &Edge, said: Said) -> Result<Self, Refusal> {
        Ok(Self {
            scopes: scopes(&said.scope)?,
            audience: audience(edge, said.audience)?,
            realm: realm(edge, said.realm)?,
        })
    }

    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            realm: &self.realm,
            audience: &self.audience,
            scopes: &self.scopes,
        }
    }
}

fn scopes(text: &str) -> Result<ScopeSet, Refusal> {
    if text == ANY {
        return Ok(ScopeSet::default());
    }
    let named = text.split(' ').filter(|name| !name.is_empty());
    let scopes: Result<ScopeSet, _> = named.map(Scope::parse).collect();
    let scopes = scopes.map_err(|error| Refusal::misconfigured("scope", &error))?;
    if scopes.is_empty() || scopes.len() > SCOPES_MAX {
        // Nothing is more likely a variable that was not filled in than a wish for no scope.
        return Err(Refusal::misconfigured(
            "scope",
            &format!("must name 1 to {SCOPES_MAX} scopes, or be `{ANY}`"),
        ));
    }
    Ok(scopes)
}

/// The named audience; else that of the login door; else the only one.
fn audience(edge: &Edge, named: Option<String>) -> Result<Audience, Refusal> {
    let policy = edge.authority.policy();
    let catalogue = policy.catalogue();
    let Some(named) = named else {
        let only = || match catalogue.audiences() {
            [only] => Some(only.clone()),
            _ => None,
        };
        return convert::default_audience(catalogue)
            .or_else(only)
            .ok_or_else(|| Refusal::misconfigured("audience", &"must be named: the catalogue has several"));
    };
    let audience = Audience::parse(&named).map_err(|error| Refusal::misconfigured("audience", &error))?;
    if !catalogue.has_audience(&audience) {
        return Err(Refusal::misconfigured("audience", &"is not in the catalogue"));
    }
    Ok(audience)
}

/// The named realm; else the only one that is for production; else the only one. So a token for trying
/// out passes nowhere unless a route says so.
fn realm(edge: &Edge, named: Option<String>) -> Result<Arc<Realm>, Refusal> {
    let realms = edge.authority.realms();
    if let Some(named) = named {
        let name = RealmName::parse(&named).map_err(|error| Refusal::misconfigured("realm", &error))?;
        let realm = realms.get(&name).cloned();
        return realm.ok_or_else(|| Refusal::misconfigured("realm", &"is not served here"));
    }
    let mut production = realms
        .values()
        .filter(|realm| realm.kind == RealmKind::Production);
    let chosen = match (production.next(), production.next()) {
        (Some(only), None) => Some(only),
        (None, _) if realms.len() == 1 => realms.values().next(),
        _ => None,
    };
    chosen
        .cloned()
        .ok_or_else(|| Refusal::misconfigured("realm", &"must be named: several are served"))
}
