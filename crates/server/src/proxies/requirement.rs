//! The requirement of a request: from the proxy's configuration, otherwise from the policy's routes.

use std::sync::Arc;

use tessera_authority::RequiredAccess;
use tessera_core::{Audience, Realm, RealmKind, RealmName, Scope, ScopeSet};
use tessera_policy::{Access, Call, Catalogue, NoRoute, Routes};

use super::refusal::Refusal;
use crate::edge::Edge;

/// Requires no scope, only a valid token. It can't be mistaken for a scope, which has a colon.
const ANY: &str = "any";
/// The audience if the configuration names none.
const AUDIENCE: &str = "api";
/// More scopes in one requirement are a mistake.
const SCOPES_MAX: usize = 32;

/// The question of a proxy.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) stated: Stated,
    /// The request, if the proxy describes it. It is used only if `stated` has no scope.
    pub(crate) call: Result<Option<Call<'a>>, Refusal>,
    pub(crate) unsaid: Unstated,
}

/// The text of a proxy's configuration, before it is looked up.
#[derive(Debug, Default)]
pub(crate) struct Stated {
    /// Scopes separated by spaces, or `any`.
    pub(crate) scope: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) realm: Option<String>,
}

/// The requirement of a request if the configuration names no scope, and the policy has no routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unstated {
    /// A valid token.
    AnyToken,
    /// It is refused: an administrator who forgets the scope closes the route, and does not open it.
    Closed,
}

/// The requirement of a request.
#[derive(Debug)]
pub(crate) enum Need {
    /// None: it is open to everyone.
    Nothing,
    /// A token.
    Token(Requirement),
}

/// The conditions that a token must meet.
#[derive(Debug)]
pub(crate) struct Requirement {
    realm: Arc<Realm>,
    audience: Audience,
    scopes: ScopeSet,
}

impl Need {
    /// Looks up the text, and the request if the text has no scope.
    pub(crate) fn of(edge: &Edge, question: Question<'_>) -> Result<Self, Refusal> {
        let Question { stated, call, unsaid } = question;
        let Stated {
            scope,
            mut audience,
            mut realm,
        } = stated;
        let policy = edge.authority.policy();
        let scopes = match (scope, policy.routes()) {
            (Some(text), _) => scopes(&text)?,
            (None, Some(routes)) => match by_route(routes, call?)? {
                Access::Open => return Ok(Self::Nothing),
                Access::Token {
                    scopes,
                    audience: of_route,
                    realm: realm_of_route,
                } => {
                    audience = audience.or(of_route.map(String::from));
                    realm = realm.or(realm_of_route.map(String::from));
                    scopes
                }
            },
            (None, None) if unsaid == Unstated::AnyToken => ScopeSet::default(),
            (None, None) => {
                let route = call?.map_or_else(String::new, |call| shown(&call));
                return Err(Refusal::Unlisted { route });
            }
        };
        Ok(Self::Token(Requirement {
            scopes,
            audience: self::audience(edge, audience)?,
            realm: self::realm(edge, realm)?,
        }))
    }
}

fn by_route(routes: &Routes, call: Option<Call<'_>>) -> Result<Access, Refusal> {
    let Some(call) = call else {
        let problem = "is not stated: send `X-Forwarded-Uri` or `X-Original-URI`, or a scope in the query";
        return Err(Refusal::misconfigured("path", &problem));
    };
    routes.access(&call).map_err(|problem| match problem {
        NoRoute::Unlisted => Refusal::Unlisted { route: shown(&call) },
        NoRoute::MethodUnknown => Refusal::misconfigured("method", &problem),
        NoRoute::HostUnknown => Refusal::misconfigured("host", &problem),
        NoRoute::Path(_) | NoRoute::Host | NoRoute::Method | NoRoute::Scope(_) => Refusal::Unclear {
            route: shown(&call),
            why: problem.to_string(),
        },
    })
}

/// A request, for the log: without its query, which may hold a secret.
fn shown(call: &Call<'_>) -> String {
    let path = call.target.split('?').next().unwrap_or_default();
    let (method, host) = (call.method.unwrap_or_default(), call.host.unwrap_or_default());
    format!("{method} {host}{path}")
}

impl Requirement {
    pub(crate) fn wanted(&self) -> RequiredAccess<'_> {
        RequiredAccess {
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
        // An empty value is more likely a variable that was not filled in than the intention to require no scope.
        return Err(Refusal::misconfigured(
            "scope",
            &format!("must name 1 to {SCOPES_MAX} scopes, or be `{ANY}`"),
        ));
    }
    Ok(scopes)
}

/// The audience at endpoints whose callers can't name it, or need not: `api`, if the catalogue has it.
pub(crate) fn default_audience(catalogue: &Catalogue) -> Option<Audience> {
    let api = Audience::parse(AUDIENCE).ok()?;
    catalogue.has_audience(&api).then_some(api)
}

/// The named audience; otherwise that of the login endpoint; otherwise the only one.
fn audience(edge: &Edge, named: Option<String>) -> Result<Audience, Refusal> {
    let policy = edge.authority.policy();
    let catalogue = policy.catalogue();
    let Some(named) = named else {
        let only = || match catalogue.audiences() {
            [only] => Some(only.clone()),
            _ => None,
        };
        return default_audience(catalogue)
            .or_else(only)
            .ok_or_else(|| Refusal::misconfigured("audience", &"must be named: the catalogue has several"));
    };
    let audience = Audience::parse(&named).map_err(|error| Refusal::misconfigured("audience", &error))?;
    if !catalogue.has_audience(&audience) {
        return Err(Refusal::misconfigured("audience", &"is not in the catalogue"));
    }
    Ok(audience)
}

/// The named realm; otherwise the only production realm; otherwise the only one. So if other
/// realms are served, a sandbox token passes only on routes that name its realm.
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
