//! A request, and what it needs.

use tessera_core::{Audience, NameError, PathError, RealmName, ScopeSet};

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
