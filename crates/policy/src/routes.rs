//! What requests to a service need, by host, method and path: for proxies whose configuration can't say it.

use tessera_core::{
    Audience, CalledPath, NameError, PathError, PathParameters, PathPattern, RealmName, ScopeSet,
    ScopeTemplate,
};

use crate::diagnostic::Place;

pub(crate) mod read;

/// The routes of a policy, `routes.toml`. The first one that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

/// One `[[route]]`.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    place: Place,
    /// In lower case. None: every host.
    host: Option<String>,
    path: PathPattern,
    /// None: every method.
    methods: Option<Vec<String>>,
    needs: Needs,
}

#[derive(Clone, Debug)]
enum Needs {
    Nothing,
    Token {
        /// None: any good token.
        scopes: Vec<ScopeTemplate>,
        audience: Option<Audience>,
        realm: Option<RealmName>,
    },
}

/// A request as a proxy describes it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The host that it was sent to, perhaps with a port. None: the proxy does not say.
    pub host: Option<&'a str>,
    /// Its method. None: the proxy does not say.
    pub method: Option<&'a str>,
    /// Its path, perhaps with a query, which is not looked at.
    pub target: &'a str,
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it is open to everybody.
    Open,
    /// A good token.
    Token {
        /// The scopes that it must have, each of them; none: it need only be good.
        scopes: ScopeSet,
        /// The audience that it must be for, where the route says one.
        audience: Option<Audience>,
        /// The realm that it must be of, where the route says one.
        realm: Option<RealmName>,
    },
}

/// Why a request is refused before its token is looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// A service may read the path as another one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A host that is no name and no address.
    #[error("the host is spelled wrongly")]
    Host,
    /// Methods have capital letters; services may read others as those.
    #[error("the method is not in capital letters")]
    Method,
    /// A route for one host matches, and it is not known whether it is this one.
    #[error("a route depends on the host, which the proxy does not say")]
    HostUnknown,
    /// A route for some methods matches, and it is not known whether this is one of them.
    #[error("a route depends on the method, which the proxy does not say")]
    MethodUnknown,
    /// What the path has for a parameter can't be in a scope, so no token can have it.
    #[error("no scope can have what the path says: {0}")]
    Scope(NameError),
    /// No route matches.
    #[error("no route of `routes.toml` matches")]
    Unlisted,
}

impl Routes {
    /// What a request needs, by the first route that matches.
    ///
    /// # Errors
    /// Fails where none matches, and where it can't be told what the service would read.
    pub fn access(&self, call: &Call<'_>) -> Result<Access, NoRoute> {
        let path = CalledPath::parse(call.target)?;
        let host = call.host.map(host).transpose()?;
        if call.method.is_some_and(|method| !is_method(method)) {
            return Err(NoRoute::Method);
        }
        for route in &self.0 {
            let Some(parameters) = route.path.parameters(&path) else {
                continue;
            };
            if let Some(wanted) = &route.host
                && *wanted != *host.as_ref().ok_or(NoRoute::HostUnknown)?
            {
                continue;
            }
            if let Some(methods) = &route.methods {
                let method = call.method.ok_or(NoRoute::MethodUnknown)?;
                if !methods.iter().any(|known| known == method) {
                    continue;
                }
            }
            return route.needs.access(&parameters).map_err(NoRoute::Scope);
        }
        Err(NoRoute::Unlisted)
    }

    /// How many routes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Route {
    /// Whether every request that `other` matches is matched by this route.
    fn covers(&self, other: &Self) -> bool {
        let has_methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|method| own.contains(method)),
        };
        let has_host = self.host.is_none() || self.host == other.host;
        has_methods && has_host && self.path.covers(&other.path)
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

/// A method as it is compared (RFC 9110 §9.1: case matters, and all that are registered are in capitals).
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// A host as it is compared: in lower case, without its port and without a dot at its end.
fn host(text: &str) -> Result<String, NoRoute> {
    let (name, port) = match text.rsplit_once(':') {
        // The colons of an address (RFC 3986 §3.2.2).
        Some((_, after)) if after.ends_with(']') => (text, ""),
        Some((name, port)) => (name, port),
        None => (text, ""),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && is_host(&name)).then_some(name).ok_or(NoRoute::Host)
}

/// Whether a text is a name or an address, in lower case.
fn is_host(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => is_address(address),
        None => {
            !text.is_empty()
                && text.len() <= 253
                && text.chars().all(is_name)
                && text.split('.').all(|label| !label.is_empty())
        }
    }
}

#[cfg(test)]
mod tests;
