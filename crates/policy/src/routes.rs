//! What requests to a service need, by host, method and path: for proxies whose configuration can't express it.

use std::fmt;

use tessera_core::{
    Audience, CalledPath, NameError, PathError, PathParameters, PathPattern, RealmName, ScopeSet,
    ScopeTemplate,
};

use crate::diagnostic::Place;

pub(crate) mod case;
pub(crate) mod change;
mod host;
pub(crate) mod read;
mod region;

use host::HostPattern;

/// The routes of a policy, `routes.toml`. Routes of a host are checked first, then those of a wildcard, then those
/// without a host; of each kind the first match decides.
///
/// They are kept in the order in which they are checked.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    place: Place,
    host: HostPattern,
    path: PathPattern,
    /// `None`: every method.
    methods: Option<Vec<String>>,
    needs: Needs,
}

#[derive(Clone, Debug)]
enum Needs {
    Nothing,
    Token {
        /// Empty: any valid token.
        scopes: Vec<ScopeTemplate>,
        audience: Option<Audience>,
        realm: Option<RealmName>,
    },
}

/// A request as a proxy describes it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The host that it was sent to; it may have a port. `None`: the proxy does not send it.
    pub host: Option<&'a str>,
    /// Its method. `None`: the proxy does not send it.
    pub method: Option<&'a str>,
    /// Its path; it may have a query, which is ignored.
    pub target: &'a str,
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it is open to everyone.
    Open,
    /// A valid token.
    Token {
        /// The scopes that it must have, all of them; empty: any valid token.
        scopes: ScopeSet,
        /// The audience that it must be for, if the route names one.
        audience: Option<Audience>,
        /// The realm that it must be of, if the route names one.
        realm: Option<RealmName>,
    },
}

/// Why a request is refused before its token is checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// A service may read the path as a different one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A host that is neither a name nor an address.
    #[error("the host is spelled wrongly")]
    Host,
    /// Methods have capital letters; services may treat others like those.
    #[error("the method is not in capital letters")]
    Method,
    /// A route for one host matches, and the request's host is not known.
    #[error("a route depends on the host, which the proxy does not say")]
    HostUnknown,
    /// A route for some methods matches, and the request's method is not known.
    #[error("a route depends on the method, which the proxy does not say")]
    MethodUnknown,
    /// The path's value of a parameter can't be in a scope, so no token can have it.
    #[error("no scope can have what the path says: {0}")]
    Scope(NameError),
    /// No route matches.
    #[error("no route of `routes.toml` matches")]
    Unlisted,
}

impl Routes {
    /// Routes in the order of their file.
    fn new(mut routes: Vec<Route>) -> Self {
        // The sort is stable: within each kind of host the order of the file remains.
        routes.sort_by_key(|route| route.host.rank());
        Self(routes)
    }

    /// What a request needs, by the first route that matches.
    ///
    /// # Errors
    /// Fails if no route matches, and if it is not known how the service would read the request.
    pub fn access(&self, call: &Call<'_>) -> Result<Access, NoRoute> {
        let path = CalledPath::parse(call.target)?;
        let route = self.deciding(call, &path)?;
        let parameters = route.path.parameters(&path).unwrap_or_default();
        route.needs.access(&parameters).map_err(NoRoute::Scope)
    }

    /// The route that decides a request.
    pub(crate) fn deciding(&self, call: &Call<'_>, path: &CalledPath) -> Result<&Route, NoRoute> {
        let host = call
            .host
            .map(|text| host::host(text).ok_or(NoRoute::Host))
            .transpose()?;
        if call.method.is_some_and(|method| !is_method(method)) {
            return Err(NoRoute::Method);
        }
        for route in &self.0 {
            if route.path.parameters(path).is_none() {
                continue;
            }
            if !route.host.is_any() && !route.host.matches(host.as_ref().ok_or(NoRoute::HostUnknown)?) {
                continue;
            }
            if let Some(methods) = &route.methods {
                let method = call.method.ok_or(NoRoute::MethodUnknown)?;
                if !methods.iter().any(|known| known == method) {
                    continue;
                }
            }
            return Ok(route);
        }
        Err(NoRoute::Unlisted)
    }

    /// The routes in the order in which they are checked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// How many routes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(methods) = &self.methods {
            write!(f, "{} ", methods.join(","))?;
        }
        write!(f, "{}{}", self.host, self.path)
    }
}

impl Needs {
    fn access(&self, parameters: &PathParameters<'_>) -> Result<Access, NameError> {
        Ok(match self {
            Self::Nothing => Access::Open,
            Self::Token {
                scopes,
                audience,
                realm,
            } => Access::Token {
                scopes: scopes
                    .iter()
                    .map(|scope| scope.fill(parameters))
                    .collect::<Result<_, _>>()?,
                audience: audience.clone(),
                realm: realm.clone(),
            },
        })
    }
}

/// Whether a text is a method (RFC 9110 §9.1: case matters, and all registered methods are in capitals).
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

#[cfg(test)]
mod tests;
